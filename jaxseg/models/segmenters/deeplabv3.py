"""DeepLabV3 (Chen et al., 2017: Rethinking Atrous Convolution), as torchvision builds it."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxseg.errors import UserError
from jaxseg.models.backbones import build as backbones
from jaxseg.models.layers.blocks import ConvNorm, atrous_pyramid
from jaxseg.models.layers.layers import Conv
from jaxseg.resize import resize_bilinear

STRIDES = (8, 16)


def channels_of(backbone: backbones.Backbone) -> int:
    """Default channels of the pyramid: fewer for backbones to be trained from scratch."""
    return 256 if backbones.initial_of(backbone) == "reference" else 64


def rates_of(rates: tuple[int, ...] | None, output_stride: int) -> tuple[int, ...]:
    """The given dilation rates; by default the paper's, (6, 12, 18) at stride 16, doubled at 8.

    Raises:
      UserError: `rates` is empty.
    """
    if rates is None:
        return tuple(max(rate * 16 // output_stride, 1) for rate in (6, 12, 18))
    if not rates:
        raise UserError("config.net.rates is empty: DeepLab has dilation rates")
    return tuple(rates)


class Head(nn.Module):
    """Atrous spatial pyramid with image pooling, refined by a 3x3 convolution."""

    num_classes: int
    rates: tuple[int, ...]
    channels: int
    dropout: float
    norm: str
    axis_name: str | None
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        shared = dict(norm=self.norm, axis_name=self.axis_name, dtype=self.dtype)
        x = atrous_pyramid(x, train, self.rates, self.channels, self.dropout, **shared)
        x = ConvNorm(self.channels, **shared, name="refine")(x, train)
        return Conv(self.num_classes, 1, dtype=self.dtype, name="logits")(x)


class AuxiliaryHead(nn.Module):
    """torchvision's head on the third stage: 3x3 to a quarter of the channels, dropout, 1x1."""

    num_classes: int
    dropout: float
    norm: str
    axis_name: str | None
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        x = ConvNorm(
            max(x.shape[-1] // 4, 1), 3, norm=self.norm, axis_name=self.axis_name, dtype=self.dtype,
            name='refine',
        )(x, train)  # fmt: skip
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return Conv(self.num_classes, 1, dtype=self.dtype, name="logits")(x)


class DeepLabV3(nn.Module):
    """A backbone, of ResNets in torchvision's geometry, with DeepLabV3's head.

    Parameters are grouped as 'backbone', 'main_head' and 'aux_head'. Dropout draws from the stream
    'dropout', which training must be given (`Network.apply(..., key=)`).

    Attributes:
      num_classes: K.
      backbone: one of `backbones.names()`, or a family's `Sizes`.
      rates: dilation rates of the pyramid; (12, 24, 36) is torchvision's for output stride 8, the
        paper halves them for 16.
      channels: of the pyramid; None goes by the backbone, see `channels_of`.
      output_stride: 8 or 16.
      aux: builds the auxiliary head.
      features: also returns the last feature map of the backbone.
      upsample: False returns logits at the network's stride, for the caller to upsample (the losses
        and the evaluator of this project do so with aligned corners). True returns them at the
        image's size, upsampled with half-pixel centres as torchvision does; resizing to that size
        later on is then the identity.
      dropout, aux_dropout: rates before the main head's 3x3 convolution and in the auxiliary head.
      norm, axis_name: see `layers.Norm`.
      dtype: computation dtype, float32 or bfloat16.
      remat: see `resnet.ResNet`.
      trunk: settings of the backbone family's own, e.g. {'stride_in': '3x3'}.
    """

    num_classes: int
    backbone: backbones.Backbone = "resnet50"
    rates: tuple[int, ...] = (12, 24, 36)
    channels: int | None = None
    output_stride: int = 8
    aux: bool = False
    features: bool = False
    upsample: bool = False
    dropout: float = 0.5
    aux_dropout: float = 0.1
    norm: str = "train"
    axis_name: str | None = None
    dtype: jnp.dtype = jnp.float32
    remat: bool = False
    trunk: Mapping[str, Any] | tuple = ()

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> dict[str, jax.Array]:
        """Maps normalised [N, H, W, 3] to float32 {'main', 'aux'?: [N, h, w, K], 'features'?}."""
        channels = self.channels or channels_of(self.backbone)
        shared = dict(norm=self.norm, axis_name=self.axis_name, dtype=self.dtype)
        stages = backbones.build(
            self.backbone, output_stride=self.output_stride, **shared, initial="he",
            conventions="torchvision", remat=self.remat, own=self.trunk,
        )(images, train)  # fmt: skip
        head = Head(
            self.num_classes, self.rates, channels, self.dropout, **shared, name='main_head'
        )  # fmt: skip
        outputs = {"main": head(stages["stage4"].features, train)}
        if self.aux:
            head = AuxiliaryHead(self.num_classes, self.aux_dropout, **shared, name="aux_head")
            outputs["aux"] = head(stages["stage3"].features, train)
        outputs = {level: logits.astype(jnp.float32) for level, logits in outputs.items()}
        if self.upsample:
            size = images.shape[1:3]
            outputs = {
                level: resize_bilinear(logits, size, align_corners=False)
                for level, logits in outputs.items()
            }
        if self.features:
            outputs["features"] = stages["stage4"].features.astype(jnp.float32)
        return outputs


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
    output_stride: int | None = None,
    dropout: float = 0.5,
    aux: bool = False,
) -> DeepLabV3:
    """See `DeepLabV3`; `output_stride` None is 8, and `rates` None the paper's for the stride.

    Raises:
      UserError: settings that cannot work.
    """
    stride = backbones.stride_of(backbone, output_stride, STRIDES, "deeplabv3")
    return DeepLabV3(
        num_classes, backbone, rates_of(rates, stride), output_stride=stride, aux=aux,
        features=True, upsample=True, dropout=dropout, norm=norm, axis_name=axis_name, dtype=dtype,
        remat=remat, trunk=trunk,
    )  # fmt: skip
