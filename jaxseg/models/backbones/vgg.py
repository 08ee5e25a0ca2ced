"""Dilated VGG-16 trunks (Simonyan and Zisserman, 2015) whose fully connected layers became
convolutions.

Poolings 4 and 5 are removed and stage 5 dilates by 2 instead, so that the output stride is 8. Two
published forms differ in fc6 and fc7:

- 'vgg16', AdaptSegNet's (Tsai et al., 2018): both 3x3 dilated by 4 with 1024 channels, trained from
  random values.
- 'vgg16_frontend', the front-end of Yu and Koltun (2016), which FCNs in the Wild adapts: 7x7
  dilated by 4 and 1x1, 4096 channels each, which ImageNet's fully connected layers fit.

Both pad with zeros so that only the three poolings change the size, H -> floor(H / 8), as
AdaptSegNet does and as VGG-16 was trained. Yu and Koltun pad no layer, but extend the image by 186
mirrored pixels on every side (2.4 times as many pixels at 512x1024); more than 186 pixels away from
the border the results are the same.
Neither has dropout here: AdaptSegNet left it out, and so does this front-end (published with 0.5
after fc6 and fc7).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxseg.models.backbones.stages import Stage, Stages
from jaxseg.models.layers.layers import Conv, he_normal, max_pool, torch_bias, torch_uniform

POOLED = 3  # number of first stages that end in a 2x2 max-pooling
# Without norms, activations keep their scale only if kernels are scaled by fan-in. torchvision
# scales by fan-out, where weights are loaded afterwards.
he_fan_in = nn.initializers.variance_scaling(2.0, "fan_in", "normal")


class Full(NamedTuple):
    """A fully connected layer as a convolution, padded to keep the size."""

    kernel: int
    dilation: int
    features: int


class Sizes(NamedTuple):
    """The numbers of a trunk, and its kind of head.

    Attributes:
      blocks: 3x3 convolutions of each stage.
      widths: their channels.
      fc6, fc7: the last two layers; the channels of fc7 are those of the feature map.
      score: the head is one 1x1 convolution instead of DeepLabV2's pyramid.
    """

    blocks: tuple[int, int, int, int, int] = (2, 2, 3, 3, 3)
    widths: tuple[int, int, int, int, int] = (64, 128, 256, 512, 512)
    fc6: Full = Full(3, 4, 1024)
    fc7: Full = Full(3, 4, 1024)
    score: bool = False


SIZES = {
    "vgg16": Sizes(),
    "vgg16_frontend": Sizes(fc6=Full(7, 4, 4096), fc7=Full(1, 1, 4096), score=True),
    # About 0.4 GMAC for 96x192: meant to be trained from scratch on two CPU cores.
    "vgg_small": Sizes(
        (1, 2, 2, 2, 2), widths=(16, 32, 64, 96, 96), fc6=Full(3, 2, 192), fc7=Full(3, 2, 192)
    ),
    # To try a program, not to learn.
    "vgg_tiny": Sizes((1,) * 5, widths=(4,) * 5, fc6=Full(3, 2, 4), fc7=Full(3, 2, 4)),
}
FROM_SCRATCH = ("vgg_small", "vgg_tiny")
STRIDES = (8,)
ONE_LEVEL = True  # AdaptSegNet's has one head


class VGG(nn.Module):
    """The trunk: layers 'conv1_1' to 'conv5_3', 'fc6' and 'fc7', each with bias and ReLU.

    Attributes:
      sizes: see `Sizes`.
      initial: 'reference' initialises convolutions as torchvision does (He, biases 0), fc6 and fc7
        with PyTorch's default, as AdaptSegNet does; 'he' uses He with fan-in for all.
      dtype: computation dtype.
    """

    sizes: Sizes = SIZES["vgg16"]
    initial: str = "reference"
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> Stages:
        """Maps [N, H, W, 3] to the last convolutions of stages 3 to 5 as 'stage1' to 'stage3', and
        fc7 as 'stage4', [N, H // 8, W // 8, features], all after their ReLUs; stage1's h is H // 4.
        """
        del train  # the same function in training

        def conv(x, features, kernel, dilation, name, **initial):
            layer = Conv(
                features, kernel, padding=dilation * (kernel // 2), dilation=dilation,
                dtype=self.dtype, name=name, **initial,
            )  # fmt: skip
            return nn.relu(layer(x))

        found, he = {}, dict(kernel_init=he_fan_in if self.initial == "he" else he_normal)
        for stage, (blocks, width) in enumerate(
            zip(self.sizes.blocks, self.sizes.widths, strict=True), start=1
        ):
            for block in range(1, blocks + 1):
                x = conv(x, width, 3, 1 if stage < 5 else 2, f"conv{stage}_{block}", **he)
            if stage >= POOLED:
                found[f"stage{stage - 2}"] = Stage(x, 4 if stage == POOLED else 8)
            if stage <= POOLED:
                x = max_pool(x, 2, 2)
        for name, full in (("fc6", self.sizes.fc6), ("fc7", self.sizes.fc7)):
            fan_in = full.kernel**2 * x.shape[-1]
            default = dict(kernel_init=torch_uniform, bias_init=torch_bias(fan_in))
            drawn = he if self.initial == "he" else default
            x = conv(x, full.features, full.kernel, full.dilation, name, **drawn)
        return {**found, "stage4": Stage(x, 8)}


def make(
    sizes: Sizes,
    *,
    output_stride: int = 8,
    dtype: jnp.dtype = jnp.float32,
    initial: str = "reference",
    name: str | None = None,
) -> VGG:
    """See `build`; the stride is 8, and there is no norm."""
    del output_stride
    return VGG(sizes, initial, dtype, name=name)
