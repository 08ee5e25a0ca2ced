"""DINOv3's vision transformers (Simeoni et al., 2025): patches of 16 pixels, rotated queries and
keys, four registers.
"""

import jax.numpy as jnp

from jaxseg.models.backbones import vit


class Sizes(vit.Sizes):
    """See `vit.Sizes`."""


def _sizes(*numbers, gated=False):
    return Sizes(*numbers, gated, 16, registers=4, side=0, epsilon=1e-5, scale=1e-5)


SIZES = {
    "dinov3_vit7b16": _sizes(4096, 40, 32, 8192, gated=True),
    "dinov3_vith16plus": _sizes(1280, 32, 20, 5120, gated=True),
    "dinov3_vitl16plus": _sizes(1024, 24, 16, 4096, gated=True),
    "dinov3_vitl16": _sizes(1024, 24, 16, 4096),
    "dinov3_vitb16": _sizes(768, 12, 12, 3072),
    "dinov3_vits16plus": _sizes(384, 12, 6, 1536, gated=True),
    "dinov3_vits16": _sizes(384, 12, 6, 1536),
    # Nobody published weights of it: for tests, and to try a program.
    "dinov3_tiny": _sizes(32, 4, 2, 64),
}
FROM_SCRATCH = ("dinov3_tiny",)
STRIDES = (16,)


def make(
    sizes: Sizes,
    *,
    output_stride: int = 16,
    dtype: jnp.dtype = jnp.float32,
    remat: bool = False,
    drop_path: float = 0.0,
    name: str | None = None,
) -> vit.ViT:
    """See `vit.ViT`; the stride is the patch's side."""
    del output_stride
    return vit.ViT(sizes, drop_path, dtype, remat, name=name)
