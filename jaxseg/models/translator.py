"""Image transform network of GIO-Ada (Chen et al., 2019: Learning Semantic Segmentation from
Synthetic Data): turns a rendered image with labels and depth into a more realistic image.

The body is the residual generator of Johnson et al. (2016) and CycleGAN (Zhu et al., 2017). Those
output an image; this one by default outputs a change of its input image, so that classes stay in
place, and training begins with the unchanged rendered images.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxseg.models.layers.layers import Conv, Norm, he_normal

IMAGE = 3  # the first channels of the input


class Residual(nn.Module):
    """Two 3x3 convolutions with instance norm, the first with a ReLU, around a shortcut."""

    kernel_init: nn.initializers.Initializer
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        y = x
        for index, activation in ((1, True), (2, False)):
            y = Conv(
                x.shape[-1], 3, padding=1, use_bias=False, dtype=self.dtype,
                kernel_init=self.kernel_init, name=f'conv{index}',
            )(y)  # fmt: skip
            y = Norm("instancenorm", dtype=self.dtype, name=f"norm{index}")(y, False, activation)
        return x + y


def moved(image: jax.Array, share: jax.Array) -> jax.Array:
    """Moves the image towards white by a share of the way, or towards black for a negative share.

    The result stays in -1..1 and equals the image where the share is 0. Unlike a sum before a tanh,
    it has a gradient for the share where the image is white or black, too.

    Args:
      image: float32 in -1..1.
      share: float32 in -1..1 of the same shape.
    """
    size = share * jnp.sign(share)  # |share|, with a gradient of 0 at 0
    return (1 - size) * image + share


class Translator(nn.Module):
    """A convolution, two that halve the size, residual blocks at a quarter of the size, two that
    double it, and a convolution; instance norm after all but the last.

    Halving rounds sizes up; doubled maps are cropped to the size before halving. Doubling repeats
    pixels before a 3x3 convolution, which avoids checkerboard artefacts.

    Attributes:
      width: channels at full size; half and quarter size have 2 and 4 times as many.
      blocks: number of residual blocks.
      kernel: side of the first and last convolution, odd.
      residual: outputs `moved(image, change)`; otherwise a new image. Both end in a tanh.
      init_std: initial kernels are N(0, init_std). 0: He initialisation, with zeros in the last
        layer; with `residual` the network is then the identity, and in the first step only its
        last layer learns.
      dtype: computation dtype, float32 or bfloat16; the last step is always float32.
    """

    width: int = 64
    blocks: int = 9
    kernel: int = 7
    residual: bool = True
    init_std: float = 1e-3
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> dict[str, jax.Array]:
        """Maps [N, H, W, C] to {'image': float32 [N, H, W, 3] in -1..1}.

        The first three channels of the input are the image in -1..1; the caller chooses the others
        (GIO-Ada: one-hot labels, all zeros where ignored, and depth).
        """
        del train  # an instance norm is the same function in training
        image = x[..., :IMAGE].astype(jnp.float32)
        normal = nn.initializers.normal(self.init_std)
        inner = normal if self.init_std else he_normal
        last = normal if self.init_std else nn.initializers.zeros

        def block(x, features, name, kernel=3, stride=1):
            x = Conv(
                features, kernel, stride, kernel // 2, use_bias=False, dtype=self.dtype,
                kernel_init=inner, name=name,
            )(x)  # fmt: skip
            return Norm("instancenorm", dtype=self.dtype, name=f"{name}_norm")(x, False, True)

        x, sizes = block(x, self.width, "first", self.kernel), []
        for index, factor in ((1, 2), (2, 4)):
            sizes.append(x.shape[1:3])
            x = block(x, factor * self.width, f"down{index}", stride=2)
        for index in range(1, self.blocks + 1):
            x = Residual(inner, self.dtype, name=f"block{index}")(x)
        for index, factor in ((1, 2), (2, 1)):
            height, width = sizes.pop()
            x = x.repeat(2, 1).repeat(2, 2)[:, :height, :width]
            x = block(x, factor * self.width, f"up{index}")
        x = Conv(
            IMAGE, self.kernel, padding=self.kernel // 2, dtype=self.dtype, kernel_init=last,
            name='last',
        )(x)  # fmt: skip
        change = jnp.tanh(x.astype(jnp.float32))
        return {"image": moved(image, change) if self.residual else change}
