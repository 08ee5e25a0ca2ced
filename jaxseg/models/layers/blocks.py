"""Building blocks of decoders: convolution with norm and activation, and DeepLabV3's pyramid."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxseg.models.layers.layers import Conv, Initializer, Norm, he_normal


class ConvNorm(nn.Module):
    """A convolution without bias ('conv' in the parameters), a norm ('bn') and an activation.

    Attributes:
      norm: see `Norm.mode`.
      others: see `Conv` and `Norm`. For odd kernels the padding keeps the size of the map.
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


def atrous_pyramid(
    x: jax.Array,
    train: bool,
    rates: Sequence[int],
    channels: int,
    dropout: float,
    norm: str,
    axis_name: str | None,
    dtype: jnp.dtype,
) -> jax.Array:
    """Atrous spatial pyramid with image pooling, merged by a 1x1 convolution (Chen et al., 2017:
    Rethinking Atrous Convolution); dropout comes last.

    Call it within a module's compact `__call__`. The module gets the layers 'branch0' (a 1x1
    convolution), 'branch1' and so on (3x3, dilated by one of `rates` each), 'pooling', 'project'.

    Args:
      x: [N, h, w, C].
      channels: of each branch and of the result.
      others: see `ConvNorm`.

    Returns:
      [N, h, w, channels].
    """

    def block(name, kernel, dilation=1):
        return ConvNorm(channels, kernel, dilation, norm, axis_name, dtype, name=name)

    branches = [block("branch0", 1)(x, train)]
    for index, rate in enumerate(rates, start=1):
        branches.append(block(f"branch{index}", 3, rate)(x, train))
    pooled = jnp.mean(x.astype(jnp.float32), (1, 2), keepdims=True).astype(x.dtype)
    pooled = block("pooling", 1)(pooled, train)
    branches.append(jnp.broadcast_to(pooled, branches[0].shape))
    x = block("project", 1)(jnp.concatenate(branches, -1), train)
    return nn.Dropout(dropout, deterministic=not train)(x)
