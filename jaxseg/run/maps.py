"""From an image to maps of its own size: programs that are compiled once for each size.

The resized logits of a photograph are large: 160 MB for 19 classes at 1080x1920. Where only an id
or an entropy of each pixel is wanted, a CPU makes them row by row, which stay in its cache.

Before a program runs for the first time, its memory is compared with what is free.
"""

import functools
import threading
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxseg import routes
from jaxseg.engine import memory
from jaxseg.losses.entropy import entropy as entropy_map
from jaxseg.resize import resize_bilinear, taps


def smaller() -> str:
    """What to do where memory is short, if nothing more is known."""
    return "give smaller images"


def make_maps(
    advise: Callable[[], str] = smaller,
) -> dict[str, Callable[[jax.Array, tuple[int, int]], Any]]:
    """Makes functions (logits [N,h,w,K], (H, W)) -> map, of logits resized with aligned corners.

    Args:
      advise: says what to do where memory is short, in the UserError that the functions raise then.

    Returns:
      {'labels': class ids int32 [N,H,W], 'entropy': float32 [N,H,W] in 0..1, 'probabilities':
      float32 [N,H,W,K], 'small': the ids and the entropies in 255ths, both uint8 [N,H,W], and each
      image's mean entropy, float32 [N]}.
    """

    def made(function, of_rows=None):
        def of(logits, size):
            if of_rows and routes.current() == "cpu":
                return _by_rows(of_rows, logits, size)
            return function(resize_bilinear(logits, size))

        return ready(of)

    def ready(of):
        checked = memory.looked_at(jax.jit(of, static_argnums=1), look, static=(1,))
        return compiled_once(checked)

    def look(compiled, _, size):
        check(compiled, "a map of an image", size, advise)

    def small(logits, size):
        if routes.current() == "cpu":
            ids, entropy = (_by_rows(f, logits, size) for f in (_highest, _entropy))
        else:
            large = resize_bilinear(logits, size)
            ids, entropy = jnp.argmax(large, -1), entropy_map(large)
        levels = jnp.round(jnp.clip(entropy * 255, 0, 255))
        return ids.astype(jnp.uint8), levels.astype(jnp.uint8), entropy.mean(2).mean(1)

    return dict(
        labels=made(lambda logits: jnp.argmax(logits, -1).astype(jnp.int32), _highest),
        entropy=made(entropy_map, _entropy),
        probabilities=made(lambda logits: jax.nn.softmax(logits, -1)),
        small=ready(small),
    )


# On a CPU this loop, which XLA makes one pass over the row of, takes less than a tenth of the time
# of its argmax over classes.
def _highest(rows: jax.Array) -> jax.Array:
    """The first of the highest, float [N,K,W] -> int32 [N,W]."""
    highest, found = rows[:, 0], jnp.zeros(rows[:, 0].shape, jnp.int32)
    for k in range(1, rows.shape[1]):
        higher = rows[:, k] > highest
        highest = jnp.where(higher, rows[:, k], highest)
        found = jnp.where(higher, k, found)
    return found


def _entropy(rows: jax.Array) -> jax.Array:
    """The entropy of each position, float [N,K,W] -> [N,W]."""
    return entropy_map(jnp.moveaxis(rows, 1, -1))


def _by_rows(
    function: Callable[[jax.Array], jax.Array], logits: jax.Array, size: tuple[int, int]
) -> jax.Array:
    """function [N,K,W] -> [N,W] of logits [N,h,w,K] resized to (H, W), row after row.

    Both resizes are those of `resize_bilinear`: the columns first, then the rows.
    """
    across = resize_bilinear(logits, (logits.shape[1], size[1]))
    across = across.transpose(1, 0, 3, 2)  # [h,N,K,W]: long runs of equal operations
    low, high, weight = map(jnp.asarray, taps(logits.shape[1], size[0], True))
    weight = weight.astype(across.dtype)

    def row(i):
        mixed = across[low[i]] * (1 - weight[i]) + across[high[i]] * weight[i]
        # Without the barrier it would be computed anew wherever it is read.
        return function(jax.lax.optimization_barrier(mixed))

    return jnp.moveaxis(jax.lax.map(row, jnp.arange(size[0])), 0, 1)


def make_image_predictor(predict: Callable) -> Callable[..., tuple[jax.Array, jax.Array]]:
    """Makes the function that predicts one image, of the two of `make_programs`.

    Args:
      predict: (params, stats, memory, images uint8 [N,H,W,3]) -> logits [N,h,w,K].

    Returns:
      ((params, stats, memory), image uint8 [H,W,3], size) -> class ids uint8 [*size] and entropy
      float32 [*size] in 0..1, of the logits resized (aligned corners) to `size`, (height, width).
    """
    network, maps = make_programs(predict)
    return lambda model, image, size: maps(network(model, image), size)


def make_programs(
    predict: Callable, advise: Callable[[], str] = smaller
) -> tuple[Callable[..., jax.Array], Callable[..., tuple[jax.Array, jax.Array]]]:
    """Makes the two programs that predict one image.

    Before they run for the first time at a size, their memory is compared with what is free.

    Args:
      predict: (params, stats, memory, images uint8 [N,H,W,3]) -> logits [N,h,w,K].
      advise: says what to do where memory is short.

    Returns:
      network: ((params, stats, memory), image uint8 [H,W,3]) -> logits [1,h,w,K], compiled for each
      size of its input; and maps: (logits, size) -> class ids uint8 [*size], entropy float32
      [*size] in 0..1, compiled for each size of the original image. Both raise UserError if memory
      is short.
    """

    @jax.jit
    def network(model: tuple, image: jax.Array) -> jax.Array:
        return predict(*model, image[None]).astype(jnp.float32)

    @functools.partial(jax.jit, static_argnums=1)
    def maps(logits: jax.Array, size: tuple[int, int]) -> tuple[jax.Array, jax.Array]:
        logits = resize_bilinear(logits, size)[0]
        return jnp.argmax(logits, -1).astype(jnp.uint8), entropy_map(logits)

    def look(compiled: Any, model: tuple, image: jax.Array) -> None:
        check(compiled, "predicting an image", image.shape, advise)

    def look_at_maps(compiled: Any, logits: jax.Array, size: tuple[int, int]) -> None:
        check(compiled, "the map of an image", size, advise)

    return (
        memory.looked_at(network, look),
        memory.looked_at(maps, look_at_maps, static=(1,)),
    )


def check(compiled: Any, what: str, size: tuple[int, ...], advise: Callable[[], str]) -> None:
    """Raises UserError if a program needs more memory than is free; see `memory.check`.

    Args:
      compiled: the program.
      what: its name in the message.
      size: (height, width) of the image, for the message.
      advise: says what to do.
    """
    title = f"{what} of {size[0]}x{size[1]}"
    memory.check(compiled, jax.local_devices()[:1], title, lambda _: advise())


def compiled_once(function: Callable) -> Callable:
    """A jitted function for several threads: those that meet with a new shape wait until one of
    them has compiled it.

    Args:
      function: of two arguments; compiled anew for each shape of arrays and each value of others.
    """
    lock, ready = threading.Lock(), set()

    def call(first, second):
        key = getattr(first, "shape", None), getattr(second, "shape", second)
        if key in ready:
            return function(first, second)
        with lock:
            found = function(first, second)
            ready.add(key)
        return found

    return call
