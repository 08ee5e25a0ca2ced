"""DeepLabV2 (Chen et al., 2017) with the two output levels of AdaptSegNet (Tsai et al., 2018), on a
ResNet as in the papers, with one level on VGG-16, or on any other backbone.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxseg.errors import UserError
from jaxseg.models.backbones import build as backbones
from jaxseg.models.layers.layers import Conv, he_normal, torch_bias
from jaxseg.models.segmenters.depth_head import DepthHead

INITS = {"reference": nn.initializers.normal(0.01), "he": he_normal}
RATES = (6, 12, 18, 24)


class Head(nn.Module):
    """Atrous spatial pyramid: the sum of parallel 3x3 convolutions at several dilation rates, with
    bias.

    `summed` is the number of first branches in the sum; all branches have parameters. The released
    code of AdaptSegNet returns from inside its loop, and so sums two of its four.
    """

    num_classes: int
    rates: tuple[int, ...]
    summed: int | None = None
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        summed = len(self.rates) if self.summed is None else self.summed
        if not 1 <= summed <= len(self.rates):
            raise ValueError(f"cannot sum {summed} of {len(self.rates)} rates")
        total = None
        for index, rate in enumerate(self.rates):
            if index >= summed and not self.is_initializing():
                break
            logits = Conv(
                self.num_classes, 3, padding=rate, dilation=rate, dtype=self.dtype,
                kernel_init=nn.initializers.normal(0.01),
                bias_init=torch_bias(9 * x.shape[-1]), name=f'branch{index}',
            )(x).astype(jnp.float32)  # fmt: skip
            total = logits if total is None else total + logits
        return total


class DeepLabV2(nn.Module):
    """Dilated network with a main head on its last stage and, with `aux`, another on the stage
    before.

    Parameters are grouped as 'backbone', 'main_head', 'aux_head' and 'depth_head'.

    Attributes:
      num_classes: K.
      backbone: one of `backbones.names()`, or a family's `Sizes`.
      rates: dilation rates of the heads; DeepLabV2's are (6, 12, 18, 24), for maps of about 65x129.
        The head of 'vgg16_frontend' is one 1x1 convolution without rates.
      summed: how many of the branches are summed; None is all (see `Head`).
      aux: builds the auxiliary head; not for a VGG.
      depth: adds 'depth', one channel without activation, in the unit of the loss's targets; see
        `DepthHead`.
      fusion: with `depth`, the main head reads the features gated by the depth head (DADA).
      features: also returns the backbone's last feature map, before any fusion.
      norm, axis_name: see `layers.Norm`; a VGG has none.
      initial: 'reference', N(0, 0.01) in every convolution of a ResNet (`vgg.VGG` says what in a
        VGG), made for loaded weights; 'he' trains from scratch. None goes by the backbone's name.
      dtype: computation dtype, float32 or bfloat16.
      remat: see `resnet.ResNet`.
      trunk: settings of the backbone family's own, e.g. {'stride_in': '3x3'}.
    """

    num_classes: int
    backbone: backbones.Backbone = "resnet101"
    rates: tuple[int, ...] = RATES
    summed: int | None = None
    aux: bool = True
    depth: bool = False
    fusion: bool = False
    features: bool = False
    norm: str = "reference"
    axis_name: str | None = None
    initial: str | None = None
    dtype: jnp.dtype = jnp.float32
    remat: bool = False
    trunk: Mapping[str, Any] | tuple = ()

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> dict[str, jax.Array]:
        """Maps normalised [N, H, W, 3] to float32 {'main', 'aux'?: [N, h, w, K], 'depth'?:
        [N, h, w, 1], 'features'?}.
        """
        if self.aux and backbones.one_level(self.backbone):
            raise UserError(
                f"backbone {self.backbone} has one output level: --config.net.aux=False"
            )
        initial = self.initial or backbones.initial_of(self.backbone)
        stages = backbones.build(
            self.backbone,
            output_stride=backbones.stride_of(self.backbone, None, (8,), "deeplabv2"),
            norm=self.norm,
            axis_name=self.axis_name,
            dtype=self.dtype,
            initial=initial,
            conventions="caffe",
            remat=self.remat,
            own=self.trunk,
        )(images, train)
        outputs = {"aux": self._head("aux_head")(stages["stage3"].features)} if self.aux else {}
        seen = last = stages["stage4"].features
        if self.depth:
            outputs["depth"], seen = DepthHead(
                self.fusion, INITS[initial], initial == "he", self.dtype, name="depth_head"
            )(last)
        main = self._score() if _has_score(self.backbone) else self._head("main_head")
        outputs["main"] = main(seen).astype(jnp.float32)
        if self.features:
            outputs["features"] = last.astype(jnp.float32)
        return outputs

    def _head(self, name: str) -> nn.Module:
        return Head(self.num_classes, self.rates, self.summed, self.dtype, name=name)

    def _score(self) -> nn.Module:
        return Conv(
            self.num_classes, 1, dtype=self.dtype, kernel_init=nn.initializers.normal(0.001),
            name='main_head',
        )  # fmt: skip


def _has_score(backbone: backbones.Backbone) -> bool:
    """Whether the head is one 1x1 convolution."""
    return getattr(backbones.sizes_of(backbone), "score", False)


def make(
    num_classes: int,
    backbone: backbones.Backbone,
    *,
    norm: str = "reference",
    axis_name: str | None = None,
    dtype: jnp.dtype = jnp.float32,
    remat: bool = False,
    trunk: Mapping[str, Any] | tuple = (),
    rates: tuple[int, ...] = RATES,
    summed: int = 0,
    aux: bool = False,
    depth: bool = False,
    fusion: bool = False,
) -> DeepLabV2:
    """See `DeepLabV2`; `summed` 0 is all.

    Raises:
      UserError: settings that cannot work.
    """
    if not (rates or _has_score(backbone)):
        raise UserError("config.net.rates is empty: deeplabv2 has dilation rates")
    if not 0 <= summed <= len(rates):
        raise UserError(f"config.net.summed={summed} of {len(rates)} config.net.rates")
    if fusion and not depth:
        raise UserError("config.net.fusion=True is for --config.net.depth=True")
    # `features` costs nothing: XLA removes an output that nobody uses.
    return DeepLabV2(
        num_classes, backbone, tuple(rates), summed or None, aux, depth, fusion, features=True,
        norm=norm, axis_name=axis_name, dtype=dtype, remat=remat, trunk=trunk,
    )  # fmt: skip
