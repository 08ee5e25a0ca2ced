"""The Mix Transformer encoders of SegFormer (Xie et al., "SegFormer: Simple and Efficient Design
for Semantic Segmentation with Transformers", 2021).

There is no table of positions: the depthwise convolution within each block tells them, so that
images may have any size. The published weights were made with two epsilons, of the framework's
LayerNorm (1e-5) behind convolutions and another (1e-6) elsewhere.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxseg.models.backbones.stages import Stage, Stages
from jaxseg.models.layers.attention import (
    Dense,
    DropPath,
    LayerNorm,
    attention,
    conv_normal,
    rising,
)
from jaxseg.models.layers.layers import Conv

BEHIND_CONV, ELSEWHERE = 1e-5, 1e-6  # epsilons


class Sizes(NamedTuple):
    """The numbers of an encoder, by stage.

    Attributes:
      widths: channels.
      blocks: how many.
      heads: of attention.
      reductions: keys and values are taken from the map reduced by this factor per axis.
      ratio: hidden channels of the feed-forward layers for each channel.
    """

    widths: tuple[int, int, int, int]
    blocks: tuple[int, int, int, int]
    heads: tuple[int, int, int, int] = (1, 2, 5, 8)
    reductions: tuple[int, int, int, int] = (8, 4, 2, 1)
    ratio: int = 4


WIDE = (64, 128, 320, 512)
SIZES = {
    "mit_b0": Sizes((32, 64, 160, 256), (2, 2, 2, 2)),
    "mit_b1": Sizes(WIDE, (2, 2, 2, 2)),
    "mit_b2": Sizes(WIDE, (3, 4, 6, 3)),
    "mit_b3": Sizes(WIDE, (3, 4, 18, 3)),
    "mit_b4": Sizes(WIDE, (3, 8, 27, 3)),
    "mit_b5": Sizes(WIDE, (3, 6, 40, 3)),
    # Nobody published weights of it: for tests, and for training from scratch on a CPU.
    "mit_tiny": Sizes((16, 32, 48, 64), (1, 1, 1, 1), heads=(1, 2, 3, 4)),
}


class Attention(nn.Module):
    """Self-attention whose keys and values come from a map reduced by a strided convolution."""

    heads: int
    reduction: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        batch, height, width, channels = x.shape

        def split(tokens):
            return tokens.reshape(batch, -1, self.heads, channels // self.heads)

        query, seen = Dense(channels, dtype=self.dtype, name="q")(x), x
        if self.reduction > 1:
            seen = Conv(
                channels, self.reduction, stride=self.reduction, dtype=self.dtype,
                kernel_init=conv_normal(), name='sr',
            )(x)  # fmt: skip
            seen = LayerNorm(epsilon=BEHIND_CONV, dtype=self.dtype, name="norm")(seen)
        both = Dense(2 * channels, dtype=self.dtype, name="kv")(seen)
        key, value = jnp.split(both, 2, -1)
        found = attention(split(query), split(key), split(value)).reshape(x.shape)
        return Dense(channels, dtype=self.dtype, name="proj")(found)


class FeedForward(nn.Module):
    """Two pointwise layers with a depthwise 3x3 convolution, then the activation, in between."""

    ratio: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        channels, hidden = x.shape[-1], self.ratio * x.shape[-1]
        x = Dense(hidden, dtype=self.dtype, name="fc1")(x)
        x = Conv(
            hidden, 3, padding=1, groups=hidden, dtype=self.dtype,
            kernel_init=conv_normal(hidden), name='dwconv',
        )(x)  # fmt: skip
        x = jax.nn.gelu(x, approximate=False)
        return Dense(channels, dtype=self.dtype, name="fc2")(x)


class Block(nn.Module):
    """Attention and feed-forward layers, each behind a LayerNorm and beside a shortcut."""

    heads: int
    reduction: int
    ratio: int
    drop_path: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        drop = DropPath(self.drop_path)
        y = LayerNorm(epsilon=ELSEWHERE, dtype=self.dtype, name="norm1")(x)
        x = x + drop(Attention(self.heads, self.reduction, self.dtype, name="attn")(y), train)
        y = LayerNorm(epsilon=ELSEWHERE, dtype=self.dtype, name="norm2")(x)
        return x + drop(FeedForward(self.ratio, self.dtype, name="mlp")(y), train)


class MiT(nn.Module):
    """The encoder.

    Attributes:
      sizes: see `Sizes`.
      drop_path: rate of the last block; it rises linearly from 0 in the first. See `DropPath` for
        what it draws from.
      dtype: computation dtype.
      remat: keeps only the blocks' inputs for the backward pass; see `resnet.ResNet`.
    """

    sizes: Sizes = SIZES["mit_b5"]
    drop_path: float = 0.1
    dtype: jnp.dtype = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> Stages:
        """Maps normalised [N, H, W, 3] to four stages of strides 4, 8, 16, 32: [N, h, w, widths[i]]
        with h = H / stride, rounded up.

        Where a map does not divide by a stage's reduction, its last rows and columns are no keys
        and values; sides that are multiples of 32 lose none. They must be at least 32.
        """
        block_class = nn.remat(Block, static_argnums=(2,)) if self.remat else Block
        rates = iter(rising(self.drop_path, sum(self.sizes.blocks)))
        stages, x, stride = {}, images, 1
        for index in range(4):
            stage, step = index + 1, 4 if index == 0 else 2
            side = 7 if index == 0 else 3
            x = Conv(
                self.sizes.widths[index], side, stride=step, padding=side // 2, dtype=self.dtype,
                kernel_init=conv_normal(), name=f'patch_embed{stage}_proj',
            )(x)  # fmt: skip
            x = LayerNorm(
                epsilon=BEHIND_CONV, dtype=self.dtype, name=f'patch_embed{stage}_norm'
            )(x)  # fmt: skip
            for block in range(self.sizes.blocks[index]):
                x = block_class(
                    self.sizes.heads[index], self.sizes.reductions[index], self.sizes.ratio,
                    next(rates), self.dtype, name=f'stage{stage}_block{block}',
                )(x, train)  # fmt: skip
            x = LayerNorm(epsilon=ELSEWHERE, dtype=self.dtype, name=f"norm{stage}")(x)
            stride *= step
            stages[f"stage{stage}"] = Stage(x, stride)
        return stages


FROM_SCRATCH = ("mit_tiny",)
STRIDES = (32,)


def make(
    sizes: Sizes,
    *,
    output_stride: int = 32,
    dtype: jnp.dtype = jnp.float32,
    remat: bool = False,
    drop_path: float = 0.1,
    name: str | None = None,
) -> MiT:
    """See `MiT`; the stride of the last stage is 32."""
    del output_stride
    return MiT(sizes, drop_path, dtype, remat, name=name)
