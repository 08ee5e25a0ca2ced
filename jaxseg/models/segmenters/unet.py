"""U-Net (Ronneberger et al., 2015) with padded convolutions and a norm of choice."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxseg.models.layers.blocks import ConvNorm
from jaxseg.models.layers.layers import Conv, max_pool
from jaxseg.resize import resize_bilinear

# The encoder's channels at each resolution; a decoder level outputs the channels of the level above
# it.
SIZES = {
    "unet": (64, 128, 256, 512, 512),  # the MiniCity tutorial's; the paper ends with 1024
    "small": (12, 24, 48, 64, 64),
    "tiny": (4, 4, 4, 4, 4),  # to try a program, not to learn
}
BACKBONES = SIZES


class Level(nn.Module):
    """Two 3x3 convolutions with norm and activation."""

    features: int
    norm: str
    axis_name: str | None
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        for name in ("first", "second"):
            x = ConvNorm(
                self.features, norm=self.norm, axis_name=self.axis_name, dtype=self.dtype, name=name
            )(x, train)
        return x


class Encoder(nn.Module):
    """Levels with 2x2 max-pooling between them; an odd last row or column is pooled alone."""

    widths: tuple[int, ...]
    norm: str
    axis_name: str | None
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> list[jax.Array]:
        levels = []
        for index, width in enumerate(self.widths, start=1):
            x = max_pool(x, 2, 2, ceil_mode=True) if levels else x
            x = Level(width, self.norm, self.axis_name, self.dtype, name=f"level{index}")(x, train)
            levels.append(x)
        return levels


class Decoder(nn.Module):
    """Doubles the resolution level by level, concatenates the encoder's map, and outputs logits.

    Maps are enlarged bilinearly with half-pixel centres, the centres of the pooling windows, and
    cropped at the right and bottom to the encoder's map, so that sizes that are not multiples of 16
    stay aligned.
    """

    num_classes: int
    norm: str
    axis_name: str | None
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, levels: list[jax.Array], train: bool) -> jax.Array:
        x = levels[-1]
        for index in range(len(levels) - 1, 0, -1):
            skip = levels[index - 1]
            height, width = skip.shape[1:3]
            x = resize_bilinear(x, (2 * x.shape[1], 2 * x.shape[2]), align_corners=False)
            x = jnp.concatenate([skip, x[:, :height, :width]], -1)
            features = levels[max(index - 2, 0)].shape[-1]
            x = Level(features, self.norm, self.axis_name, self.dtype, name=f"level{index}")(
                x, train
            )
        return Conv(self.num_classes, 1, dtype=self.dtype, name="logits")(x)


class UNet(nn.Module):
    """U-Net with bilinear enlargement. Its logits have the image's size.

    Parameters are grouped as 'backbone' (the way down) and 'main_head' (the way up). It has no
    dropout.

    Attributes:
      num_classes: K.
      backbone: a name in `SIZES`, or the widths themselves.
      norm, axis_name: see `layers.Norm`.
      dtype: computation dtype, float32 or bfloat16.
    """

    num_classes: int
    backbone: str | tuple[int, ...] = "unet"
    norm: str = "train"
    axis_name: str | None = None
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> dict[str, jax.Array]:
        """Maps normalised [N, H, W, 3] to float32 {'main': [N, H, W, K]}."""
        if isinstance(self.backbone, str) and self.backbone not in SIZES:
            raise ValueError(f"U-Net {self.backbone!r} is not one of {sorted(SIZES)}")
        widths = SIZES[self.backbone] if isinstance(self.backbone, str) else self.backbone
        shared = dict(norm=self.norm, axis_name=self.axis_name, dtype=self.dtype)
        levels = Encoder(tuple(widths), **shared, name="backbone")(images, train)
        logits = Decoder(self.num_classes, **shared, name="main_head")(levels, train)
        return {"main": logits.astype(jnp.float32)}


def make(
    num_classes: int,
    backbone: str | tuple[int, ...],
    *,
    norm: str = "train",
    axis_name: str | None = None,
    dtype: jnp.dtype = jnp.float32,
) -> UNet:
    """See `UNet`."""
    return UNet(num_classes, backbone, norm, axis_name, dtype)
