"""A convolution with all that follows it: what the decoders are built from."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxseg.models.layers import Conv, Initializer, Norm, he_normal


class ConvNorm(nn.Module):
    """A convolution without bias, its norm and its activation: 'conv' and 'bn' in the parameters.

    Attributes:
      norm: see `Norm.mode`.
      others: see `Conv` and `Norm`. The padding keeps the size of an odd kernel's input.
    """

    features: int
    kernel: int = 3
    dilation: int = 1
    norm: str = "train"
    axis_name: str | None = None
    dtype: jnp.dtype = jnp.float32
    kernel_init: Initializer = he_normal

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Maps [N, H, W, C] to [N, H, W, features]."""
        x = Conv(
            self.features, self.kernel, padding=self.dilation * (self.kernel // 2),
            dilation=self.dilation, use_bias=False, dtype=self.dtype,
            kernel_init=self.kernel_init, name='conv',
        )(x)  # fmt: skip
        norm = Norm(self.norm, self.axis_name, dtype=self.dtype, name="bn")
        return norm(x, train, activation=True)
