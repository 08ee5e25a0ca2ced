"""The vision transformers (Dosovitskiy et al., 2021) of DINOv2 (Oquab et al., 2023) and DINOv3
(Simeoni et al., 2025).

One stride throughout: patches of 14 or 16 pixels. DINOv2 learned a table of positions, which is
resized to other images; DINOv3 turns queries and keys by their coordinates, and its keys have no
bias.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxseg.errors import UserError
from jaxseg.models.backbones.stages import Stage, Stages
from jaxseg.models.layers.attention import (
    Dense,
    DropPath,
    LayerNorm,
    attention,
    rising,
    small_normal,
)
from jaxseg.models.layers.layers import Conv, torch_bias, torch_uniform
from jaxseg.models.layers.positions import resize_table, rotate


class Sizes(NamedTuple):
    """The numbers of a transformer.

    Attributes:
      width: channels of a token.
      blocks: how many.
      heads: of attention.
      hidden: channels within the feed-forward layers.
      gated: these are SwiGLU (Shazeer, 2020) instead of GELU layers.
      patch: its side in pixels.
      registers: tokens beside that of the class which belong to no patch.
      side: of the table of positions; 0 for rotated queries and keys.
      epsilon: of all LayerNorms.
      scale: what the factors on residual branches begin with.
    """

    width: int
    blocks: int
    heads: int
    hidden: int
    gated: bool = False
    patch: int = 14
    registers: int = 0
    side: int = 37
    epsilon: float = 1e-6
    scale: float = 1.0


class QueryKeyValue(nn.Module):
    """One linear layer for all three; `key_bias` False leaves the keys without one."""

    key_bias: bool
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> list[jax.Array]:
        width = x.shape[-1]
        kernel = self.param("kernel", small_normal, (width, 3 * width), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (3 * width,), jnp.float32)
        if not self.key_bias:
            bias = bias.at[width : 2 * width].set(0)
        x = jnp.dot(x.astype(self.dtype), kernel.astype(self.dtype)) + bias.astype(self.dtype)
        return jnp.split(x, 3, -1)


class Block(nn.Module):
    """Attention and feed-forward layers, each behind a LayerNorm, with a factor for each channel,
    beside a shortcut.
    """

    sizes: Sizes
    drop_path: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, grid: tuple[int, int], train: bool) -> jax.Array:
        sizes, drop = self.sizes, DropPath(self.drop_path)

        def branch(index, layer):
            norm = LayerNorm(epsilon=sizes.epsilon, dtype=self.dtype, name=f"norm{index}")
            y = layer(norm(x))
            start = nn.initializers.constant(sizes.scale)
            factor = self.param(f"scale{index}", start, (sizes.width,), jnp.float32)
            return x + drop(y * factor.astype(y.dtype), train)

        x = branch(1, lambda y: self._attention(y, grid))
        return branch(2, self._feed_forward)

    def _attention(self, x, grid):
        heads = (*x.shape[:2], self.sizes.heads, -1)
        projections = QueryKeyValue(self.sizes.side > 0, self.dtype, name="qkv")(x)
        query, key, value = (part.reshape(heads) for part in projections)
        if not self.sizes.side:
            query, key = rotate(query, grid), rotate(key, grid)
        found = attention(query, key, value).reshape(x.shape)
        return Dense(self.sizes.width, dtype=self.dtype, name="proj")(found)

    def _feed_forward(self, x):
        hidden = Dense(self.sizes.hidden, dtype=self.dtype, name="fc1")(x)
        if self.sizes.gated:
            gate = Dense(self.sizes.hidden, dtype=self.dtype, name="gate")(x)
            hidden = jax.nn.silu(gate) * hidden
        else:
            hidden = jax.nn.gelu(hidden, approximate=False)
        return Dense(self.sizes.width, dtype=self.dtype, name="fc2")(hidden)


class ViT(nn.Module):
    """The encoder.

    Attributes:
      sizes: see `Sizes`.
      drop_path: rate of the last block; it rises linearly from 0 in the first. See `DropPath` for
        what it draws from.
      dtype: computation dtype.
      remat: keeps only the blocks' inputs for the backward pass; see `resnet.ResNet`.
    """

    sizes: Sizes
    drop_path: float = 0.0
    dtype: jnp.dtype = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(self, images: jax.Array, train: bool, hidden: jax.Array | None = None) -> Stages:
        """The patches' tokens after each quarter of the blocks, all through the last LayerNorm.

        Args:
          images: normalised [N, H, W, 3], H and W multiples of the patch.
          train: whether drop path is on.
          hidden: bool [N, h, w]: patches that a learned token takes the place of.

        Returns:
          'stage1' to 'stage4', [N, H / patch, W / patch, width] each.

        Raises:
          UserError: sides that are no multiples of the patch.
        """
        sizes = self.sizes
        if any(side % sizes.patch for side in images.shape[1:3]):
            raise UserError(
                f"images of {images.shape[1]}x{images.shape[2]} for patches of {sizes.patch}: give "
                "sides that are multiples of it"
            )
        x, grid = self._tokens(images, hidden)
        block_class = nn.remat(Block, static_argnums=(2, 3)) if self.remat else Block
        norm = LayerNorm(epsilon=sizes.epsilon, dtype=self.dtype, name="norm")
        stages, rates = {}, rising(self.drop_path, sizes.blocks)
        ends = {sizes.blocks * quarter // 4: quarter for quarter in range(1, 5)}
        for index, rate in enumerate(rates):
            x = block_class(sizes, rate, self.dtype, name=f"block{index}")(x, grid, train)
            if index + 1 in ends:
                patches = norm(x)[:, 1 + sizes.registers :].reshape(len(x), *grid, sizes.width)
                stages[f"stage{ends[index + 1]}"] = Stage(patches, sizes.patch)
        return stages

    def _tokens(self, images, hidden):
        """Tokens [N, 1 + registers + h w, width], and (h, w)."""
        sizes, width = self.sizes, self.sizes.width

        def learned(name, init, *shape):
            return self.param(name, init, (*shape, width), jnp.float32)

        normal, zeros = nn.initializers.normal, nn.initializers.zeros
        x = Conv(
            width, sizes.patch, stride=sizes.patch, dtype=self.dtype, kernel_init=torch_uniform,
            bias_init=torch_bias(3 * sizes.patch**2), name='patch_embed',
        )(images)  # fmt: skip
        batch, grid = len(x), x.shape[1:3]
        mask_token = learned("mask_token", zeros, 1)
        if hidden is not None:
            x = jnp.where(hidden[..., None], mask_token.astype(x.dtype), x)
        extra = learned("cls_token", normal(1e-6 if sizes.side else 0.02), 1)
        if sizes.side:
            extra = extra + learned("cls_position", small_normal, 1)
            table = learned("positions", small_normal, sizes.side, sizes.side)
            x = x + resize_table(table, grid, antialias=sizes.registers > 0).astype(x.dtype)
        if sizes.registers:
            start = normal(1e-6 if sizes.side else 0.02)
            extra = jnp.concatenate([extra, learned("registers", start, sizes.registers)])
        extra = jnp.broadcast_to(extra.astype(x.dtype), (batch, *extra.shape))
        return jnp.concatenate([extra, x.reshape(batch, -1, width)], 1), grid
