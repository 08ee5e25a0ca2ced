"""EfficientNet-Lite: EfficientNet (Tan and Le, 2019) without squeeze-and-excitation and with ReLU6
instead of swish, made for phones by its authors (2020).

Inverted residual blocks (MobileNetV2, Sandler et al., 2018): a 1x1 convolution to more channels, a
depthwise one, a 1x1 one back without activation, and the input added where shape allows. Paddings
are TensorFlow's 'SAME', which the published weights were trained with.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxseg.models.backbones.stages import Stage, Stages
from jaxseg.models.layers.conv import conv2d
from jaxseg.models.layers.depthwise import DepthwiseConv, same_padding
from jaxseg.models.layers.layers import Conv, Norm, he_normal

# One entry for each of the seven groups of blocks, the same in all sizes.
KERNELS = (3, 3, 5, 3, 5, 5, 3)
STEPS = (1, 2, 2, 2, 1, 2, 1)
EXPANSIONS = (1, 6, 6, 6, 6, 6, 6)
STRIDES = (32, 16, 8)  # that the last stage may have
FROM_SCRATCH = ("efficientnet_tiny",)
ENDS = {1: "stage1", 2: "stage2", 4: "stage3", 6: "stage4"}  # group that a stage ends with
HEAD = 1280  # channels before the classifier
EPSILON, MOMENTUM = 1e-3, 0.01  # of BatchNorm


class Sizes(NamedTuple):
    """The numbers of a trunk: blocks and channels of the seven groups, channels of the stem."""

    blocks: tuple[int, ...]
    widths: tuple[int, ...]
    stem: int = 32


# The ImageNet weights of each are in a package of its own (`storage.weights.packaged`).
SIZES = {
    "efficientnet_lite0": Sizes((1, 2, 2, 3, 3, 4, 1), (16, 24, 40, 80, 112, 192, 320)),
    "efficientnet_lite1": Sizes((1, 3, 3, 4, 4, 5, 1), (16, 24, 40, 80, 112, 192, 320)),
    "efficientnet_lite2": Sizes((1, 3, 3, 4, 4, 5, 1), (16, 24, 48, 88, 120, 208, 352)),
    # To try a program, not to learn.
    "efficientnet_tiny": Sizes((1,) * 7, (2, 2, 4, 4, 4, 4, 6), stem=4),
}


def _norm(mode, axis_name, dtype, name):
    return Norm(mode, axis_name, MOMENTUM, EPSILON, dtype, limit=6.0, name=name)


class StemConv(nn.Module):
    """3x3 convolution at stride 2, padded as TensorFlow's 'SAME', without bias."""

    features: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (3, 3, x.shape[-1], self.features)
        kernel = self.param("kernel", he_normal, shape, jnp.float32).astype(self.dtype)
        padding = tuple(same_padding(size, 3, 2) for size in x.shape[1:3])
        return conv2d(x.astype(self.dtype), kernel, (2, 2), padding)


class InvertedResidual(nn.Module):
    """1x1 to `expansion` times the channels (none for 1), depthwise, 1x1 to `width`.

    `strides`: whether the published block strides; its input is then not added to the result, even
    if the block dilates instead.
    """

    width: int
    expansion: int
    kernel: int
    stride: int
    dilation: int
    strides: bool
    dtype: jnp.dtype
    norm: Callable[..., nn.Module]

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        def pointwise(features, name):
            return Conv(
                features, 1, use_bias=False, dtype=self.dtype, kernel_init=he_normal, name=name
            )

        y = x
        if self.expansion != 1:
            y = pointwise(self.expansion * x.shape[-1], "expand_conv")(y)
            y = self.norm(name="expand_bn")(y, train, activation=True)
        y = DepthwiseConv(
            self.kernel, self.stride, self.dilation, self.dtype, name="depthwise_conv"
        )(y)
        y = self.norm(name="depthwise_bn")(y, train, activation=True)
        y = self.norm(name="project_bn")(pointwise(self.width, "project_conv")(y), train)
        return y if self.strides or x.shape != y.shape else x + y


class EfficientNet(nn.Module):
    """The trunk, up to the classifier's last convolution.

    Below stride 32 it is dilated: stages beyond `output_stride` keep the resolution, and dilate
    after the convolution that would have strided. For even sizes, rows and columns 1, 3, ... of the
    result are exactly the result of striding.

    Attributes:
      sizes: blocks and widths.
      norm, axis_name: see `layers.Norm`.
      dtype: computation dtype.
      output_stride: of the last stage: 8, 16 or 32.
      remat: keeps only the blocks' inputs for the backward pass; see `resnet.ResNet`.
    """

    sizes: Sizes = SIZES["efficientnet_lite0"]
    norm: str = "train"
    axis_name: str | None = None
    dtype: jnp.dtype = jnp.float32
    output_stride: int = 32
    remat: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> Stages:
        """Maps normalised [N, H, W, 3] to stages of strides 4, 8, 16, 32 or less.

        A map has ceil(H / stride) rows.
        """
        if self.output_stride not in STRIDES:
            raise ValueError(f"output_stride {self.output_stride} is not one of {STRIDES}")

        def norm(name):
            return _norm(self.norm, self.axis_name, self.dtype, name)

        x = norm("stem_bn")(StemConv(self.sizes.stem, self.dtype, name="stem_conv")(x), train, True)
        block_class = (
            nn.remat(InvertedResidual, static_argnums=(2,)) if self.remat else InvertedResidual
        )
        stages, reached, dilation, number = {}, 2, 1, 0
        groups = zip(self.sizes.blocks, self.sizes.widths, strict=True)
        for group, (blocks, width) in enumerate(groups):
            stride, after = STEPS[group], dilation
            if stride == 2 and reached == self.output_stride:
                stride, after = 1, 2 * dilation
            reached *= stride
            for block in range(blocks):
                first = block == 0
                x = block_class(
                    width, EXPANSIONS[group], KERNELS[group], stride if first else 1,
                    dilation if first else after, first and STEPS[group] > 1,
                    self.dtype, norm, name=f"block{number}",
                )(x, train)  # fmt: skip
                number += 1
            dilation = after
            if group in ENDS:
                stages[ENDS[group]] = Stage(x, reached)
        return stages


class Classifier(nn.Module):
    """The whole ImageNet classifier, for testing that weights are read correctly."""

    num_classes: int = 1000
    sizes: Sizes = SIZES["efficientnet_lite0"]

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        """Maps normalised [N, H, W, 3] to logits [N, num_classes]."""
        x = EfficientNet(self.sizes, name="backbone")(images, train)["stage4"].features
        x = Conv(HEAD, 1, use_bias=False, kernel_init=he_normal, name="head_conv")(x)
        x = _norm("train", None, jnp.float32, "head_bn")(x, train, True)
        return nn.Dense(self.num_classes, name="fc")(x.mean((1, 2)))


def make(
    sizes: Sizes,
    *,
    output_stride: int = 32,
    norm: str = "train",
    axis_name: str | None = None,
    dtype: jnp.dtype = jnp.float32,
    remat: bool = False,
    name: str | None = None,
) -> EfficientNet:
    """See `EfficientNet`."""
    return EfficientNet(sizes, norm, axis_name, dtype, output_stride, remat, name=name)
