"""Depthwise convolution: every channel has its own kernel (Howard et al., MobileNets, 2017).

On GPU and TPU it is XLA's grouped convolution. XLA's CPU backend computes that 7 to 60 times slower
than what follows (`benchmarks/depthwise.py`), so the CPU uses sums of shifted products:

- forward: one product and sum per kernel element, which XLA fuses into one loop;
- gradient for the input: the same with the mirrored kernel; with a stride, one such sum for each
  row and column index modulo the stride, interleaved by a reshape, without inserted zeros;
- gradient for the kernel: a loop over the rows of all images adds each row's products to one sum
  [W, C] for each kernel element; rows and sums stay in the cache. A reduction over all positions,
  as XLA compiles the plain formula, takes ten times as long.
"""

import functools

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from jaxseg import routes
from jaxseg.models.layers.layers import Initializer

Pair = tuple[int, int]
# 'fan_out' would count all channels, although each input channel feeds one output channel only.
he_depthwise = nn.initializers.variance_scaling(2.0, "fan_in", "normal")


def same_padding(size: int, kernel: int, stride: int = 1, dilation: int = 1) -> Pair:
    """Numbers of zeros before and after an axis in TensorFlow's padding 'SAME'.

    The result has ceil(size / stride) values. If the number of zeros is odd, the extra one is at
    the end; at stride 2 and even sizes the windows therefore differ from PyTorch's.
    """
    count = -(-size // stride)
    total = max((count - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
    return total // 2, total - total // 2


def depthwise(
    x: jax.Array,
    kernel: jax.Array,
    stride: int = 1,
    padding: tuple[Pair, Pair] = ((0, 0), (0, 0)),
    dilation: int = 1,
    shifted: bool | None = None,
) -> jax.Array:
    """Cross-correlation of every channel with its own kernel.

    Args:
      x: [N, H, W, C].
      kernel: [kh, kw, 1, C], of the dtype of `x`.
      stride, dilation: the same for rows and columns.
      padding: ((top, bottom), (left, right)) zeros.
      shifted: True for sums of shifted products, False for XLA's grouped convolution; None chooses
        by platform (see `routes`). The former has a custom reverse rule, hence no forward mode.

    Returns:
      [N, H', W', C].

    Raises:
      ValueError: shapes or dtypes that do not match.
    """
    if x.ndim != 4 or kernel.shape[2:] != (1, x.shape[-1]) or x.dtype != kernel.dtype:
        raise ValueError(
            f"depthwise wants [N, H, W, C] and [kh, kw, 1, C] of one dtype, got {x.shape} "
            f"{x.dtype} and {kernel.shape} {kernel.dtype}"
        )
    if shifted if shifted is not None else routes.current() == "cpu":
        return _shifted(x, kernel[:, :, 0], stride, padding, dilation)
    return lax.conv_general_dilated(
        x, kernel, (stride, stride), padding, rhs_dilation=(dilation, dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=x.shape[-1],
    )  # fmt: skip


class DepthwiseConv(nn.Module):
    """Depthwise convolution without bias, padded as TensorFlow's 'SAME'.

    Attributes:
      kernel: side of the square kernel.
      stride, dilation: the same for both axes.
      dtype: computation dtype.
      kernel_init: `(key, shape, dtype) -> array`, of the shape [kernel, kernel, 1, C].
      shifted: see `depthwise`.
    """

    kernel: int = 3
    stride: int = 1
    dilation: int = 1
    dtype: jnp.dtype = jnp.float32
    kernel_init: Initializer = he_depthwise
    shifted: bool | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [N, H, W, C] to [N, h, w, C]."""
        shape = (self.kernel, self.kernel, 1, x.shape[-1])
        kernel = self.param("kernel", self.kernel_init, shape, jnp.float32).astype(self.dtype)
        padding = tuple(
            same_padding(size, self.kernel, self.stride, self.dilation) for size in x.shape[1:3]
        )
        x = x.astype(self.dtype)
        return depthwise(x, kernel, self.stride, padding, self.dilation, self.shifted)


def _taps(kernel):
    return [(row, column) for row in range(kernel.shape[0]) for column in range(kernel.shape[1])]


def _parts(padded, taps, size, stride, dilation):
    """The part [N, *size, C] of the padded input that each kernel element is multiplied by."""
    height, width = size
    for row, column in taps:
        top, left = row * dilation, column * dilation
        bottom, right = top + (height - 1) * stride + 1, left + (width - 1) * stride + 1
        yield _slice(padded, (top, left), (bottom, right), stride)


def _slice(x, low, high, stride=1):
    """x[:, rows, columns]; NumPy's notation takes JAX ten times as long to trace."""
    low, high = (0, *low, 0), (x.shape[0], *high, x.shape[3])
    return lax.slice(x, low, high, (1, stride, stride, 1))


def _pad(x, padding):
    """Pads a map with zeros; negative numbers crop it."""
    edges = ((0, 0, 0), *((low, high, 0) for low, high in padding), (0, 0, 0))
    return lax.pad(x, jnp.zeros((), x.dtype), edges)


def _sum(x, kernel, stride, padding, dilation):
    """The convolution as one sum, in float32 or wider; `kernel` is [kh, kw, C]."""
    padded = _pad(x, padding)
    reach = [(side - 1) * dilation for side in kernel.shape[:2]]
    size = [(n - r - 1) // stride + 1 for n, r in zip(padded.shape[1:3], reach, strict=True)]
    wide = jnp.promote_types(x.dtype, jnp.float32)
    kernel, total = kernel.astype(wide), 0
    taps = _taps(kernel)
    for tap, part in zip(taps, _parts(padded, taps, size, stride, dilation), strict=True):
        total = total + part.astype(wide) * kernel[tap]
    return total.astype(x.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _shifted(x, kernel, stride, padding, dilation):
    return _sum(x, kernel, stride, padding, dilation)


def _shifted_forward(x, kernel, stride, padding, dilation):
    return _shifted(x, kernel, stride, padding, dilation), (x, kernel)


def _shifted_backward(stride, padding, dilation, saved, gradient):
    x, kernel = saved
    # Both gradients read it many times; the barrier keeps XLA from recomputing it each time.
    gradient = lax.optimization_barrier(gradient)
    if stride == 1:
        edges = tuple(
            ((side - 1) * dilation - low, (side - 1) * dilation - high)
            for (low, high), side in zip(padding, kernel.shape[:2], strict=True)
        )
        to_x = _sum(gradient, kernel[::-1, ::-1], 1, edges, dilation)
    else:
        to_x = _through_stride(x.shape, kernel, stride, padding, dilation, gradient)
    return to_x, _to_kernel(x, kernel, stride, padding, dilation, gradient)


def _through_stride(shape, kernel, stride, padding, dilation, gradient):
    """Gradient for the input of a strided convolution.

    Row p of the padded input is multiplied by kernel row r for output (p - r dilation) / stride. So
    rows p use those kernel rows r for which p and r dilation are equal modulo the stride.
    """
    batch, *sizes, channels = shape
    reach = [(side - 1) * dilation for side in kernel.shape[:2]]
    counts = [-(-(n + low) // stride) for n, (low, _) in zip(sizes, padding, strict=True)]
    wide = jnp.promote_types(gradient.dtype, jnp.float32)
    edges = [
        (r // stride, count - n)
        for r, n, count in zip(reach, gradient.shape[1:3], counts, strict=True)
    ]
    padded = _pad(gradient, edges)
    phases = []
    for phase in ((row, column) for row in range(stride) for column in range(stride)):
        total = jnp.zeros((batch, *counts, channels), wide)
        for row, column in _taps(kernel):
            offsets = [place * dilation - p for place, p in zip((row, column), phase, strict=True)]
            if any(offset % stride for offset in offsets):
                continue
            top, left = (e - o // stride for (e, _), o in zip(edges, offsets, strict=True))
            part = _slice(padded, (top, left), (top + counts[0], left + counts[1]))
            total = total + part.astype(wide) * kernel[row, column].astype(wide)
        phases.append(total.astype(gradient.dtype))
    joined = jnp.stack(phases).reshape(stride, stride, batch, *counts, channels)
    joined = joined.transpose(2, 3, 0, 4, 1, 5)
    joined = joined.reshape(batch, counts[0] * stride, counts[1] * stride, channels)
    (top, _), (left, _) = padding
    return joined[:, top : top + sizes[0], left : left + sizes[1]]


def _to_kernel(x, kernel, stride, padding, dilation, gradient):
    """Gradient for the kernel [kh, kw, C]."""
    batch, height, width, channels = gradient.shape
    rows, columns = kernel.shape[:2]
    wide = jnp.promote_types(x.dtype, jnp.float32)
    padded = lax.optimization_barrier(_pad(x, padding))
    reach = (rows - 1) * dilation + 1
    span = (width - 1) * stride + 1

    # One sum for each kernel column: one for each element would be hundreds of loops to compile.
    def add_row(index, sums):
        image, row = index // height, index % height
        start = (image, row * stride, 0, 0)
        seen = lax.dynamic_slice(padded, start, (1, reach, *padded.shape[2:])).astype(wide)
        share = lax.dynamic_slice(gradient, (image, row, 0, 0), (1, 1, width, channels))
        lefts = [column * dilation for column in range(columns)]
        parts = [
            lax.slice(
                seen, (0, 0, left, 0), (1, reach, left + span, channels), (1, dilation, stride, 1)
            )
            for left in lefts
        ]
        return tuple(total + part * share for total, part in zip(sums, parts, strict=True))

    zeros = (jnp.zeros((1, rows, width, channels), wide),) * columns
    sums = lax.fori_loop(0, batch * height, add_row, zeros)
    return jnp.stack([total.sum((0, 2)) for total in sums], 1).astype(kernel.dtype)


_shifted.defvjp(_shifted_forward, _shifted_backward)
