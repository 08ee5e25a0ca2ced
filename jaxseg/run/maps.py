"""From logits to maps at the size of an image, compiled once for each size.

The resized logits of a photograph are large: 160 MB for 19 classes at 1080x1920. Where only an id
or an entropy of each pixel is wanted, a CPU makes them row by row, which stay in its cache.
"""

import threading
from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxseg import routes
from jaxseg.losses.entropy import entropy as entropy_map
from jaxseg.resize import resize_bilinear, taps


def make_maps() -> dict[str, Callable[[jax.Array, tuple[int, int]], jax.Array]]:
    """Makes functions (logits [N,h,w,K], (H, W)) -> map, of logits resized with aligned corners.

    Returns:
      {'labels': class ids int32 [N,H,W], 'entropy': float32 [N,H,W] in 0..1, 'probabilities':
      float32 [N,H,W,K]}.
    """

    def made(function, reduces=True):
        def of(logits, size):
            if reduces and routes.current() == "cpu":
                return _by_rows(function, logits, size)
            return function(resize_bilinear(logits, size))

        return compiled_once(jax.jit(of, static_argnums=1))

    return dict(
        labels=made(lambda logits: jnp.argmax(logits, -1).astype(jnp.int32)),
        entropy=made(entropy_map),
        probabilities=made(lambda logits: jax.nn.softmax(logits, -1), reduces=False),
    )


def _by_rows(
    function: Callable[[jax.Array], jax.Array], logits: jax.Array, size: tuple[int, int]
) -> jax.Array:
    """function [..., K] -> [...] of logits [N,h,w,K] resized to (H, W), one row after the other.

    Both resizes are those of `resize_bilinear`: the columns first, then the rows.
    """
    across = resize_bilinear(logits, (logits.shape[1], size[1]))
    across = across.transpose(1, 0, 3, 2)  # [h,N,K,W]: long runs of equal operations
    low, high, weight = map(jnp.asarray, taps(logits.shape[1], size[0], True))
    weight = weight.astype(across.dtype)

    def row(i):
        mixed = across[low[i]] * (1 - weight[i]) + across[high[i]] * weight[i]
        return function(jnp.moveaxis(mixed, -2, -1))

    return jnp.moveaxis(jax.lax.map(row, jnp.arange(size[0])), 0, 1)


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
