"""DeepLabV2 (Chen et al., 2017) with the two output levels of AdaptSegNet (Tsai et al., 2018), on a
ResNet or, with one level, on VGG-16.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxseg.errors import UserError
from jaxseg.models.backbones import resnet, vgg
from jaxseg.models.backbones.resnet import ResNet
from jaxseg.models.backbones.vgg import VGG
from jaxseg.models.layers.layers import Conv, he_normal, torch_bias
from jaxseg.models.segmenters.depth_head import DepthHead

INITS = {"reference": nn.initializers.normal(0.01), "he": he_normal}
FROM_SCRATCH = ("small", "vgg_small")


class Head(nn.Module):
    """Atrous spatial pyramid: the sum of parallel 3x3 convolutions at several dilation rates, with
    bias.

    `summed` keeps only the first so many branches in the sum, while all have parameters: the
    released code of AdaptSegNet returns from inside its loop and so sums two of its four.
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
      backbone: a name in `resnet.SIZES` or `vgg.SIZES`, or one of their `Sizes`.
      rates: dilation rates of the heads; (6, 12, 18, 24) is DeepLabV2's, for maps of about 65x129.
        The head of 'vgg16_frontend' is one 1x1 convolution, which has none.
      summed: how many of the rates are summed; None is all (see `Head`).
      aux: builds the auxiliary head; a VGG has none.
      depth: adds 'depth', one channel without activation, in whatever unit the loss compares; see
        `DepthHead`.
      fusion: with `depth`, the main head sees the features as gated by the depth head (DADA).
      features: also returns the last feature map (ResNet: layer4; VGG: fc7), before any fusion.
      norm, axis_name: BatchNorm, see `layers.Norm`; a VGG has none.
      stride_in: '1x1' (the references) or '3x3' (torchvision's weights), see `resnet.Bottleneck`.
      initial: 'reference', N(0, 0.01) in every convolution of a ResNet (`vgg.VGG` says what in a
        VGG), made for loaded weights; 'he' trains from scratch. None is 'he' for 'small',
        'vgg_small' and `Sizes`, else 'reference'.
      dtype: computation dtype, float32 or bfloat16.
      remat: see `resnet.ResNet`; nothing for a VGG.
    """

    num_classes: int
    backbone: str | resnet.Sizes | vgg.Sizes = "resnet101"
    rates: tuple[int, ...] = (6, 12, 18, 24)
    summed: int | None = None
    aux: bool = True
    depth: bool = False
    fusion: bool = False
    features: bool = False
    norm: str = "reference"
    axis_name: str | None = None
    stride_in: str = "1x1"
    initial: str | None = None
    dtype: jnp.dtype = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> dict[str, jax.Array]:
        """Maps normalised [N, H, W, 3] to float32 {'main', 'aux'?: [N, h, w, K], 'depth'?:
        [N, h, w, 1], 'features'?}.
        """
        sizes = self.backbone
        if isinstance(sizes, str):
            known = {**resnet.SIZES, **vgg.SIZES}
            if sizes not in known:
                raise ValueError(f"backbone {sizes!r} is not one of {sorted(known)}")
            sizes = known[sizes]
        scratch = not isinstance(self.backbone, str) or self.backbone in FROM_SCRATCH
        initial = self.initial or ("he" if scratch else "reference")
        if isinstance(sizes, vgg.Sizes):
            if self.aux:
                raise UserError(
                    f"backbone {self.backbone} is a VGG, which has one output level: "
                    "--config.net.aux=False"
                )
            last = VGG(sizes, initial, self.dtype, name="backbone")(images)
            outputs = {}
        else:
            levels = ResNet(
                sizes, self.stride_in, self.norm, self.axis_name, self.dtype, INITS[initial],
                remat=self.remat, name='backbone',
            )(images, train)  # fmt: skip
            last = levels["layer4"]
            outputs = {"aux": self._head("aux_head")(levels["layer3"])} if self.aux else {}
        seen = last
        if self.depth:
            outputs["depth"], seen = DepthHead(
                self.fusion, INITS[initial], initial == "he", self.dtype, name="depth_head"
            )(last)
        score = isinstance(sizes, vgg.Sizes) and sizes.score
        main = self._score() if score else self._head("main_head")
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
