"""SegFormer (Xie et al., 2021): every stage of the backbone linearly embedded, enlarged to the
first one's size, concatenated, and mixed by one convolution.
"""

from collections.abc import Callable, Mapping
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
from jaxseg.models.layers.layers import Conv, torch_bias, torch_uniform
from jaxseg.resize import resize_bilinear

NAMES = ("stage1", "stage2", "stage3", "stage4")
STRIDE = 4  # of the logits, where the first stage has it
# How a stage is embedded: linearly (the authors' network), or by a 1x1 convolution with norm and
# ReLU (mmsegmentation's from 0.20 on, 1.x included).
EMBEDDINGS = ("linear", "conv")


def embed_stages(
    stages: Stages,
    channels: int,
    dtype: jnp.dtype,
    conv: Callable[[jax.Array, str], jax.Array] | None = None,
) -> jax.Array:
    """All stages at the size of the first, concatenated from fine to coarse: [N, h, w, 4 channels].

    Its layers, 'embed1' to 'embed4', become those of the module that calls it within its compact
    `__call__`. Enlarged with half-pixel centres. `conv`, (x, name of the layer) -> x, takes the
    place of the linear layers.
    """
    size, maps = stages["stage1"].features.shape[1:3], []
    for index, name in enumerate(NAMES, start=1):
        x, own = stages[name].features, f"embed{index}"
        if conv is None:
            x = nn.Dense(
                channels, dtype=dtype, kernel_init=torch_uniform,
                bias_init=torch_bias(x.shape[-1]), name=own,
            )(x)  # fmt: skip
        else:
            x = conv(x, own)
        maps.append(resize_bilinear(x, size, align_corners=False))
    return jnp.concatenate(maps, -1)


class Head(nn.Module):
    """The decoder: embedding, a 1x1 convolution with norm and ReLU, dropout of channels, logits.

    Attributes:
      num_classes: K.
      channels: of each embedded stage and of the mixed map.
      dropout: rate; see `ChannelDropout` for when.
      norm, axis_name: see `layers.Norm`.
      dtype: computation dtype.
      embed: one of `EMBEDDINGS`.
    """

    num_classes: int
    channels: int = 256
    dropout: float = 0.1
    norm: str = "train"
    axis_name: str | None = None
    dtype: jnp.dtype = jnp.float32
    embed: str = "linear"

    @nn.compact
    def __call__(self, stages: Stages, train: bool) -> jax.Array:
        """Returns logits float32 [N, h, w, K] of the first stage's size."""
        norm = dict(norm=self.norm, axis_name=self.axis_name, dtype=self.dtype)

        def conv(x, name):
            return ConvNorm(self.channels, 1, **norm, name=name)(x, train)

        by_conv = conv if self.embed == "conv" else None
        x = embed_stages(stages, self.channels, self.dtype, by_conv)
        x = ConvNorm(self.channels, 1, **norm, name="fuse")(x, train)
        x = ChannelDropout(self.dropout)(x, train)
        logits = Conv(
            self.num_classes, 1, dtype=self.dtype, kernel_init=torch_uniform,
            bias_init=torch_bias(self.channels), name='logits',
        )(x)  # fmt: skip
        return logits.astype(jnp.float32)


def finish(
    logits: jax.Array, stages: Stages, size: tuple[int, int] | None, features: bool
) -> dict[str, jax.Array]:
    """What a segmenter returns: float32 {'main': logits, enlarged to `size` with half-pixel
    centres if one is given, 'features'?: the last stage}.
    """
    outputs = {"main": logits}
    if size is not None:
        outputs["main"] = resize_bilinear(logits, size, align_corners=False)
    if features:
        outputs["features"] = stages["stage4"].features.astype(jnp.float32)
    return outputs


def plain(
    backbone: backbones.Backbone,
    norm: str,
    axis_name: str | None,
    dtype: jnp.dtype,
    remat: bool,
    trunk: Mapping[str, Any] | tuple,
) -> nn.Module:
    """A backbone at the stride it was made for, 32 or what comes closest."""
    stride = backbones.stride_of(backbone, None, (32,), "this network")
    return backbones.build(
        backbone, output_stride=stride, norm=norm, axis_name=axis_name, dtype=dtype, initial="he",
        conventions="torchvision", remat=remat, own=trunk, name=None,
    )  # fmt: skip


class SegFormer(nn.Module):
    """A backbone with `Head`; parameters are grouped as 'backbone' and 'main_head'.

    Attributes:
      backbone: maps (images, train) to `Stages`.
      channels: of the head: 256 in the published networks on MiT-B0 and B1, 768 on the others.
      upsample: logits have the images' size.
      features: also returns the last stage.
      others: see `Head`.
    """

    num_classes: int
    backbone: nn.Module
    channels: int = 256
    dropout: float = 0.1
    upsample: bool = False
    features: bool = False
    norm: str = "train"
    axis_name: str | None = None
    dtype: jnp.dtype = jnp.float32
    embed: str = "linear"

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> dict[str, jax.Array]:
        """Maps normalised [N, H, W, 3] to float32 {'main': [N, h, w, K], 'features'?}."""
        stages = self.backbone(images, train)
        logits = Head(
            self.num_classes, self.channels, self.dropout, self.norm, self.axis_name, self.dtype,
            self.embed, name='main_head',
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
    dropout: float = 0.1,
    embed: str = "linear",
) -> SegFormer:
    """See `SegFormer`; its logits have the images' size, unless the stages are given.

    Raises:
      UserError: settings that cannot work.
    """
    if channels < 1:
        raise UserError(f"config.net.channels={channels}: it must be at least 1")
    if embed not in EMBEDDINGS:
        raise UserError(f"config.net.embed={embed!r}; choose one of {', '.join(EMBEDDINGS)}")
    alone = isinstance(backbone, given.Sizes)
    return SegFormer(
        num_classes, plain(backbone, norm, axis_name, dtype, remat, trunk), channels,
        dropout=dropout, upsample=not alone, features=not alone, norm=norm,
        axis_name=axis_name, dtype=dtype, embed=embed,
    )  # fmt: skip
