"""Depthwise transposed convolution: the upsampling of fully convolutional networks (Long et al.,
2015), which is bilinear initially, and in the published networks always.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


def bilinear_kernel(size: int) -> np.ndarray:
    """The kernel, float32 [size, size], of a transposed convolution that upsamples bilinearly by
    the factor (size + 1) // 2; both odd and even sizes are centred.
    """
    factor = (size + 1) // 2
    distance = np.abs(np.arange(size) - (size - 1) / 2) / factor
    line = 1 - distance
    return np.outer(line, line).astype(np.float32)


def upsample(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """Transposed convolution without padding, one kernel per channel.

    Every pixel of the input adds the kernel times its value to the output. Output rows with equal
    index modulo the stride use the same few kernel rows, so that they are computed together as a
    sum of products with shifted inputs, without inserted zeros.

    Args:
      x: [N, h, w, C].
      kernel: [k, k, C], or [k, k, 1] for one kernel for all channels.
      stride: the factor of enlargement.

    Returns:
      [N, (h - 1) stride + k, (w - 1) stride + k, C].
    """
    batch, height, width, channels = x.shape
    size = kernel.shape[0]
    blocks = -(-size // stride)
    edge = blocks * stride - size
    kernel = jnp.pad(kernel, ((0, edge), (0, edge), (0, 0)))
    kernel = kernel.reshape(blocks, stride, blocks, stride, -1)
    zero, total = jnp.zeros((), x.dtype), 0
    for row in range(blocks):
        for column in range(blocks):
            edges = [(shift, blocks - 1 - shift, 0) for shift in (row, column)]
            moved = lax.pad(x, zero, ((0, 0, 0), *edges, (0, 0, 0)))
            total = total + moved[:, :, None, :, None] * kernel[row, :, column][:, None]
    y = total.reshape(batch, total.shape[1] * stride, total.shape[3] * stride, channels)
    return y[:, : (height - 1) * stride + size, : (width - 1) * stride + size]
