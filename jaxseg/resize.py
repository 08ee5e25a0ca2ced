"""Bilinear resize as two small matrix products, one per spatial axis.

The reference systems of this field upsample logits with aligned corners: the centres of the corner
pixels of input and output coincide. `jax.image.resize` only offers half-pixel centres (and
antialiases when it shrinks), so aligned corners are written here. Interpolation is linear and
separable: `out = A_h x A_w^T`, where each row of the two matrices has at most two nonzero entries.
The matrices are constants of the compiled program, and their transpose gives the exact gradient.
On a CPU the forward pass interpolates between the two neighbours of each position instead.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxseg import routes


@functools.lru_cache(maxsize=64)
def taps(
    size_in: int, size_out: int, align_corners: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The two neighbours of each output position, int32 [size_out] each, and the second's weight,
    float64 [size_out] in 0..1. The first one's weight is the rest to 1."""
    position = np.arange(size_out, dtype=np.float64)
    if align_corners:
        position = position * ((size_in - 1) / max(size_out - 1, 1))
    else:
        position = (position + 0.5) * (size_in / size_out) - 0.5
    position = np.clip(position, 0, size_in - 1)
    low = np.minimum(np.floor(position).astype(np.int32), size_in - 1)
    return low, np.minimum(low + 1, size_in - 1), position - low


@functools.lru_cache(maxsize=64)
def resize_matrix(size_in: int, size_out: int, align_corners: bool = True) -> np.ndarray:
    """Returns the interpolation matrix [size_out, size_in] in float64; every row sums to one."""
    low, high, weight = taps(size_in, size_out, align_corners)
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
    size = int(size[0]), int(size[1])
    if size == images.shape[1:3]:
        return images
    compute = jnp.promote_types(images.dtype, jnp.float32)
    way = _by_neighbours if routes.current() == "cpu" else _by_matrices
    return way(images.astype(compute), size, align_corners).astype(images.dtype)


def _by_matrices(images, size, align_corners):
    batch, height_in, width_in, channels = images.shape
    height, width = size
    rows = jnp.asarray(resize_matrix(height_in, height, align_corners), images.dtype)
    columns = jnp.asarray(resize_matrix(width_in, width, align_corners), images.dtype)
    # HIGHEST: tensor cores and TPUs would otherwise round the weights to 10 or 8 bits.
    product = functools.partial(
        jnp.einsum, precision=jax.lax.Precision.HIGHEST, preferred_element_type=images.dtype
    )
    # Columns first: the large second product then already has its pixels in memory order, so no
    # array of the result's size is transposed, forward or backward.
    result = product("Ww,nhwc->nhWc", columns, images).reshape(batch, height_in, width * channels)
    result = product("nHh,nhx->nHx", jnp.broadcast_to(rows, (batch, *rows.shape)), result)
    return result.reshape(batch, height, width, channels)


# Two to eleven times faster than the products on a CPU. Its own gradient would be a slow scatter,
# so the gradient is that of the products.
@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _by_neighbours(images, size, align_corners):
    batch, height_in, width_in, channels = images.shape
    height, width = size
    low, high, weight = taps(width_in, width, align_corners)
    weight = jnp.asarray(weight, images.dtype)[:, None]
    across = functools.partial(jnp.take, images, axis=2, mode="clip")
    images = (across(low) * (1 - weight) + across(high) * weight).reshape(batch, height_in, -1)
    low, high, weight = map(jnp.asarray, taps(height_in, height, align_corners))
    weight = weight.astype(images.dtype)

    def set_row(i, result):
        row = images[:, low[i]] * (1 - weight[i]) + images[:, high[i]] * weight[i]
        return result.at[:, i].set(row)

    # Row by row: without a loop XLA would recompute the result in every operation that reads it.
    empty = jnp.zeros((batch, height, images.shape[2]), images.dtype)
    return jax.lax.fori_loop(0, height, set_row, empty).reshape(batch, height, width, channels)


def _by_neighbours_forward(images, size, align_corners):
    return _by_neighbours(images, size, align_corners), images.shape


def _by_neighbours_backward(size, align_corners, shape, gradient):
    way = functools.partial(_by_matrices, size=size, align_corners=align_corners)
    return jax.linear_transpose(way, jax.ShapeDtypeStruct(shape, gradient.dtype))(gradient)


_by_neighbours.defvjp(_by_neighbours_forward, _by_neighbours_backward)
