"""Domain classifiers: AdaptSegNet's and ADVENT's for patches, and one for single positions."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxseg.models.layers.layers import Conv, torch_bias, torch_uniform
from jaxseg.models.layers.spectral import SpectralConv


def _layers(module: nn.Module, train: bool) -> Callable[..., jax.Array]:
    """Makes (x, features, kernel, stride, padding, name) -> convolution of x, with `spectral` and
    `init_std` of `module`; call it within the module's compact `__call__`.
    """

    def conv(x, features, kernel, stride, padding, name):
        normal, zeros = nn.initializers.normal(module.init_std), nn.initializers.zeros
        options = dict(
            kernel_init=normal if module.init_std else module.kernel_init,
            bias_init=zeros if module.init_std else torch_bias(kernel**2 * x.shape[-1]),
            dtype=module.dtype, stride=stride, padding=padding, name=name,
        )  # fmt: skip
        if module.spectral:
            return SpectralConv(features, kernel, **options)(x, train)
        return Conv(features, kernel, **options)(x)

    return conv


class Discriminator(nn.Module):
    """Five 4x4 convolutions of stride 2 with leaky ReLU 0.2 between them; no norm and no sigmoid.

    The fully convolutional discriminator of AdaptSegNet and ADVENT (after DCGAN), for maps at the
    size of the image.

    Attributes:
      width: channels of the first convolution; the next three have 2, 4 and 8 times as many, the
        last has one.
      dtype: computation dtype, float32 or bfloat16.
      kernel_init: the references leave PyTorch's default, U(-1/sqrt(fan_in), 1/sqrt(fan_in)).
      spectral: divides every kernel by its largest singular value, see `spectral.SpectralConv`; the
        network then has statistics, and the same parameters.
      init_std: above 0: initial kernels are N(0, init_std) and biases 0 (GIO-Ada: 0.001).
    """

    width: int = 64
    dtype: jnp.dtype = jnp.float32
    kernel_init: Callable[..., jax.Array] = torch_uniform
    spectral: bool = False
    init_std: float = 0.0

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> dict[str, jax.Array]:
        """Maps [N, H, W, C] to {'score': float32 [N, h, w, 1]}; h = H / 32 for multiples of 32.

        Raises:
          ValueError: maps of less than 32 rows or columns, for which the result would be empty.
        """
        if min(x.shape[1:3]) < 32:
            raise ValueError(
                f"maps of {x.shape[1]}x{x.shape[2]} are too small for the discriminator of "
                "patches, which takes 32x32 and more; choose config.disc.architecture='pixel'"
            )
        conv = _layers(self, train)
        for index, factor in enumerate((1, 2, 4, 8, 0)):
            if index:
                x = nn.leaky_relu(x, 0.2)
            x = conv(x, max(self.width * factor, 1), 4, 2, 1, f"conv{index + 1}")
        return {"score": x.astype(jnp.float32)}


class PixelDiscriminator(nn.Module):
    """Three 1x1 convolutions with leaky ReLU 0.2 between them: one decision for each position.

    For feature maps, as in FCNs in the Wild (Hoffman et al., 2016), which does not specify layers.

    Attributes:
      width: the two hidden layers have 8 * width channels: 64 gives 512, as in the widest layer of
        `Discriminator`.
      others: see `Discriminator`.
    """

    width: int = 64
    dtype: jnp.dtype = jnp.float32
    kernel_init: Callable[..., jax.Array] = torch_uniform
    spectral: bool = False
    init_std: float = 0.0

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> dict[str, jax.Array]:
        """Maps [N, h, w, C] to {'score': float32 [N, h, w, 1]}."""
        conv = _layers(self, train)
        for index, features in enumerate((8 * self.width, 8 * self.width, 1)):
            if index:
                x = nn.leaky_relu(x, 0.2)
            x = conv(x, features, 1, 1, 0, f"conv{index + 1}")
        return {"score": x.astype(jnp.float32)}


ARCHITECTURES = {"patch": Discriminator, "pixel": PixelDiscriminator}
