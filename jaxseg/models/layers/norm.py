"""Normalisations with explicit gradients: BatchNorm (Ioffe and Szegedy, 2015), GroupNorm (Wu and
He, 2018) and EvoNorm-S0 (Liu et al., 2020).

Automatic differentiation needs about twice the memory traffic of these gradients, which limits the
speed of normalisation. As with all custom reverse rules there is no forward mode (`jax.jvp`).
"""

import functools
import math

import jax
import jax.numpy as jnp
from jax import lax


def _mean(x, axis_name):
    """Mean over all axes but the last, then over devices."""
    x = jnp.mean(x, tuple(range(x.ndim - 1)))
    return lax.pmean(x, axis_name) if _shared(axis_name) else x


def _shared(axis_name):
    """Whether there are other devices; XLA does not remove collectives over a single one."""
    return axis_name is not None and lax.axis_size(axis_name) > 1


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def normalize_batch(x, scale, bias, epsilon: float, axis_name: str | None):
    """Normalises with the statistics of the batch.

    Args:
      x: [..., C], any floating dtype.
      scale, bias: float32 [C].
      epsilon: added to the variance.
      axis_name: device axis over which the statistics are shared, or None.

    Returns:
      (y of x's shape and dtype, mean, biased variance); the statistics are float32 [C] and have no
      gradient. The variance is computed around the mean of all devices, which avoids the
      cancellation in E[x^2] - E[x]^2.
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
    if _shared(axis_name):
        shared_sum, shared_product = lax.pmean((local_sum, local_product), axis_name)
    to_x = (scale * inverse) * (gradient - shared_sum - centred * (inverse * shared_product))
    # Parameter gradients stay local to the device: the caller averages them over devices.
    count = math.prod(x.shape[:-1])
    return to_x.astype(x.dtype), count * local_product, count * local_sum


normalize_batch.defvjp(_forward, _backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def clipped_relu(x: jax.Array, limit: float) -> jax.Array:
    """min(max(x, 0), limit), ReLU6 for a limit of 6; the gradient at 0 and at `limit` is 0."""
    return jnp.clip(x, 0, limit)


def _clipped_forward(x, limit):
    y = clipped_relu(x, limit)
    return y, y  # saving y costs nothing: the next layer saves it anyway


def _clipped_backward(limit, y, gradient):
    return (jnp.where((y > 0) & (y < limit), gradient, 0),)


clipped_relu.defvjp(_clipped_forward, _clipped_backward)


# --- statistics of each image and group of channels ---


def group_count(channels: int, wanted: int = 32) -> int:
    """The number of groups in which `channels` are normalised.

    Args:
      channels: of the feature map.
      wanted: preferred number; 32 in the papers of GroupNorm and EvoNorm.

    Returns:
      The largest number up to `wanted` that gives groups of equal size with at least two channels
      (groups of one would be InstanceNorm); 1 if there is none.
    """
    fits = (n for n in range(min(wanted, channels // 2), 0, -1) if channels % n == 0)
    return next(fits, 1)


def _spatial_mean(x):
    """[N, ..., C] -> [N, 1.., C]."""
    return jnp.mean(x, tuple(range(1, x.ndim - 1)), keepdims=True)


def _group_mean(x, groups):
    """Means over the groups of the last axis, each repeated for all channels of its group."""
    shape = x.shape
    means = jnp.mean(x.reshape(*shape[:-1], groups, -1), -1, keepdims=True)
    return jnp.broadcast_to(means, (*shape[:-1], groups, shape[-1] // groups)).reshape(shape)


def _group_statistics(x, groups, epsilon):
    """Mean and reciprocal standard deviation (of the biased variance): [N, 1.., C] each."""
    mean = _group_mean(_spatial_mean(x), groups)
    var = _group_mean(_spatial_mean(jnp.square(x - mean)), groups)
    return mean, lax.rsqrt(var + epsilon)


def _per_channel(x, share):
    """Means over each image's positions [N, 1.., C] -> sums over all images and positions [C]."""
    return math.prod(x.shape[1:-1]) * jnp.sum(share, tuple(range(x.ndim - 1)))


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def normalize_groups(x, scale, bias, groups: int, epsilon: float):
    """GroupNorm: normalises each image over its positions and one group of channels.

    Args:
      x: [N, ..., C], any floating dtype.
      scale, bias: float32 [C].
      groups: number of groups of neighbouring channels, of equal size; C gives InstanceNorm
        (Ulyanov et al., 2016).
      epsilon: added to the variance.

    Returns:
      y of x's shape and dtype.
    """
    return _groups_forward(x, scale, bias, groups, epsilon)[0]


def _groups_forward(x, scale, bias, groups, epsilon):
    x32 = x.astype(jnp.float32)
    mean, inverse = _group_statistics(x32, groups, epsilon)
    y = (x32 - mean) * (inverse * scale) + bias
    return y.astype(x.dtype), (x, scale, mean, inverse)


def _groups_backward(groups, epsilon, saved, gradient):
    x, scale, mean, inverse = saved
    gradient = gradient.astype(jnp.float32)
    normal = (x.astype(jnp.float32) - mean) * inverse
    sums, products = _spatial_mean(gradient), _spatial_mean(gradient * normal)
    shared_sum = _group_mean(sums * scale, groups)
    shared_product = _group_mean(products * scale, groups)
    to_x = inverse * (gradient * scale - shared_sum - normal * shared_product)
    return to_x.astype(x.dtype), _per_channel(x, products), _per_channel(x, sums)


normalize_groups.defvjp(_groups_forward, _groups_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def evonorm_s0(x, v, scale, bias, groups: int, epsilon: float):
    """EvoNorm-S0: x sigmoid(v x) / std(x) scale + bias, normalisation and activation in one.

    Args:
      x: [N, ..., C], any floating dtype.
      v, scale, bias: float32 [C].
      groups: number of groups of neighbouring channels; the standard deviation is taken over one
        group and each image's positions.
      epsilon: added to the (biased) variance.

    Returns:
      y of x's shape and dtype.
    """
    return _evonorm_forward(x, v, scale, bias, groups, epsilon)[0]


def _evonorm_forward(x, v, scale, bias, groups, epsilon):
    x32 = x.astype(jnp.float32)
    mean, inverse = _group_statistics(x32, groups, epsilon)
    y = x32 * jax.nn.sigmoid(v * x32) * (inverse * scale) + bias
    return y.astype(x.dtype), (x, v, scale, mean, inverse)


def _evonorm_backward(groups, epsilon, saved, gradient):
    x, v, scale, mean, inverse = saved
    x32, gradient = x.astype(jnp.float32), gradient.astype(jnp.float32)
    gate = jax.nn.sigmoid(v * x32)
    products = _spatial_mean(gradient * x32 * gate)
    slopes = _spatial_mean(gradient * jnp.square(x32) * gate * (1 - gate))
    gain = inverse * scale
    # The numerator's derivative, then the standard deviation's.
    to_x = gradient * gain * gate * (1 + v * x32 * (1 - gate))
    to_x = to_x - (x32 - mean) * (inverse**3 * _group_mean(products * scale, groups))
    return (
        to_x.astype(x.dtype),
        _per_channel(x, slopes * gain),
        _per_channel(x, products * inverse),
        _per_channel(x, _spatial_mean(gradient)),
    )


evonorm_s0.defvjp(_evonorm_forward, _evonorm_backward)
