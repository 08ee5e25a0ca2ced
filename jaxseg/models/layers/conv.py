"""The one 2-D convolution that every network uses.

On GPU and TPU it is XLA's. XLA's CPU backend computes some convolutions, above all the gradients
with respect to the kernel and through a stride, several times slower than equivalent matrix
products. So the CPU takes other routes to the same numbers, each chosen by measurement:

- 1x1: one matrix product, forward and backward;
- channel counts for which XLA's CPU library is slow: padded with a few zero channels;
- few outputs for many inputs (the heads): one product with all kernel elements at once, then shift
  and add;
- stride: the gradient for the input is one dense convolution for each row index modulo the stride,
  interleaved by a reshape;
- wide kernels: the gradient for the kernel is one matrix product per kernel element; at stride 1
  and on small maps each gradient is one product with the output's gradient gathered for all
  elements;
- stride 2 and few channels: the gradient for the kernel is that of a dense convolution over the
  input's 2x2 blocks, taken as channels;
- a few groups: one convolution each, three to sixteen times faster with its gradients.

The route is chosen while tracing, by `routes.current()`: a function traced for a GPU and then run
on a CPU is correct, only slower. The CPU routes have custom reverse rules, hence no forward mode
(`jax.jvp`).
"""

import functools
import math

import jax
import jax.numpy as jnp
from jax import lax

from jaxseg import routes

Pair = tuple[int, int]
WIDE = 96 * 96  # input times output channels; from here one product per kernel element is faster
GATHERED = 2**22  # largest number of values of a gradient gathered for all kernel elements
FEW = 8  # up to this number of groups, they are convolved one by one


def conv2d(
    x: jax.Array,
    kernel: jax.Array,
    stride: Pair = (1, 1),
    padding: tuple[Pair, Pair] = ((0, 0), (0, 0)),
    dilation: Pair = (1, 1),
    groups: int = 1,
) -> jax.Array:
    """Cross-correlation, as `torch.nn.functional.conv2d` computes it.

    Args:
      x: [N, H, W, C].
      kernel: [kh, kw, C / groups, K], of the dtype of `x`.
      stride, dilation: (rows, columns).
      padding: ((top, bottom), (left, right)) zeros.
      groups: channel groups.

    Returns:
      [N, H', W', K].

    Raises:
      ValueError: ranks, channels or dtypes that do not match.
    """
    if x.ndim != 4 or kernel.ndim != 4:
        raise ValueError(
            f"conv2d wants [N, H, W, C] and [kh, kw, C, K], got {x.shape}, {kernel.shape}"
        )
    channels = kernel.shape[2] * groups
    if x.shape[3] != channels or kernel.shape[3] % groups or x.dtype != kernel.dtype:
        raise ValueError(
            f"input {x.shape} {x.dtype}, kernel {kernel.shape} {kernel.dtype} and groups {groups} "
            "do not fit"
        )
    if routes.current() != "cpu" or groups > FEW:
        return _convolve(x, kernel, stride, padding, dilation, groups)
    if groups > 1:
        parts = zip(jnp.split(x, groups, -1), jnp.split(kernel, groups, -1), strict=True)
        return jnp.concatenate([conv2d(x, k, stride, padding, dilation) for x, k in parts], -1)
    if kernel.shape[:2] == (1, 1) and not any(map(any, padding)):
        return _pointwise(x[:, :: stride[0], :: stride[1]], kernel)
    if stride == (1, 1) and 4 * kernel.shape[3] <= kernel.shape[2]:
        return _narrow(x, kernel, padding, dilation)
    return _general(x, kernel, stride, padding, dilation)


