"""What methods remember between steps, in `State.memory`: class shares of the source's labels,
earlier images, averaged parameters.

Every device writes the same values, computed from the images of all devices, so the memory has no
device axis and does not depend on the number of devices. `feed.shard` deals out the images to the
devices one by one; here they are put back into that order.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxseg.engine.method import AXIS
from jaxseg.losses.class_ratio import label_counts, label_shares


def empty_histogram(num_classes: int) -> dict[str, jax.Array]:
    """Memory of `histogram`: {'shares': float32 [K], 'batches': int32 []}."""
    return {"shares": jnp.zeros(num_classes), "batches": jnp.zeros((), jnp.int32)}


def histogram(memory: dict[str, jax.Array], labels: jax.Array) -> dict[str, jax.Array]:
    """The mean class shares of all batches so far, with this one.

    Args:
      memory: see `empty_histogram`.
      labels: integers [n, H, W] of this device.
    """
    counts = lax.psum(label_counts(labels, len(memory["shares"])).sum(0), AXIS)
    batches = memory["batches"] + 1
    shares = counts / jnp.maximum(counts.sum(), 1.0)
    mean = memory["shares"] + (shares - memory["shares"]) / batches
    return {"shares": mean, "batches": batches}


def empty_ring(images: int, num_classes: int) -> dict[str, jax.Array]:
    """Empty memory of `remember`: {'shares': float32 [images, K], 'seen': int32 []}."""
    return {"shares": jnp.zeros((images, num_classes)), "seen": jnp.zeros((), jnp.int32)}


def remember(memory: dict[str, jax.Array], labels: jax.Array) -> dict[str, jax.Array]:
    """The class shares of the latest images, with these.

    Args:
      memory: see `empty_ring`; the oldest images are replaced.
      labels: integers [n, H, W] of this device.

    Raises:
      ValueError: the memory is smaller than one batch.
    """
    room, num_classes = memory["shares"].shape
    shares = label_shares(labels, num_classes)
    shares = lax.all_gather(shares, AXIS, axis=1).reshape(-1, num_classes)
    if len(shares) > room:
        raise ValueError(f"a batch of {len(shares)} images, and room for {room} in the memory")
    places = (memory["seen"] + jnp.arange(len(shares))) % room
    return {
        "shares": memory["shares"].at[places].set(shares),
        "seen": memory["seen"] + len(shares),
    }


def bounds(memory: dict[str, jax.Array], lower: float, upper: float) -> tuple[jax.Array, jax.Array]:
    """Percentiles of each class's share over the remembered images that hold it.

    Args:
      memory: see `empty_ring`.
      lower, upper: percentiles, 0..100.

    Returns:
      (float32 [K], float32 [K]); (0, 1), which constrains nothing, for a class not seen yet.
    """
    shares = memory["shares"]
    ordered = jnp.sort(jnp.where(shares > 0, shares, jnp.inf), axis=0)
    count = jnp.sum(shares > 0, axis=0)

    def percentile(q, unknown):
        position = q / 100 * jnp.maximum(count - 1, 0)
        low = jnp.floor(position).astype(jnp.int32)
        high = jnp.minimum(low + 1, jnp.maximum(count - 1, 0))
        pick = lambda rows: jnp.take_along_axis(ordered, rows[None], axis=0)[0]  # noqa: E731
        weight = position - low
        value = (1 - weight) * pick(low) + weight * pick(high)
        return jnp.where(count > 0, value, unknown)

    return percentile(lower, 0.0), percentile(upper, 1.0)


def empty_pool(images: int, shape: tuple[int, ...], dtype: Any = jnp.float32) -> dict:
    """Memory of `pooled`: {'images': [images, *shape], 'seen': int32 []}, empty.

    Args:
      images: how many it can hold; CycleGAN has 50.
      shape: of one image.
      dtype: a float type; bfloat16 halves the size, also of the checkpoint, and keeps 8 significant
        bits.

    Raises:
      ValueError: fewer than one image.
    """
    if images < 1:
        raise ValueError(f"a pool of {images} images: give at least 1")
    return {"images": jnp.zeros((images, *shape), dtype), "seen": jnp.zeros((), jnp.int32)}


def pooled(
    memory: dict[str, jax.Array], images: jax.Array, key: jax.Array, chance: float = 0.5
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Images for a discriminator, some replaced by earlier ones so that it does not forget those
    (Shrivastava et al., "Learning from Simulated and Unsupervised Images through Adversarial
    Training", CVPR 2017; in CycleGAN's form).

    The images of all devices are taken one after the other. Until the pool is full, each is stored
    and shown. From then on, with probability `chance`, a stored image drawn at random is shown and
    replaced by the new one; otherwise the new one is shown and not stored. The draws come from the
    first device's key.

    Args:
      memory: see `empty_pool`.
      images: float [n, ...] of this device.
      key: uint32 [2]; the devices' keys may differ.
      chance: 0..1.

    Returns:
      The images to show on this device, [n, ...], without gradient, and the memory.
    """
    images = lax.stop_gradient(images)
    everything = lax.all_gather(images, AXIS, axis=1)
    turns, everything = everything.shape, everything.reshape(-1, *images.shape[1:])
    key = lax.all_gather(key, AXIS)[0]
    room = len(memory["images"])

    def one(carry, item):
        kept, seen = carry
        number, image = item
        chance_key, place_key = jax.random.split(jax.random.fold_in(key, number))
        full = seen >= room
        swapped = full & (jax.random.uniform(chance_key) < chance)
        place = jnp.where(full, jax.random.randint(place_key, (), 0, room), seen)
        earlier = kept[place]
        entering = jnp.where(full & ~swapped, earlier, image.astype(kept.dtype))
        shown = jnp.where(swapped, earlier.astype(image.dtype), image)
        return (kept.at[place].set(entering), jnp.minimum(seen + 1, room)), shown

    start = (memory["images"], memory["seen"])
    (kept, seen), shown = lax.scan(one, start, (jnp.arange(len(everything)), everything))
    own = shown.reshape(turns)[:, lax.axis_index(AXIS)]
    return own, {"images": kept, "seen": seen}


def ema(average: Any, tree: Any, decay: float, step: jax.Array) -> Any:
    """The exponential moving average of a tree (Tarvainen and Valpola, "Mean teachers", NIPS 2017),
    to be evaluated in place of that tree.

    Called once a step, or once a micro-batch if there are several.

    Args:
      average: the tree so far; what it holds at step 0 is not used.
      tree: the current values; no gradient flows into them.
      decay: 0..1; during the first steps min(decay, 1 - 1 / (step + 1)), so that the average is the
        plain mean until that decay exceeds `decay`.
      step: int32 [], how many times it was called before.

    Returns:
      decay * average + (1 - decay) * tree for floats; integers and flags are the tree's.
    """
    decay = jnp.minimum(decay, 1.0 - 1.0 / (step + 1.0))

    def leaf(old, new):
        if not jnp.issubdtype(new.dtype, jnp.inexact):
            return new
        return (decay * old + (1.0 - decay) * new).astype(old.dtype)

    return jax.tree.map(leaf, average, lax.stop_gradient(tree))
