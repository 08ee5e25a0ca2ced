"""The plain head on a vision transformer of VFM-UDA (Englert et al., "Exploring the Benefits of
Vision Foundation Models for Unsupervised Domain Adaptation", 2024).
"""

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxseg.errors import UserError
from jaxseg.models.backbones import build as backbones
from jaxseg.models.backbones import vit
from jaxseg.models.layers.attention import LayerNorm
from jaxseg.models.layers.layers import Conv, torch_uniform
from jaxseg.models.segmenters.segformer import finish, plain
from jaxseg.resize import resize_bilinear

ENLARGE = 1.1  # images are resized by about so much, to whole patches


def _uniform(key, shape, dtype=jnp.float32):
    """PyTorch's first values of a transposed convolution, whose fan it counts from the outputs."""
    bound = 1 / math.sqrt(shape[0] * shape[1] * shape[3])
    return jax.random.uniform(key, shape, dtype, -bound, bound)


class Doubling(nn.Module):
    """Transposed 2x2 convolution of stride 2 without bias: every pixel becomes four."""

    features: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        batch, height, width, channels = x.shape
        kernel = self.param("kernel", _uniform, (2, 2, channels, self.features), jnp.float32)
        y = jnp.einsum("nhwc,abck->nhawbk", x.astype(self.dtype), kernel.astype(self.dtype))
        return y.reshape(batch, 2 * height, 2 * width, self.features)


class Head(nn.Module):
    """Two transposed convolutions and a 3x3 one with LayerNorms over channels, then logits.

    Attributes:
      num_classes: K.
      dtype: computation dtype.
    """

    num_classes: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [N, h, w, C] to logits float32 [N, 4 h, 4 w, K]."""
        channels = x.shape[-1]

        def norm(index, x):
            return LayerNorm(epsilon=1e-6, dtype=self.dtype, name=f"norm{index}")(x)

        x = norm(1, Doubling(channels // 2, self.dtype, name="up1")(x))
        x = jax.nn.gelu(x, approximate=False)
        x = norm(2, Doubling(channels // 4, self.dtype, name="up2")(x))
        plain = dict(use_bias=False, dtype=self.dtype)
        x = Conv(channels // 4, 3, padding=1, kernel_init=torch_uniform, name="refine", **plain)(x)
        start = nn.initializers.normal(0.1)
        logits = Conv(self.num_classes, 1, kernel_init=start, name="logits", **plain)(norm(3, x))
        return logits.astype(jnp.float32)


class VFM(nn.Module):
    """A vision transformer with `Head`; parameters are grouped as 'backbone' and 'main_head'.

    Attributes:
      num_classes: K.
      backbone: a `vit.ViT`; its last stage is read.
      upsample: logits have the images' size, else 4 for each patch and axis.
      features: also returns the last stage.
      dtype: computation dtype.
    """

    num_classes: int
    backbone: vit.ViT
    upsample: bool = True
    features: bool = False
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(
        self, images: jax.Array, train: bool, mask_ratio: float = 0.0
    ) -> dict[str, jax.Array]:
        """Maps normalised [N, H, W, 3] to float32 {'main': [N, H, W, K], 'features'?}.

        Args:
          mask_ratio: in training, each patch gives way to the learned mask token with this
            probability, drawn from the stream 'dropout' (MIC's masked images, as tokens).

        Raises:
          UserError: images smaller than a patch.
        """
        patch, size = self.backbone.sizes.patch, images.shape[1:3]
        seen = tuple(int(side * ENLARGE // patch) * patch for side in size)
        if min(seen) < 1:
            raise UserError(f"images of {size[0]}x{size[1]} are smaller than a patch of {patch}")
        hidden = None
        if train and mask_ratio:
            grid = (len(images), *(side // patch for side in seen))
            hidden = jax.random.bernoulli(self.make_rng("dropout"), mask_ratio, grid)
        enlarged = resize_bilinear(images, seen, align_corners=False)
        stages = self.backbone(enlarged, train, hidden)
        logits = Head(self.num_classes, self.dtype, name="main_head")(stages["stage4"].features)
        return finish(logits, stages, size if self.upsample else None, self.features)


def make(
    num_classes: int,
    backbone: backbones.Backbone,
    *,
    dtype: jnp.dtype = jnp.float32,
    remat: bool = False,
    trunk: Mapping[str, Any] | tuple = (),
) -> VFM:
    """See `VFM`; its logits have the images' size.

    Raises:
      UserError: a backbone that is no vision transformer.
    """
    if not isinstance(backbones.sizes_of(backbone), vit.Sizes):
        known = [name for name in backbones.names() if name.startswith("dino")]
        raise UserError(f"config.net.backbone={backbone}; vfm has {', '.join(known)}")
    built = plain(backbone, "train", None, dtype, remat, trunk)
    return VFM(num_classes, built, features=True, dtype=dtype)