def _convolve(x, kernel, stride, padding, dilation=(1, 1), groups=1):
    return lax.conv_general_dilated(
        x,
        kernel,
        stride,
        padding,
        rhs_dilation=dilation,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


def _transposed_product(a, b):
    """[P, A], [P, B] -> [A, B], summed in float32.

    XLA's CPU library is up to 1.5 times as fast if the first matrix is the narrower one. The
    barrier keeps XLA from merging the transposition into the product.
    """
    if a.shape[1] > b.shape[1]:
        return lax.optimization_barrier(_transposed_product(b, a)).T
    return lax.dot_general(a, b, (((0,), (0,)), ((), ())), preferred_element_type=jnp.float32)


def _taps(kernel):
    return [(row, column) for row in range(kernel.shape[0]) for column in range(kernel.shape[1])]


# --- 1x1, stride 1 ---


@jax.custom_vjp
def _pointwise(x, kernel):
    return jnp.dot(x, kernel[0, 0])


def _pointwise_forward(x, kernel):
    return _pointwise(x, kernel), (x, kernel)


def _pointwise_backward(saved, gradient):
    x, kernel = saved
    # With the automatic gradient of `jnp.dot`, XLA would compute the operation that produces
    # `gradient` (a norm's backward pass) twice, which costs as much as another product.
    flat = lax.optimization_barrier(gradient.reshape(-1, gradient.shape[3]))
    to_x = lax.dot_general(flat, kernel[0, 0], (((1,), (1,)), ((), ())))
    to_kernel = _transposed_product(x.reshape(-1, x.shape[3]), flat)
    return to_x.reshape(x.shape), to_kernel.reshape(kernel.shape).astype(kernel.dtype)


# --- any stride and dilation ---


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _general(x, kernel, stride, padding, dilation):
    channels, features = kernel.shape[2:]
    if channels < 8 and 16 < features < 64:
        wide = jnp.pad(kernel, ((0, 0), (0, 0), (0, 0), (0, 64 - features)))
        return _convolve(x, wide, stride, padding, dilation)[..., :features]
    if channels > 16 and (more := -channels % 4):
        x = jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, more)))
        kernel = jnp.pad(kernel, ((0, 0), (0, 0), (0, more), (0, 0)))
    return _convolve(x, kernel, stride, padding, dilation)


def _general_forward(x, kernel, stride, padding, dilation):
    return _general(x, kernel, stride, padding, dilation), (x, kernel)


def _general_backward(stride, padding, dilation, saved, gradient):
    x, kernel = saved
    channels, features = kernel.shape[2:]
    if (
        stride == (1, 1)
        and channels * features >= WIDE
        and math.prod(x.shape[:3]) * math.prod(kernel.shape[:2]) * features <= GATHERED
    ):
        return _gathered_backward(x, kernel, padding, dilation, gradient)
    if stride != (1, 1) and dilation == (1, 1):
        to_x = _through_stride(x, kernel, stride, padding, gradient)
    else:
        convolve = lambda x: _convolve(x, kernel, stride, padding, dilation)  # noqa: E731
        (to_x,) = jax.linear_transpose(convolve, x)(gradient)
    if channels * features >= WIDE:
        to_kernel = _kernel_by_taps(x, kernel, stride, padding, dilation, gradient)
    elif (
        (stride, dilation) == ((2, 2), (1, 1))
        and 8 < channels < features + 16 < 64
        and channels % 16
    ):
        to_kernel = _kernel_by_blocks(x, kernel, padding, gradient)
    else:
        convolve = lambda kernel: _convolve(x, kernel, stride, padding, dilation)  # noqa: E731
        (to_kernel,) = jax.linear_transpose(convolve, kernel)(gradient)
    return to_x, to_kernel


def _kernel_by_taps(x, kernel, stride, padding, dilation, gradient):
    batch, height, width, features = gradient.shape
    padded = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    flat = gradient.reshape(-1, features)
    products = []
    for row, column in _taps(kernel):
        top, left = row * dilation[0], column * dilation[1]
        bottom, right = top + (height - 1) * stride[0] + 1, left + (width - 1) * stride[1] + 1
        tap = padded[:, top : bottom : stride[0], left : right : stride[1]]
        products.append(_transposed_product(tap.reshape(-1, x.shape[3]), flat))
    return jnp.stack(products).reshape(kernel.shape).astype(kernel.dtype)


def _kernel_by_blocks(x, kernel, padding, gradient):
    """Gradient for the kernel at stride 2, from the 2x2 blocks of the padded input as channels."""
    batch, height, width, channels = x.shape
    rows, columns, _, features = kernel.shape
    reach = -(-rows // 2), -(-columns // 2)
    blocks = gradient.shape[1] + reach[0] - 1, gradient.shape[2] + reach[1] - 1
    edges = [
        (low, 2 * count - size - low, 0)
        for (low, _), size, count in zip(padding, (height, width), blocks, strict=True)
    ]
    x = lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), *edges, (0, 0, 0)))
    x = x.reshape(batch, blocks[0], 2, blocks[1], 2 * channels).swapaxes(2, 3)
    x = x.reshape(batch, *blocks, 4 * channels)
    shape = jax.ShapeDtypeStruct((*reach, 4 * channels, features), kernel.dtype)
    (found,) = jax.linear_transpose(lambda k: _convolve(x, k, (1, 1), ((0, 0), (0, 0))), shape)(
        gradient
    )
    found = found.reshape(*reach, 2, 2, channels, features).transpose(0, 2, 1, 3, 4, 5)
    return found.reshape(2 * reach[0], 2 * reach[1], channels, features)[:rows, :columns]


