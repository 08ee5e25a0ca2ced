"""What transformers are made of: attention, drop path, and first values.

Vaswani et al., "Attention Is All You Need", 2017; Huang et al., "Deep Networks with Stochastic
Depth", 2016.
"""

import functools
import math

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

LIMIT = 2**28  # attention weights held at once; beyond, queries come in groups

# PyTorch's truncated normal of this standard deviation cuts at +-2, that is at 100 deviations:
# it is a normal distribution.
small_normal = nn.initializers.normal(0.02)
Dense = functools.partial(nn.Dense, kernel_init=small_normal)
# Flax's default variance is E[x^2] - E[x]^2, which cancels.
LayerNorm = functools.partial(nn.LayerNorm, use_fast_variance=False)


def conv_normal(groups: int = 1):
    """Initializer N(0, sqrt(2 / (k k K / groups))) of a kernel [k, k, C / groups, K]."""

    def init(key, shape, dtype=jnp.float32):
        fan_out = shape[0] * shape[1] * shape[3] // groups
        return math.sqrt(2 / fan_out) * jax.random.normal(key, shape, dtype)

    return init


def attention(query: jax.Array, key: jax.Array, value: jax.Array, limit: int = LIMIT) -> jax.Array:
    """softmax(Q K^T / sqrt(d)) V for each head; the softmax is float32.

    Args:
      query: [N, L, heads, d].
      key, value: [N, M, heads, d].
      limit: with more than so many weights N heads L M, queries are taken in groups one after the
        other, whose weights are computed again for the gradient: the memory of one group, the same
        result.

    Returns:
      [N, L, heads, d] in the dtype of `value`.
    """
    batch, length, heads, width = query.shape
    rows = max(1, limit // (batch * heads * key.shape[1]))
    if rows >= length:
        return _attend(query, key, value)
    groups = -(-length // rows)
    rows = -(-length // groups)
    padded = jnp.pad(query, ((0, 0), (0, groups * rows - length), (0, 0), (0, 0)))
    padded = padded.reshape(batch, groups, rows, heads, width).swapaxes(0, 1)
    attend = jax.checkpoint(lambda part: _attend(part, key, value))
    found = lax.map(attend, padded).swapaxes(0, 1)
    return found.reshape(batch, groups * rows, heads, width)[:, :length]


def _attend(query, key, value):
    scores = jnp.einsum("nqhd,nkhd->nhqk", query, key, preferred_element_type=jnp.float32)
    weights = jax.nn.softmax(scores * query.shape[-1] ** -0.5, axis=-1)
    return jnp.einsum("nhqk,nkhd->nqhd", weights.astype(value.dtype), value)


class DropPath(nn.Module):
    """In training leaves out the whole residual branch of some images, and scales up the others'.

    It draws from the stream 'dropout'; without one (`Network.apply` without a key) it does nothing,
    as a teacher in training mode wants it.

    Attributes:
      rate: share of the images that are left out.
    """

    rate: float

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        if not (self.rate and train and self.has_rng("dropout")):
            return x
        keep = 1 - self.rate
        shape = (x.shape[0],) + (1,) * (x.ndim - 1)
        kept = jax.random.bernoulli(self.make_rng("dropout"), keep, shape)
        return jnp.where(kept, x / keep, 0).astype(x.dtype)


class ChannelDropout(nn.Module):
    """Dropout of whole channels of each image, before a classifier; as quiet as `DropPath`."""

    rate: float

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        quiet = not (train and self.has_rng("dropout"))
        return nn.Dropout(self.rate, broadcast_dims=(1, 2), deterministic=quiet)(x)


def rising(rate: float, blocks: int) -> list[float]:
    """Drop-path rates from 0 for the first block to `rate` for the last, linearly."""
    return [rate * index / max(blocks - 1, 1) for index in range(blocks)]
