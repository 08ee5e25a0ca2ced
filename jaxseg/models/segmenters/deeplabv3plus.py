"""DeepLabV3+ (Chen et al., 2018: Encoder-Decoder with Atrous Separable Convolution) with a second
head for depth.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxseg.errors import UserError
from jaxseg.models.backbones import build as backbones
from jaxseg.models.layers.blocks import ConvNorm, atrous_pyramid
from jaxseg.models.layers.layers import Conv
from jaxseg.models.segmenters.deeplabv3 import STRIDES, AuxiliaryHead, channels_of, rates_of
from jaxseg.resize import resize_bilinear


class Decoder(nn.Module):
    """The pyramid's map enlarged to the first stage's size, joined with that stage's map, reduced
    to a few channels, and refined by two 3x3 convolutions.

    Maps are enlarged with aligned corners, as in the paper's code and as the logits are.
    Convolutions are ordinary ones, where the paper's Xception variant has separable ones.
    """

    rates: tuple[int, ...]
    channels: int
    low_level: int
    dropout: float
    norm: str
    axis_name: str | None
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, low: jax.Array, high: jax.Array, train: bool) -> jax.Array:
        """Maps low [N, h, w, C] of stride 4 and high [N, h', w', C'] to [N, h, w, channels]."""
        shared = dict(norm=self.norm, axis_name=self.axis_name, dtype=self.dtype)
        high = atrous_pyramid(high, train, self.rates, self.channels, self.dropout, **shared)
        high = resize_bilinear(high, low.shape[1:3])
        low = ConvNorm(self.low_level, 1, **shared, name="low_level")(low, train)
        x = jnp.concatenate([high, low], -1)
        for name in ("refine1", "refine2"):
            x = ConvNorm(self.channels, **shared, name=name)(x, train)
        return x


class DeepLabV3Plus(nn.Module):
    """A backbone, of ResNets in torchvision's geometry, decoder, and a 1x1 convolution for each
    output.

    Parameters are grouped as 'backbone', 'decoder', 'main_head', 'depth_head' and 'aux_head'.
    Dropout draws from the stream 'dropout', which training must be given (`Network.apply(...,
    key=)`) unless its rate is 0.

    Attributes:
      num_classes: K.
      backbone: one of `backbones.names()`, or a family's `Sizes`.
      rates: dilation rates of the pyramid; the paper's are (6, 12, 18) for output stride 16 and
        twice as much for 8.
      channels: of pyramid and decoder; None goes by the backbone.
      low_level: channels that the first stage's map is reduced to.
      output_stride: of the backbone, 8 or 16.
      depth: adds 'depth', one channel without activation, in whatever unit the loss compares.
      aux: builds DeepLabV3's auxiliary head on the third stage.
      features: also returns the last feature map of the backbone.
      dropout, aux_dropout: rates after the pyramid and in the auxiliary head.
      norm, axis_name: see `layers.Norm`. BatchNorm over a batch has no statistics of the pooled
        image when a device has a single one.
      dtype: computation dtype, float32 or bfloat16.
      remat: see `resnet.ResNet`.
      trunk: settings of the backbone family's own, e.g. {'stride_in': '3x3'}.
    """

    num_classes: int
    backbone: backbones.Backbone = "resnet50"
    rates: tuple[int, ...] = (6, 12, 18)
    channels: int | None = None
    low_level: int = 48
    output_stride: int = 16
    depth: bool = False
    aux: bool = False
    features: bool = False
    dropout: float = 0.5
    aux_dropout: float = 0.1
    norm: str = "train"
    axis_name: str | None = None
    dtype: jnp.dtype = jnp.float32
    remat: bool = False
    trunk: Mapping[str, Any] | tuple = ()

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> dict[str, jax.Array]:
        """Maps normalised [N, H, W, 3] to float32 {'main': [N, h, w, K], 'depth'?: [N, h, w, 1],
        'aux'?: [N, h', w', K], 'features'?: [N, h', w', C]}; h is H / 4, rounded up, and h' about
        H / output_stride.
        """
        channels = self.channels or channels_of(self.backbone)
        shared = dict(norm=self.norm, axis_name=self.axis_name, dtype=self.dtype)
        stages = backbones.build(
            self.backbone, output_stride=self.output_stride, **shared, initial="he",
            conventions="torchvision", remat=self.remat, own=self.trunk,
        )(images, train)  # fmt: skip
        x = Decoder(
            self.rates, channels, self.low_level, self.dropout, **shared, name='decoder'
        )(stages["stage1"].features, stages["stage4"].features, train)  # fmt: skip
        outputs = {"main": Conv(self.num_classes, 1, dtype=self.dtype, name="main_head")(x)}
        if self.depth:
            outputs["depth"] = Conv(1, 1, dtype=self.dtype, name="depth_head")(x)
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
    rates: tuple[int, ...] | None = None,
    low_level: int = 48,
    output_stride: int | None = None,
    dropout: float = 0.5,
    depth: bool = False,
    aux: bool = False,
) -> DeepLabV3Plus:
    """See `DeepLabV3Plus`; `output_stride` None is 8, and `rates` None the paper's for the stride.

    Raises:
      UserError: settings that cannot work.
    """
    stride = backbones.stride_of(backbone, output_stride, STRIDES, "deeplabv3plus")
    if low_level < 1:
        raise UserError(f"config.net.low_level={low_level}: it must be at least 1")
    return DeepLabV3Plus(
        num_classes, backbone, rates_of(rates, stride), low_level=low_level, output_stride=stride,
        depth=depth, aux=aux, features=True, dropout=dropout, norm=norm, axis_name=axis_name,
        dtype=dtype, remat=remat, trunk=trunk,
    )  # fmt: skip