def _through_stride(x, kernel, stride, padding, gradient):
    """Gradient for the input of a strided convolution, without multiplications by inserted zeros.

    Rows of the padded input with equal index modulo the stride are used by the same kernel rows, so
    that each remainder needs one dense convolution of the gradient. The column remainders become
    channels: [.., blocks, stride * C].
    """
    batch, height, width, channels = x.shape
    rows, columns = stride
    block_rows, block_columns = -(-kernel.shape[0] // rows), -(-kernel.shape[1] // columns)
    kernel = jnp.pad(
        kernel,
        (
            (0, block_rows * rows - kernel.shape[0]),
            (0, block_columns * columns - kernel.shape[1]),
            (0, 0),
            (0, 0),
        ),
    ).reshape(block_rows, rows, block_columns, columns * channels, -1)
    kernel = kernel[::-1, :, ::-1].swapaxes(3, 4)
    full = ((block_rows - 1,) * 2, (block_columns - 1,) * 2)
    phases = [_convolve(gradient, kernel[:, phase], (1, 1), full) for phase in range(rows)]
    padded = jnp.stack(phases, 2)
    padded = padded.reshape(batch, padded.shape[1] * rows, padded.shape[3] * columns, channels)
    # Adds the rows and columns at the end that no window reached, and removes the padding.
    (top, _), (left, _) = padding
    missing = max(0, top + height - padded.shape[1]), max(0, left + width - padded.shape[2])
    padded = jnp.pad(padded, ((0, 0), (0, missing[0]), (0, missing[1]), (0, 0)))
    return padded[:, top : top + height, left : left + width]


def _gathered_backward(x, kernel, padding, dilation, gradient):
    """Both gradients at stride 1, as one matrix product each with shifted copies of `gradient`.

    Input (h, w) is multiplied by kernel element (r, c) for the output (h + top - r dilation,
    w + left - c dilation).
    """
    rows, columns, channels, features = kernel.shape
    height, width = x.shape[1:3]
    reach = (rows - 1) * dilation[0], (columns - 1) * dilation[1]
    # A padding smaller than the kernel's reach extends the gradient, a larger one crops it:
    # `lax.pad` accepts both signs.
    edges = [(reach[axis] - padding[axis][0], reach[axis] - padding[axis][1], 0) for axis in (0, 1)]
    wide = lax.pad(gradient, jnp.zeros((), gradient.dtype), ((0, 0, 0), *edges, (0, 0, 0)))
    parts = []
    for row, column in _taps(kernel):
        top, left = reach[0] - row * dilation[0], reach[1] - column * dilation[1]
        parts.append(wide[:, top : top + height, left : left + width])
    met = jnp.concatenate(parts, -1).reshape(-1, len(parts) * features)
    flat = kernel.reshape(-1, channels, features).swapaxes(0, 1).reshape(channels, -1)
    met, flat = lax.optimization_barrier((met, flat))
    to_x = lax.dot_general(met, flat, (((1,), (1,)), ((), ())))
    to_kernel = lax.optimization_barrier(_transposed_product(x.reshape(-1, channels), met))
    to_kernel = to_kernel.reshape(channels, -1, features).swapaxes(0, 1).reshape(kernel.shape)
    return to_x.reshape(x.shape), to_kernel.astype(kernel.dtype)


# --- stride 1, few outputs ---


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _narrow(x, kernel, padding, dilation):
    channels, features = kernel.shape[2:]
    products = jnp.dot(x, kernel.transpose(2, 0, 1, 3).reshape(channels, -1))
    products = jnp.pad(products, ((0, 0), *padding, (0, 0)))
    height = products.shape[1] - (kernel.shape[0] - 1) * dilation[0]
    width = products.shape[2] - (kernel.shape[1] - 1) * dilation[1]
    total = 0
    for index, (row, column) in enumerate(_taps(kernel)):
        top, left = row * dilation[0], column * dilation[1]
        part = products[:, top : top + height, left : left + width]
        total = total + part[..., index * features : (index + 1) * features]
    return total


def _narrow_forward(x, kernel, padding, dilation):
    return _narrow(x, kernel, padding, dilation), (x, kernel)


def _narrow_backward(padding, dilation, saved, gradient):
    return _gathered_backward(*saved, padding, dilation, gradient)


_pointwise.defvjp(_pointwise_forward, _pointwise_backward)
_general.defvjp(_general_forward, _general_backward)
_narrow.defvjp(_narrow_forward, _narrow_backward)
