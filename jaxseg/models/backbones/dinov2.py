"""DINOv2's vision transformers (Oquab et al., 2023), with and without registers (Darcet et al.,
2024): patches of 14 pixels, a table of positions.
"""

import jax.numpy as jnp

from jaxseg.models.backbones import vit


class Sizes(vit.Sizes):
    """See `vit.Sizes`."""


_PLAIN = {
    "dinov2_vitg14": Sizes(1536, 40, 24, 4096, gated=True),
    "dinov2_vitl14": Sizes(1024, 24, 16, 4096),
    "dinov2_vitb14": Sizes(768, 12, 12, 3072),
    "dinov2_vits14": Sizes(384, 12, 6, 1536),
}
SIZES = {
    **_PLAIN,
    **{f"{name}_reg": sizes._replace(registers=4) for name, sizes in _PLAIN.items()},
    # Nobody published weights of it: for tests, and to try a program.
    "dinov2_tiny": Sizes(32, 4, 2, 64, side=4),
}
FROM_SCRATCH = ("dinov2_tiny",)
STRIDES = (14,)


def make(
    sizes: Sizes,
    *,
    output_stride: int = 14,
    dtype: jnp.dtype = jnp.float32,
    remat: bool = False,
    drop_path: float = 0.0,
    name: str | None = None,
) -> vit.ViT:
    """See `vit.ViT`; the stride is the patch's side."""
    del output_stride
    return vit.ViT(sizes, drop_path, dtype, remat, name=name)
