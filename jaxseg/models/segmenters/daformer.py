"""DAFormer (Hoyer et al., "DAFormer: Improving Network Architectures and Training Strategies for
Domain-Adaptive Semantic Segmentation", 2022): SegFormer's embedding, fused with context.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxseg.errors import UserError
from jaxseg.models.backbones import build as backbones
from jaxseg.models.backbones import given
from jaxseg.models.backbones.stages import Stages
from jaxseg.models.layers.attention import ChannelDropout
from jaxseg.models.layers.blocks import ConvNorm
from jaxseg.models.layers.layers import Conv, Norm, he_normal
from jaxseg.models.segmenters.segformer import embed_stages, finish, plain

# How embedded stages are fused: a 1x1 convolution (SegFormer's), or a pyramid of dilated 3x3
# convolutions, plain or depthwise separable (the published networks).
CONTEXTS = ("conv1", "aspp", "sepaspp")
RATES = (6, 12, 18)
STRIDE = 4  # of the logits, where the first stage has it


class Separable(nn.Module):
    """Depthwise dilated 3x3 convolution, then 1x1, each with norm and ReLU."""

    features: int
    dilation: int
    norm: str
    axis_name: str | None
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        channels = x.shape[-1]
        norm = dict(norm=self.norm, axis_name=self.axis_name, dtype=self.dtype)
        x = Conv(
            channels, 3, padding=self.dilation, dilation=self.dilation, groups=channels,
            use_bias=False, dtype=self.dtype, kernel_init=he_normal, name='depthwise_conv',
        )(x)  # fmt: skip
        between = Norm(self.norm, self.axis_name, dtype=self.dtype, name="depthwise_bn")
        x = between(x, train, activation=True)
        return ConvNorm(self.features, 1, **norm, name="pointwise")(x, train)


class Head(nn.Module):
    """The decoder: embedding, context-aware fusion, dropout of channels, logits.

    The pyramid has a 1x1 branch and three dilated ones, no pooling of the image, and a 3x3
    convolution that merges them.

    Attributes:
      num_classes: K.
      channels: of each embedded stage, each branch and the fused map.
      context: one of `CONTEXTS`.
      dropout: rate; see `ChannelDropout` for when.
      norm, axis_name: see `layers.Norm`. The published networks have BatchNorm of each device alone
        ('local').
      dtype: computation dtype.
    """

    num_classes: int
    channels: int = 256
    context: str = "sepaspp"
    dropout: float = 0.1
    norm: str = "train"
    axis_name: str | None = None
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, stages: Stages, train: bool) -> jax.Array:
        """Returns logits float32 [N, h, w, K] of the first stage's size."""
        if self.context not in CONTEXTS:
            raise ValueError(f"context {self.context!r} is not one of {CONTEXTS}")
        x = embed_stages(stages, self.channels, self.dtype)
        norm = dict(norm=self.norm, axis_name=self.axis_name, dtype=self.dtype)
        if self.context == "conv1":
            x = ConvNorm(self.channels, 1, **norm, name="fuse")(x, train)
        else:
            branches = [ConvNorm(self.channels, 1, **norm, name="branch0")(x, train)]
            for index, rate in enumerate(RATES, start=1):
                if self.context == "sepaspp":
                    branch = Separable(self.channels, rate, **norm, name=f"branch{index}")
                else:
                    branch = ConvNorm(self.channels, 3, rate, **norm, name=f"branch{index}")
                branches.append(branch(x, train))
            x = ConvNorm(self.channels, 3, **norm, name="fuse")(
                jnp.concatenate(branches, -1), train
            )
        x = ChannelDropout(self.dropout)(x, train)
        logits = Conv(self.num_classes, 1, dtype=self.dtype, name="logits")
        return logits(x).astype(jnp.float32)


class DAFormer(nn.Module):
    """A backbone with `Head`; parameters are grouped as 'backbone' and 'main_head'.

    Attributes:
      backbone: maps (images, train) to `Stages`; MiT-B5 in the paper.
      upsample: logits have the images' size.
      features: also returns the last stage.
      others: see `Head`.
    """

    num_classes: int
    backbone: nn.Module
    channels: int = 256
    context: str = "sepaspp"
    dropout: float = 0.1
    upsample: bool = False
    features: bool = False
    norm: str = "train"
    axis_name: str | None = None
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> dict[str, jax.Array]:
        """Maps normalised [N, H, W, 3] to float32 {'main': [N, h, w, K], 'features'?}."""
        stages = self.backbone(images, train)
        logits = Head(
            self.num_classes, self.channels, self.context, self.dropout, self.norm, self.axis_name,
            self.dtype, name='main_head',
        )(stages, train)  # fmt: skip
        return finish(logits, stages, images.shape[1:3] if self.upsample else None, self.features)


def make(
    num_classes: int,
    backbone: backbones.Backbone,
    *,
    norm: str = "train",
    axis_name: str | None = None,
    dtype: jnp.dtype = jnp.float32,
    remat: bool = False,
    trunk: Mapping[str, Any] | tuple = (),
    channels: int = 256,
    context: str = "sepaspp",
    dropout: float = 0.1,
) -> DAFormer:
    """See `DAFormer`; its logits have the images' size, unless the stages are given.

    Raises:
      UserError: settings that cannot work.
    """
    if channels < 1:
        raise UserError(f"config.net.channels={channels}: it must be at least 1")
    if context not in CONTEXTS:
        raise UserError(f"config.net.context={context!r}; choose one of {', '.join(CONTEXTS)}")
    alone = isinstance(backbone, given.Sizes)
    return DAFormer(
        num_classes, plain(backbone, norm, axis_name, dtype, remat, trunk), channels,
        context=context, dropout=dropout, upsample=not alone, features=not alone, norm=norm,
        axis_name=axis_name, dtype=dtype,
    )  # fmt: skip
