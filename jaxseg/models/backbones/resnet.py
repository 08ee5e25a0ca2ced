"""Dilated residual networks of bottleneck blocks (He et al., 2016; Chen et al., 2017)."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxseg.errors import UserError
from jaxseg.models.backbones.stages import Stage, Stages
from jaxseg.models.layers.layers import Conv, Norm, he_normal, max_pool

EXPANSION = 4


class Sizes(NamedTuple):
    """The numbers of a trunk; a block's output has four times its stage's width."""

    blocks: tuple[int, int, int, int]
    widths: tuple[int, int, int, int] = (64, 128, 256, 512)
    stem: int = 64


SIZES = {
    "resnet101": Sizes((3, 4, 23, 3)),
    "resnet50": Sizes((3, 4, 6, 3)),
    # About 0.4 GMAC for 128x256: meant to be trained from scratch on two CPU cores.
    "small": Sizes((2, 2, 2, 2), widths=(24, 48, 64, 96), stem=32),
    "tiny": Sizes((1, 1, 1, 1), widths=(4, 4, 4, 4), stem=8),  # to try a program, not to learn
}
FROM_SCRATCH = ("small", "tiny")
STRIDES = (8, 16, 32)
INITIALS = {"reference": nn.initializers.normal(0.01), "he": he_normal}


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 with a shortcut.

    `stride_in` says which convolution carries the stride: the first '1x1' (Caffe and the
    references) or the '3x3' (torchvision). The two have the same parameters but are different
    functions: weights trained with one lose accuracy in the other. `rectify` puts a ReLU after the
    sum.
    """

    width: int
    stride: int
    dilation: int
    project: bool
    stride_in: str
    rectify: bool
    conv: Callable[..., nn.Module]
    norm: Callable[..., nn.Module]

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        first, second = (self.stride, 1) if self.stride_in == "1x1" else (1, self.stride)
        out = EXPANSION * self.width
        y = self.conv(self.width, 1, stride=first, name="conv1")(x)
        y = self.norm(name="bn1")(y, train, activation=True)
        y = self.conv(
            self.width,
            3,
            stride=second,
            padding=self.dilation,
            dilation=self.dilation,
            name="conv2",
        )(y)
        y = self.norm(name="bn2")(y, train, activation=True)
        y = self.norm(name="bn3")(self.conv(out, 1, name="conv3")(y), train)
        if self.project:
            x = self.conv(out, 1, stride=self.stride, name="downsample_conv")(x)
            x = self.norm(name="downsample_bn")(x, train)
        return add_relu(x, y) if self.rectify else x + y


