"""DeepLabV3 (Chen et al., 2017: Rethinking Atrous Convolution), as torchvision builds it."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxseg.models.backbones.resnet import SIZES, ResNet, Sizes
from jaxseg.models.layers.blocks import ConvNorm, atrous_pyramid
from jaxseg.models.layers.layers import Conv, he_normal
from jaxseg.resize import resize_bilinear

# Channels of the pyramid by backbone, unless chosen.
CHANNELS = {"resnet101": 256, "resnet50": 256, "small": 64}


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
            x.shape[-1] // 4, 3, norm=self.norm, axis_name=self.axis_name, dtype=self.dtype,
            name='refine',
        )(x, train)  # fmt: skip
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return Conv(self.num_classes, 1, dtype=self.dtype, name="logits")(x)


class DeepLabV3(nn.Module):
    """Dilated ResNet of torchvision's geometry with DeepLabV3's head.

    Parameters are grouped as 'backbone', 'main_head' and 'aux_head'. Dropout draws from the stream
    'dropout', which training must be given (`Network.apply(..., key=)`).

    Attributes:
      num_classes: K.
      backbone: a name in `resnet.SIZES`, or `resnet.Sizes`.
      rates: dilation rates of the pyramid; (12, 24, 36) is torchvision's for output stride 8, the
        paper halves them for 16.
      channels: of the pyramid; None is `CHANNELS` by backbone, else 64.
      output_stride: 8 or 16.
      aux: builds the auxiliary head.
      features: also returns the last feature map of the backbone.
      upsample: False returns logits at the network's stride, for the caller to upsample (the losses
        and the evaluator of this project do so with aligned corners). True returns them at the
        image's size, upsampled with half-pixel centres as torchvision does; resizing to that size
        later on is then the identity.
      dropout, aux_dropout: rates before the main head's 3x3 convolution and in the auxiliary head.
      norm, axis_name: see `layers.Norm`.
      stride_in: see `resnet.Bottleneck`; torchvision's weights need '3x3'.
      dtype: computation dtype, float32 or bfloat16.
      remat: see `resnet.ResNet`.
    """

    num_classes: int
    backbone: str | Sizes = "resnet50"
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
    stride_in: str = "3x3"
    dtype: jnp.dtype = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> dict[str, jax.Array]:
        """Maps normalised [N, H, W, 3] to float32 {'main', 'aux'?: [N, h, w, K], 'features'?}."""
        if isinstance(self.backbone, str) and self.backbone not in SIZES:
            raise ValueError(f"backbone {self.backbone!r} is not one of {sorted(SIZES)}")
        sizes = SIZES[self.backbone] if isinstance(self.backbone, str) else self.backbone
        channels = self.channels or CHANNELS.get(self.backbone, 64)
        levels = ResNet(
            sizes, self.stride_in, self.norm, self.axis_name, self.dtype, he_normal,
            self.output_stride, lag=True, ceil_pool=False, remat=self.remat, name='backbone',
        )(images, train)  # fmt: skip
        shared = dict(norm=self.norm, axis_name=self.axis_name, dtype=self.dtype)
        head = Head(
            self.num_classes, self.rates, channels, self.dropout, **shared, name='main_head'
        )  # fmt: skip
        outputs = {"main": head(levels["layer4"], train)}
        if self.aux:
            head = AuxiliaryHead(self.num_classes, self.aux_dropout, **shared, name="aux_head")
            outputs["aux"] = head(levels["layer3"], train)
        outputs = {level: logits.astype(jnp.float32) for level, logits in outputs.items()}
        if self.upsample:
            size = images.shape[1:3]
            outputs = {
                level: resize_bilinear(logits, size, align_corners=False)
                for level, logits in outputs.items()
            }
        if self.features:
            outputs["features"] = levels["layer4"].astype(jnp.float32)
        return outputs
