"""How a vision transformer knows where a patch lies: a learned table resized to any grid (DINOv2),
or queries and keys rotated by their coordinates (DINOv3).
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

OFFSET = 0.1  # see `resize_table`
SHARP, SMOOTH = -0.75, -0.5  # PyTorch's bicubic kernels without and with antialiasing


def _cubic(distance, a):
    """Keys's (1981) kernel of parameter `a` at distances >= 0."""
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = a * (((distance - 5) * distance + 8) * distance - 4)
    return np.where(distance < 1, near, np.where(distance < 2, far, 0.0))


@functools.lru_cache(maxsize=64)
def cubic_matrix(size_in: int, size_out: int, offset: float, antialias: bool) -> np.ndarray:
    """Weights, float64 [size_out, size_in], of a bicubic resize along one axis.

    Args:
      offset: output i lies at (i + 0.5) size_in / (size_out + offset) - 0.5 of the input.
      antialias: widens the kernel when the result is smaller, and leaves out what lies beyond the
        edge; otherwise the edge is repeated.
    """
    scale = size_in / (size_out + offset)
    centre = (np.arange(size_out) + 0.5) * scale
    matrix = np.zeros((size_out, size_in))
    if antialias:
        wide = max(scale, 1.0)
        distance = np.abs(np.arange(size_in)[None] + 0.5 - centre[:, None]) / wide
        matrix = _cubic(distance, SMOOTH)
        matrix /= matrix.sum(1, keepdims=True)
    else:
        position = centre - 0.5
        first = np.floor(position).astype(int)
        for tap in range(-1, 3):
            weights = _cubic(np.abs(position - (first + tap)), SHARP)
            np.add.at(
                matrix,
                (np.arange(size_out), np.clip(first + tap, 0, size_in - 1)),
                weights,
            )
    matrix.setflags(write=False)
    return matrix


def resize_table(table: jax.Array, grid: tuple[int, int], antialias: bool) -> jax.Array:
    """A square table of positions for another grid of patches, as DINOv2 does it.

    Its models without registers were trained with a factor of (size + 0.1) / side handed to the
    resampler, which shifts the sampled positions slightly; those with registers resize to the size
    itself, with antialiasing. A table of the very grid stays as it is.

    Args:
      table: [side, side, C].
      grid: (h, w) patches.
      antialias: the way of the models with registers.

    Returns:
      float32 [h, w, C].
    """
    side = table.shape[0]
    if grid == (side, side):
        return table
    offset = 0.0 if antialias else OFFSET
    rows, columns = (
        jnp.asarray(cubic_matrix(side, size, offset, antialias), jnp.float32) for size in grid
    )
    highest = jax.lax.Precision.HIGHEST
    return jnp.einsum("hi,wj,ijc->hwc", rows, columns, table, precision=highest)


@functools.lru_cache(maxsize=64)
def rotary_angles(grid: tuple[int, int], width: int, base: float = 100.0) -> np.ndarray:
    """Angles, float32 [h w, width], by which the patches of a grid are turned.

    Rows and columns lie at the centres of patches, each axis by its own size from -1 to 1. The
    first quarter of the values are 2 pi row / base^(4 k / width), the next the same of the column,
    and both once more.

    Args:
      grid: (h, w) patches.
      width: of a head, a multiple of 4.
    """
    periods = base ** (4 * np.arange(width // 4) / width)
    axes = [2 * (np.arange(size) + 0.5) / size - 1 for size in grid]
    rows, columns = np.meshgrid(*axes, indexing="ij")
    turns = [2 * np.pi * axis.reshape(-1, 1) / periods for axis in (rows, columns)]
    angles = np.tile(np.concatenate(turns, 1), 2).astype(np.float32)
    angles.setflags(write=False)
    return angles


def rotate(x: jax.Array, grid: tuple[int, int]) -> jax.Array:
    """Turns queries or keys by the positions of their patches (Su et al., RoFormer, 2021).

    Args:
      x: [N, L, heads, d]; the last h w tokens are the patches, those before stay as they are.
      grid: (h, w).

    Returns:
      The same shape and dtype; computed in float32.
    """
    angles = rotary_angles(grid, x.shape[-1])
    angles = jnp.asarray(angles)[:, None]
    others, patches = x[:, : -len(angles)], x[:, -len(angles) :].astype(jnp.float32)
    first, second = jnp.split(patches, 2, -1)
    turned = jnp.concatenate([-second, first], -1)
    patches = patches * jnp.cos(angles) + turned * jnp.sin(angles)
    return jnp.concatenate([others, patches.astype(x.dtype)], 1)