class ResNet(nn.Module):
    """Trunk whose last stages dilate instead of striding.

    Attributes:
      sizes: blocks and widths.
      stride_in: see `Bottleneck`.
      norm: see `layers.Norm`.
      axis_name: device axis of BatchNorm's statistics.
      dtype: computation dtype.
      kernel_init: initializer of all convolutions.
      output_stride: 8: stages 3 and 4 keep the resolution and dilate by 2 and 4; 16: stage 4 keeps
        it and dilates by 2; 32: no dilation.
      lag: True: the first block of a stage has the dilation of the stage before, as in torchvision;
        False: all blocks have that of their stage, as in the references.
      ceil_pool: the pooling after the stem keeps a last window that extends over the edge, as in
        Caffe and the references; torchvision drops it.
      remat: saves only the blocks' inputs for the backward pass, which recomputes each block (Chen
        et al., "Training Deep Nets with Sublinear Memory Cost", 2016); results do not change. XLA
        on CPU undoes this, unless the program is compiled with `programs.KEEP_BARRIERS`, as
        training is.
    """

    sizes: Sizes = SIZES["resnet101"]
    stride_in: str = "1x1"
    norm: str = "reference"
    axis_name: str | None = None
    dtype: jnp.dtype = jnp.float32
    kernel_init: Callable[..., jax.Array] = nn.initializers.normal(0.01)
    output_stride: int = 8
    lag: bool = False
    ceil_pool: bool = True
    remat: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> Stages:
        """Maps [N, H, W, 3] to all four stages, [N, h, w, 4 width]; the first one's h is about
        H / 4, the last one's H / output_stride.
        """
        if self.stride_in not in ("1x1", "3x3"):
            raise ValueError(f"stride_in {self.stride_in!r} is neither '1x1' nor '3x3'")
        if self.output_stride not in (8, 16, 32):
            raise ValueError(f"output_stride {self.output_stride} is not 8, 16 or 32")

        def conv(features, kernel, name, **options):
            return Conv(
                features, kernel, use_bias=False, dtype=self.dtype,
                kernel_init=self.kernel_init, name=name, **options,
            )  # fmt: skip

        def norm(name):
            return Norm(self.norm, self.axis_name, dtype=self.dtype, name=name)

        x = conv(self.sizes.stem, 7, stride=2, padding=3, name="conv1")(x)
        x = norm("bn1")(x, train, activation=True)
        x = max_pool(x, 3, 2, 1, ceil_mode=self.ceil_pool)
        block_class = nn.remat(Bottleneck, static_argnums=(2,)) if self.remat else Bottleneck
        found, reached, dilation = {}, 4, 1
        stages = zip(self.sizes.blocks, self.sizes.widths, strict=True)
        for stage, (blocks, width) in enumerate(stages, start=1):
            stride, first_dilation = 1, dilation
            if stage > 1 and reached < self.output_stride:
                stride, reached = 2, 2 * reached
            elif stage > 1:
                dilation *= 2
            for block in range(blocks):
                x = block_class(
                    width, stride if block == 0 else 1,
                    first_dilation if self.lag and block == 0 else dilation,
                    block == 0, self.stride_in, self.norm != "evonorm",
                    conv, norm, name=f'layer{stage}_block{block}',
                )(x, train)  # fmt: skip
            found[f"stage{stage}"] = Stage(x, reached)
        return found


def make(
    sizes: Sizes,
    *,
    output_stride: int = 8,
    norm: str = "reference",
    axis_name: str | None = None,
    dtype: jnp.dtype = jnp.float32,
    initial: str = "reference",
    conventions: str = "caffe",
    remat: bool = False,
    stride_in: str | None = None,
    name: str | None = None,
) -> ResNet:
    """See `build` for the arguments that all families share, and `Bottleneck` for `stride_in`; None
    is '1x1' by Caffe's conventions, '3x3' by torchvision's.

    Raises:
      UserError: unknown `stride_in`.
    """
    torchvision = conventions == "torchvision"
    stride_in = stride_in or ("3x3" if torchvision else "1x1")
    if stride_in not in ("1x1", "3x3"):
        raise UserError(f"config.net.stride_in={stride_in!r}; choose one of 1x1, 3x3")
    return ResNet(
        sizes, stride_in, norm, axis_name, dtype, INITIALS[initial], output_stride,
        lag=torchvision, ceil_pool=not torchvision, remat=remat, name=name,
    )  # fmt: skip


@jax.custom_vjp
def add_relu(x: jax.Array, y: jax.Array) -> jax.Array:
    """relu(x + y) of two finite maps [N, H, W, C], bit for bit: the end of a residual block.

    XLA's CPU backend copies operations on a single map (reshapes too) into each operation that
    reads the result, and so would recompute in every block the sums of all blocks before, which
    takes a fifth of a ResNet-101's time. So this ends in an operation on two maps, in the shape
    that 1x1 convolutions read.
    """
    channels = x.shape[-1]
    flat_x, flat_y = x.reshape(-1, channels), y.reshape(-1, channels)
    return (jnp.maximum(flat_x, -flat_y) + flat_y).reshape(x.shape)


def _add_relu_forward(x, y):
    total = add_relu(x, y)
    return total, total


def _add_relu_backward(total, gradient):
    gradient = jnp.where(total > 0, gradient, 0)
    return gradient, gradient


add_relu.defvjp(_add_relu_forward, _add_relu_backward)
