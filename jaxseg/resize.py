"""Bilinear resize as two small matrix products, one per spatial axis.

The reference systems of this field upsample logits with aligned corners: the centres of the corner
pixels of input and output coincide. `jax.image.resize` only knows half-pixel centres (and smooths
when it shrinks), so it is written here once. Interpolation is linear and separable, hence `out =
A_h x A_w^T` with two matrices that hold at most two entries per row; they are constants of the
compiled program, and their transpose is the exact gradient.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np


@functools.lru_cache(maxsize=64)
def resize_matrix(size_in: int, size_out: int, align_corners: bool = True) -> np.ndarray:
    """Returns the interpolation matrix [size_out, size_in] in float64; every row sums to one."""
    position = np.arange(size_out, dtype=np.float64)
    if align_corners:
        position = position * ((size_in - 1) / max(size_out - 1, 1))
    else:
        position = (position + 0.5) * (size_in / size_out) - 0.5
    position = np.clip(position, 0, size_in - 1)
    low = np.minimum(np.floor(position).astype(np.int64), size_in - 1)
    high = np.minimum(low + 1, size_in - 1)
    weight = position - low
    matrix = np.zeros((size_out, size_in))
    rows = np.arange(size_out)
    np.add.at(matrix, (rows, low), 1 - weight)
    np.add.at(matrix, (rows, high), weight)
    matrix.setflags(write=False)
    return matrix


def resize_bilinear(
    images: jax.Array, size: tuple[int, int], align_corners: bool = True
) -> jax.Array:
    """Resizes feature maps bilinearly, as `torch.nn.functional.interpolate` does without
    antialiasing.

    Args:
      images: [N, h, w, C], floating point.
      size: (H, W) of the result.
      align_corners: corner centres coincide (the references' choice); otherwise half-pixel centres.

    Returns:
      [N, H, W, C] in the dtype of `images`; sums are taken in float32 (float64 for float64).

    Raises:
      ValueError: `images` is not of rank 4 or not floating point, or `size` is not two positive
        integers.
    """
    if images.ndim != 4:
        raise ValueError(f"resize_bilinear wants [N, h, w, C], got shape {images.shape}")
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise ValueError(f"resize_bilinear wants floating point, got {images.dtype}")
    if len(size) != 2 or min(size) < 1 or 0 in images.shape[1:3]:
        raise ValueError(f"cannot resize {images.shape} to {size}: wants a positive (H, W)")
    batch, height_in, width_in, channels = images.shape
    height, width = int(size[0]), int(size[1])
    if (height, width) == (height_in, width_in):
        return images
    compute = jnp.promote_types(images.dtype, jnp.float32)
    rows = jnp.asarray(resize_matrix(height_in, height, align_corners), compute)
    columns = jnp.asarray(resize_matrix(width_in, width, align_corners), compute)
    # HIGHEST: tensor cores and TPUs would otherwise round the weights to 10 or 8 bits.
    product = functools.partial(
        jnp.einsum, precision=jax.lax.Precision.HIGHEST, preferred_element_type=compute
    )
    result = images.astype(compute)
    # Columns first: the large second product then has its pixels in order already, image by image,
    # and nothing of the result's size is transposed, forward or backward.
    result = product("Ww,nhwc->nhWc", columns, result).reshape(batch, height_in, width * channels)
    result = product("nHh,nhx->nHx", jnp.broadcast_to(rows, (batch, *rows.shape)), result)
    return result.reshape(batch, height, width, channels).astype(images.dtype)
