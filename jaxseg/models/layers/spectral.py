"""Spectral normalisation (Miyato et al., 2018): a convolution whose kernel is divided by its
largest singular value, which bounds how fast a discriminator can change.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from jaxseg.errors import UserError
from jaxseg.models.layers.conv import conv2d

FIRST = 15  # rounds of the power iteration at the start; each step of training adds one


class SpectralConv(nn.Module):
    """`layers.Conv` without dilation and groups, its kernel divided by its largest singular value.

    The kernel is taken as the matrix [kh kw C, features]. Its largest singular value is found by
    power iteration, whose vector, 'u' [features] in 'batch_stats', is kept between steps and
    updated in training only. Gradients flow through the kernel, not through the vectors.
    Parameters have the names and shapes of `layers.Conv`.
    """

    features: int
    kernel: int
    stride: int
    padding: int
    dtype: jnp.dtype
    kernel_init: Callable[..., jax.Array]
    bias_init: Callable[..., jax.Array]

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Maps [N, H, W, C] to [N, h, w, features].

        Raises:
          UserError: no statistics are given: the method keeps none for its discriminators.
        """
        shape = (self.kernel, self.kernel, x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape, jnp.float32)
        bias = self.param("bias", self.bias_init, (self.features,), jnp.float32)
        if not self.is_initializing() and not self.has_variable("batch_stats", "u"):
            raise UserError(
                "config.disc.spectral=True, but this method keeps no statistics of its "
                "discriminators: give --config.disc.spectral=False"
            )
        u = self.variable("batch_stats", "u", self._first, kernel)
        moves = train and self.is_mutable_collection("batch_stats")
        sigma, new = largest_singular_value(kernel, u.value, rounds=1 if train else 0)
        if moves and not self.is_initializing():
            u.value = new
        y = conv2d(
            x.astype(self.dtype),
            (kernel / sigma).astype(self.dtype),
            stride=(self.stride, self.stride),
            padding=((self.padding, self.padding),) * 2,
        )
        return y + bias.astype(self.dtype)

    def _first(self, kernel):
        start = jax.random.normal(self.make_rng("params"), kernel.shape[-1:], jnp.float32)
        return largest_singular_value(kernel, _unit(start), FIRST)[1]


def largest_singular_value(
    kernel: jax.Array, u: jax.Array, rounds: int
) -> tuple[jax.Array, jax.Array]:
    """Estimates the largest singular value of a kernel by power iteration.

    Args:
      kernel: float32 [..., features], a matrix of the last axis against all others.
      u: float32 [features] of length 1, from the previous call.
      rounds: number of iterations; 0 uses `u` unchanged.

    Returns:
      (sigma [], differentiable with respect to `kernel` and, up to rounding, never above the true
      value; the new `u`, without gradient).
    """
    matrix = kernel.reshape(-1, kernel.shape[-1])
    fixed = lax.stop_gradient(matrix)

    def turn(_, u):
        return _unit(_product(_unit(_product(fixed, u)), fixed))

    u = lax.stop_gradient(lax.fori_loop(0, rounds, turn, u))
    v = lax.stop_gradient(_unit(_product(fixed, u)))
    return _product(v, _product(matrix, u)), u


def _product(a, b):
    """Matrix product in full float32, also where the default precision is lower."""
    return jnp.matmul(a, b, precision=lax.Precision.HIGHEST)


def _unit(vector):
    return vector / (jnp.linalg.norm(vector) + 1e-12)
