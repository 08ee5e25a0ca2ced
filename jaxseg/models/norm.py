"""BatchNorm over the batch (Ioffe and Szegedy, 2015), with the textbook gradient written out.

Automatic differentiation of the two passes over the input costs about twice the memory traffic of
the gradient in the paper, and BatchNorm is bound by memory traffic.
"""

import functools
import math

import jax
import jax.numpy as jnp
from jax import lax


def _mean(x, axis_name):
    """Mean over all axes but the last, then over devices."""
    x = jnp.mean(x, tuple(range(x.ndim - 1)))
    return x if axis_name is None else lax.pmean(x, axis_name)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def normalize_batch(x, scale, bias, epsilon: float, axis_name: str | None):
    """Normalises with the statistics of the batch.

    Args:
      x: [..., C], any floating dtype.
      scale, bias: float32 [C].
      epsilon: added to the variance.
      axis_name: device axis over which the statistics are shared, or None.

    Returns:
      (y of x's shape and dtype, mean, biased variance), statistics float32 [C] and constants to
      differentiation. The variance is taken around the mean of all devices, which is safe where
      E[x^2] - E[x]^2 cancels.
    """
    return _forward(x, scale, bias, epsilon, axis_name)[0]


def _forward(x, scale, bias, epsilon, axis_name):
    x32 = x.astype(jnp.float32)
    mean = _mean(x32, axis_name)
    var = _mean(jnp.square(x32 - mean), axis_name)
    gain = scale * lax.rsqrt(var + epsilon)
    y = ((x32 - mean) * gain + bias).astype(x.dtype)
    return (y, mean, var), (x, scale, mean, var)


def _backward(epsilon, axis_name, saved, gradients):
    x, scale, mean, var = saved
    gradient = gradients[0].astype(jnp.float32)
    inverse = lax.rsqrt(var + epsilon)
    centred = x.astype(jnp.float32) - mean
    local_sum = _mean(gradient, None)
    local_product = _mean(gradient * centred, None) * inverse
    shared_sum, shared_product = local_sum, local_product
    if axis_name is not None:
        shared_sum, shared_product = lax.pmean((local_sum, local_product), axis_name)
    to_x = (scale * inverse) * (gradient - shared_sum - centred * (inverse * shared_product))
    # Parameters get the local share: the caller averages gradients over devices.
    count = math.prod(x.shape[:-1])
    return to_x.astype(x.dtype), count * local_product, count * local_sum


normalize_batch.defvjp(_forward, _backward)
