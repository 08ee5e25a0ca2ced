"""The regions that `mixing` pastes: boxes, some of the classes, connected components.

Pure functions of arrays of fixed shapes, on the device. Random numbers from U(0, 1) are arguments:
`mixing` draws them all at once, because each call of the random generator takes time to compile.
"""

import jax
import jax.numpy as jnp
from jax import lax


def boxes(area: jax.Array, centre: jax.Array, size: tuple[int, int]) -> jax.Array:
    """The pixels whose centres lie in a box; what lies outside the image is lost.

    Args:
      area: [N], the box's share of the image, 0..1; its sides are root(area) of the image's.
      centre: [N,2], (down, right) in shares of height and width, 0..1.
      size: (H, W).

    Returns:
      bool [N,H,W].
    """
    inside = []
    for axis, length in enumerate(size):
        pixels = (jnp.arange(length) + 0.5) / length
        side = jnp.sqrt(area)[:, None]
        start = centre[:, axis, None] - side / 2
        inside.append((pixels >= start) & (pixels < start + side))
    return inside[0][:, :, None] & inside[1][:, None, :]


def some_classes(
    chance: jax.Array, labels: jax.Array, share: float = 0.5, present: jax.Array | None = None
) -> jax.Array:
    """The pixels of a random choice of the classes present in each image.

    Args:
      chance: [N,K] from U(0, 1): the classes with the lowest are chosen.
      labels: [N,H,W]; ids from K on, such as 255, are no class.
      share: of the classes present, rounded upwards: 0.5 chooses 2 of 3 and 1 of 1.
      present: bool [N,K], the classes to choose from; those of each image unless given.

    Returns:
      bool [N,H,W].
    """
    num_classes = chance.shape[1]
    present = classes_present(labels, num_classes) if present is None else present
    rank = jnp.argsort(jnp.argsort(jnp.where(present, chance, 2.0), -1), -1)
    chosen = present & (rank < jnp.ceil(share * present.sum(-1, keepdims=True)))
    chosen = jnp.pad(chosen, ((0, 0), (0, 1)))  # the last place stands for all that is no class
    index = jnp.minimum(labels.astype(jnp.int32), num_classes)
    return jax.vmap(lambda of_class, ids: of_class[ids])(chosen, index)


def classes_present(labels: jax.Array, num_classes: int) -> jax.Array:
    """Which of `num_classes` each of labels [N,H,W] shows, bool [N,K]."""
    return (labels[..., None] == jnp.arange(num_classes)).any((1, 2))


def some_components(chance: jax.Array, label: jax.Array, classes: jax.Array) -> jax.Array:
    """One component of each class that is present, that of a random pixel of the class.

    Args:
      chance: [K] from U(0, 1), selects the pixels.
      label: [H,W].
      classes: ids [K], each once.

    Returns:
      bool [H,W].
    """
    masks = label == classes[:, None, None]
    row, column = jax.vmap(random_pixel)(chance, masks).T
    seeds = jnp.zeros(label.shape, bool).at[row, column].max(masks.any((1, 2)))
    return components(label, seeds)


def components(label: jax.Array, seeds: jax.Array) -> jax.Array:
    """The 4-connected components of equal labels that hold a seed.

    The seeds spread over whole runs of equal labels, along rows and columns in turn, until nothing
    changes. The number of rounds grows with the turns of a component's shape, not with its pixels.

    Args:
      label: integers [H,W].
      seeds: bool [H,W].

    Returns:
      bool [H,W].
    """
    ways = (_runs(label), _runs(label.T).T)

    def spread(state):
        before, _ = state
        seen = before
        for run in ways:
            # int32, whose maximum is atomic on GPUs; the order does not matter.
            known = jnp.zeros(label.size, jnp.int32).at[run].max(seen.astype(jnp.int32))
            seen = known[run] > 0
        return seen, (seen != before).any()

    return lax.while_loop(lambda state: state[1], spread, (seeds, seeds.any()))[0]


def _runs(label: jax.Array) -> jax.Array:
    """Numbers the runs of equal labels along the rows, from 0; int32 [H,W]."""
    begins = jnp.pad(jnp.diff(label, axis=1) != 0, ((0, 0), (1, 0)), constant_values=True)
    return jnp.cumsum(begins.reshape(-1)).reshape(label.shape) - 1


def random_pixel(chance: jax.Array, mask: jax.Array) -> jax.Array:
    """A pixel where `mask` [H,W] holds, all equally likely; any pixel if it holds nowhere.

    Args:
      chance: float32 [] from U(0, 1): how far through the pixels of the mask, row by row.
      mask: bool [H,W].

    Returns:
      (row, column) int32 [2].
    """
    through = jnp.cumsum(mask.sum(1))
    number = through[-1]
    rank = jnp.minimum((chance * number).astype(jnp.int32), number - 1)
    row = jnp.minimum((through <= rank).sum(), mask.shape[0] - 1)
    in_row = jnp.cumsum(mask[row])
    rest = rank - (through[row] - in_row[-1])
    return jnp.stack([row, (in_row > rest).argmax()])


def centre(mask: jax.Array) -> jax.Array:
    """(row, column) int32 [2] of the middle of the bounding box of [H,W], rounded down."""
    middle = []
    for axis in (0, 1):
        along = mask.any(1 - axis)
        middle.append((along.argmax() + along.size - 1 - along[::-1].argmax()) // 2)
    return jnp.stack(middle)
