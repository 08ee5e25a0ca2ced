"""Feature pyramid (Lin et al., "Feature Pyramid Networks for Object Detection", CVPR 2017) with one
output at stride 4, and the whole image's mean as context (Liu et al., ParseNet, 2015): a light
decoder for any backbone.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxseg.errors import UserError
from jaxseg.models.backbones import build as backbones
from jaxseg.models.backbones.stages import Stages
from jaxseg.models.layers.blocks import ConvNorm
from jaxseg.models.layers.layers import Conv, he_normal
from jaxseg.models.segmenters.deeplabv3 import AuxiliaryHead
from jaxseg.models.segmenters.depth_head import DepthHead
from jaxseg.resize import resize_bilinear

STRIDE = 4  # of the logits
STRIDES = (32, 16, 8)  # of the backbone's last stage; the first is the default


class Decoder(nn.Module):
    """1x1 convolutions of all stages, summed from coarse to fine, refined by two 3x3 convolutions.

    The maps are enlarged bilinearly with half-pixel centres. To the coarsest one its mean over the
    image is added, after a 1x1 convolution and ReLU without a norm: BatchNorm would have one value
    for each image.
    """

    channels: int
    norm: str
    axis_name: str | None
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, stages: Stages, train: bool) -> jax.Array:
        """Maps the stages to [N, h, w, channels] of the first stage's size."""

        def pointwise(x, name):
            conv = Conv(self.channels, 1, dtype=self.dtype, kernel_init=he_normal, name=name)
            return conv(x)

        *finer, last = sorted(stages)
        coarsest = stages[last].features
        pooled = jnp.mean(coarsest.astype(jnp.float32), (1, 2), keepdims=True)
        x = pointwise(coarsest, f"lateral{len(finer) + 1}")
        x = x + nn.relu(pointwise(pooled.astype(x.dtype), "pooling"))
        for index in range(len(finer), 0, -1):
            lateral = pointwise(stages[finer[index - 1]].features, f"lateral{index}")
            x = lateral + resize_bilinear(x, lateral.shape[1:3], align_corners=False)
        for name in ("refine1", "refine2"):
            x = ConvNorm(
                self.channels, norm=self.norm, axis_name=self.axis_name, dtype=self.dtype, name=name
            )(x, train)
        return x


class FPN(nn.Module):
    """A backbone, the pyramid, and a 1x1 convolution for each output.

    Parameters are grouped as 'backbone', 'decoder', 'main_head', 'depth_head' and 'aux_head'.
    Dropout draws from the stream 'dropout', which training must be given (`Network.apply(...,
    key=)`) unless its rates are 0.

    Attributes:
      num_classes: K.
      backbone: one of `backbones.names()`, or a family's `Sizes`.
      channels: of the pyramid.
      output_stride: of the backbone's last stage; the output's is always that of the first, 4.
      depth: adds 'depth', one channel without activation, in whatever unit the loss compares.
      fusion: with `depth`, the depth head is a `DepthHead` on the refined pyramid, whose gate is
        applied to what the main head reads (DADA); otherwise it is a 1x1 convolution.
      aux: builds DeepLabV3's auxiliary head on the third stage, whose stride is 16 or less.
      features: also returns the last feature map of the backbone.
      dropout, aux_dropout: rates before the main and in the auxiliary head.
      norm, axis_name: see `layers.Norm`.
      dtype: computation dtype, float32 or bfloat16.
      remat: see `resnet.ResNet`.
      trunk: settings of the backbone family's own.
    """

    num_classes: int
    backbone: backbones.Backbone = "efficientnet_lite0"
    channels: int = 96
    output_stride: int = 32
    depth: bool = False
    fusion: bool = False
    aux: bool = False
    features: bool = False
    dropout: float = 0.0
    aux_dropout: float = 0.1
    norm: str = "train"
    axis_name: str | None = None
    dtype: jnp.dtype = jnp.float32
    remat: bool = False
    trunk: Mapping[str, Any] | tuple = ()

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> dict[str, jax.Array]:
        """Maps normalised [N, H, W, 3] to float32 {'main': [N, h, w, K], 'depth'?: [N, h, w, 1],
        'aux'?: [N, h', w', K], 'features'?: [N, h'', w'', C]}; h is about H / 4, h' about H / 16
        and h'' about H / output_stride.
        """
        shared = dict(norm=self.norm, axis_name=self.axis_name, dtype=self.dtype)
        stages = backbones.build(
            self.backbone, output_stride=self.output_stride, **shared, initial="he",
            conventions="torchvision", remat=self.remat, own=self.trunk,
        )(images, train)  # fmt: skip
        x = Decoder(self.channels, **shared, name="decoder")(stages, train)
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        outputs = {}
        if self.depth and self.fusion:
            head = DepthHead(True, he_normal, open_gate=True, dtype=self.dtype, name="depth_head")
            outputs["depth"], x = head(x)
        elif self.depth:
            outputs["depth"] = Conv(1, 1, dtype=self.dtype, name="depth_head")(x)
        outputs["main"] = Conv(self.num_classes, 1, dtype=self.dtype, name="main_head")(x)
        if self.aux:
            head = AuxiliaryHead(self.num_classes, self.aux_dropout, **shared, name="aux_head")
            outputs["aux"] = head(stages["stage3"].features, train)
        if self.features:
            outputs["features"] = stages["stage4"].features
        return {level: output.astype(jnp.float32) for level, output in outputs.items()}


def make(
    num_classes: int,
    backbone: backbones.Backbone,
    *,
    norm: str = "train",
    axis_name: str | None = None,
    dtype: jnp.dtype = jnp.float32,
    remat: bool = False,
    trunk: Mapping[str, Any] | tuple = (),
    channels: int = 96,
    output_stride: int | None = None,
    dropout: float = 0.0,
    aux_dropout: float = 0.1,
    depth: bool = False,
    fusion: bool = False,
    aux: bool = False,
) -> FPN:
    """See `FPN`; `output_stride` None is 32.

    Raises:
      UserError: a stride that it does not have, or fusion without depth.
    """
    if fusion and not depth:
        raise UserError("config.net.fusion=True is for --config.net.depth=True")
    stride = backbones.stride_of(backbone, output_stride, STRIDES, "fpn")
    return FPN(
        num_classes, backbone, channels, stride, depth, fusion, aux, features=True, dropout=dropout,
        aux_dropout=aux_dropout, norm=norm, axis_name=axis_name, dtype=dtype, remat=remat,
        trunk=trunk,
    )  # fmt: skip
