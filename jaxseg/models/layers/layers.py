"""Layers shared by all networks: convolution, normalisation, pooling, input normalisation.

Parameters are float32; `dtype` is that of activations and products (float32 or bfloat16).
Statistics of norms are always float32. Layout is NHWC, kernels are HWIO, padding is explicit and
symmetric as in PyTorch ('SAME' pads a strided convolution differently).
"""

import functools
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from jaxseg.errors import UserError
from jaxseg.models.layers.conv import conv2d
from jaxseg.models.layers.norm import (
    clipped_relu,
    evonorm_s0,
    group_count,
    normalize_batch,
    normalize_groups,
)

Initializer = Callable[..., jax.Array]
BATCH_NORM_MODES = ("frozen", "reference", "train", "local")
FIXED_AFFINE = ("frozen", "reference")  # their 'scale' and 'bias' are not trained
NORM_MODES = (*BATCH_NORM_MODES, "instancenorm", "groupnorm", "evonorm", "evonorm_paper")
IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)
CAFFE_MEAN_BGR = (104.00698793, 116.66876762, 122.67891434)
DIGITS_MEAN = (116.0, 116.0, 116.0)

he_normal = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
torch_uniform = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


def torch_bias(fan_in: int) -> Initializer:
    """Returns PyTorch's default bias initializer, U(-b, b) with b = 1 / sqrt(fan_in)."""
    bound = 1 / math.sqrt(fan_in)

    def init(key, shape, dtype=jnp.float32):
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


class Conv(nn.Module):
    """Convolution with explicit symmetric padding.

    Attributes:
      features: output channels.
      kernel: side of the square kernel.
      stride, padding, dilation: the same for both axes.
      groups: channel groups.
      use_bias: adds a bias.
      dtype: computation dtype.
      kernel_init, bias_init: `(key, shape, dtype) -> array`; the bias defaults to zeros.
    """

    features: int
    kernel: int = 3
    stride: int = 1
    padding: int = 0
    dilation: int = 1
    groups: int = 1
    use_bias: bool = True
    dtype: jnp.dtype = jnp.float32
    kernel_init: Initializer = nn.initializers.normal(0.01)
    bias_init: Initializer = nn.initializers.zeros

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (self.kernel, self.kernel, x.shape[-1] // self.groups, self.features)
        kernel = self.param("kernel", self.kernel_init, shape, jnp.float32)
        x = conv2d(
            x.astype(self.dtype),
            kernel.astype(self.dtype),
            stride=(self.stride, self.stride),
            padding=((self.padding, self.padding),) * 2,
            dilation=(self.dilation, self.dilation),
            groups=self.groups,
        )
        if self.use_bias:
            bias = self.param("bias", self.bias_init, (self.features,), jnp.float32)
            x = x + bias.astype(self.dtype)
        return x


class Norm(nn.Module):
    """Normalisation of the kind named by `mode`, with the activation that follows it.

    BatchNorm (Ioffe and Szegedy, 2015) over all axes but the last. Without `train` all four modes
    use the running statistics, without communication between devices.
    'frozen': running statistics and a fixed affine map; nothing changes in training.
    'reference': a fixed affine map, but training uses the statistics of the device's batch and
      updates the running ones, as AdaptSegNet and ADVENT do. Devices do not communicate.
    'local': a trained affine map; statistics of each device's batch.
    'train': a trained affine map; statistics of the batch over all devices of `axis_name` (if
      given).

    Norms of each image separately, the same in training and evaluation, without running statistics:
    'instancenorm' (Ulyanov et al., 2016), without an affine map. A 1x1 map is left unchanged.
    'groupnorm' (Wu and He, 2018): `norm.group_count` groups, a trained affine map.
    'evonorm': EvoNorm-S0 (Liu et al., 2020), norm and activation in one, replaces every norm, also
      where no activation follows, as in shortcuts; a network then leaves out the ReLU after a
      residual sum. All its parameters are trained.
    'evonorm_paper': as in the paper's ResNets, EvoNorm-S0 only where an activation follows;
      elsewhere an affine map, and the ReLU after a sum is kept.

    Attributes:
      mode: one of `NORM_MODES`.
      axis_name: name of the mapped device axis, or None.
      momentum: weight of the new statistics in the running ones (PyTorch's convention).
      epsilon: added to the variance.
      dtype: dtype of the result.
      limit: upper limit of the ReLU, 6 for ReLU6; EvoNorm has none.
    """

    mode: str = "train"
    axis_name: str | None = None
    momentum: float = 0.1
    epsilon: float = 1e-5
    dtype: jnp.dtype = jnp.float32
    limit: float | None = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, activation: bool = False) -> jax.Array:
        """Maps [N, ..., C] to the same shape; `activation` adds the ReLU or its replacement.

        Raises:
          ValueError: unknown mode.
          UserError: BatchNorm in training with a single value per channel.
        """
        if self.mode not in NORM_MODES:
            raise ValueError(f"norm mode {self.mode!r} is not one of {NORM_MODES}")
        if self.mode in ("evonorm", "evonorm_paper"):
            return self._evonorm(x, activation or self.mode == "evonorm").astype(self.dtype)
        if self.mode == "groupnorm":
            y = normalize_groups(x, *self._affine(x), group_count(x.shape[-1]), self.epsilon)
        elif self.mode == "instancenorm":
            y = self._instance(x)
        else:
            y = self._batch(x, train)
        y = y.astype(self.dtype)
        if activation and self.limit is not None:
            return clipped_relu(y, self.limit)
        return nn.relu(y) if activation else y

    def _affine(self, x):
        channels = (x.shape[-1],)
        scale = self.param("scale", nn.initializers.ones, channels, jnp.float32)
        return scale, self.param("bias", nn.initializers.zeros, channels, jnp.float32)

    def _evonorm(self, x, activation):
        scale, bias = self._affine(x)
        if not activation:
            return x * scale + bias
        v = self.param("v", nn.initializers.ones, scale.shape, jnp.float32)
        return evonorm_s0(x, v, scale, bias, group_count(x.shape[-1]), self.epsilon)

    def _instance(self, x):
        channels = x.shape[-1]
        if math.prod(x.shape[1:-1]) == 1:
            return x
        one, zero = jnp.ones(channels, jnp.float32), jnp.zeros(channels, jnp.float32)
        return normalize_groups(x, one, zero, channels, self.epsilon)

    def _batch(self, x, train):
        scale, bias = self._affine(x)
        mean = self.variable("batch_stats", "mean", jnp.zeros, scale.shape, jnp.float32)
        var = self.variable("batch_stats", "var", jnp.ones, scale.shape, jnp.float32)
        if self.mode in FIXED_AFFINE:
            scale, bias = lax.stop_gradient((scale, bias))
        if not train or self.mode == "frozen":
            use_mean, use_var = lax.stop_gradient((mean.value, var.value))
            gain = scale * lax.rsqrt(use_var + self.epsilon)
            return (x.astype(jnp.float32) - use_mean) * gain + bias
        axis = self.axis_name if self.mode == "train" else None
        count = math.prod(x.shape[:-1]) * (1 if axis is None else lax.axis_size(axis))
        if count == 1:
            raise UserError(
                "BatchNorm has no statistics of one value per channel (pooling of a whole image, "
                "one image a device): use two images a device or another config.net.norm"
            )
        y, new_mean, new_var = normalize_batch(x, scale, bias, self.epsilon, axis)
        if self.is_mutable_collection("batch_stats"):
            mean.value = self._move(mean.value, new_mean)
            var.value = self._move(var.value, new_var * (count / (count - 1)))
        return y

    def _move(self, old, new):
        return (1 - self.momentum) * old + self.momentum * lax.stop_gradient(new)


def max_pool(
    x: jax.Array, window: int, stride: int, padding: int = 0, ceil_mode: bool = False
) -> jax.Array:
    """Max pooling with PyTorch's geometry.

    Args:
      x: [N, H, W, C].
      window, stride, padding: the same for both axes; padded values are never the maximum.
      ceil_mode: the last window may extend over the edge if it starts inside the padded input.

    Returns:
      [N, h, w, C] with h = (H + 2 padding - window) / stride + 1, rounded down, or up with
      `ceil_mode`.
    """
    counts = []
    for size in x.shape[1:3]:
        span = size + 2 * padding - window
        count = (-(-span // stride) if ceil_mode else span // stride) + 1
        if ceil_mode and (count - 1) * stride >= size + padding:
            count -= 1
        counts.append(count)
    return _max_pool(x, window, stride, padding, tuple(counts))


def _pool_edges(size, window, stride, padding, count):
    """Padding (negative: cropping) at the end of an axis so that the last window ends there."""
    return (count - 1) * stride + window - size - padding


# XLA's gradient of a windowed maximum is a scatter, on CPU six times slower than these slices.
@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3, 4))
def _max_pool(x, window, stride, padding, counts):
    return _max_pool_forward(x, window, stride, padding, counts)[0]


def _max_pool_forward(x, window, stride, padding, counts):
    edges = [
        (padding, _pool_edges(size, window, stride, padding, count), 0)
        for size, count in zip(x.shape[1:3], counts, strict=True)
    ]
    padded = lax.pad(x, jnp.asarray(-jnp.inf, x.dtype), ((0, 0, 0), *edges, (0, 0, 0)))
    spans = [(count - 1) * stride + 1 for count in counts]
    best = winner = None
    for index in range(window * window):
        row, column = divmod(index, window)
        part = padded[:, row : row + spans[0] : stride, column : column + spans[1] : stride]
        if best is None:
            best, winner = part, jnp.zeros(part.shape, jnp.uint8)
        else:
            winner = jnp.where(part > best, jnp.uint8(index), winner)  # the first of equals wins
            best = jnp.maximum(best, part)
    return best, (winner, x.shape[1:3])


def _max_pool_backward(window, stride, padding, counts, saved, gradient):
    winner, sizes = saved
    total = 0
    for index in range(window * window):
        share = jnp.where(winner == index, gradient, 0)
        edges = []
        for offset, size, count in zip(divmod(index, window), sizes, counts, strict=True):
            low = offset - padding
            edges.append((low, size - low - (count - 1) * stride - 1, stride - 1))
        zero = jnp.zeros((), gradient.dtype)
        total = total + lax.pad(share, zero, ((0, 0, 0), *edges, (0, 0, 0)))
    return (total,)


_max_pool.defvjp(_max_pool_forward, _max_pool_backward)


def preprocess(
    images: jax.Array,
    mean: Sequence[float] = (0.0, 0.0, 0.0),
    std: Sequence[float] = (1.0, 1.0, 1.0),
    order: str = "RGB",
) -> jax.Array:
    """Normalises images for a network.

    Args:
      images: [N, H, W, 3] RGB, uint8 or float in 0..255.
      mean, std: per channel, in 0..255 and in the order of `order`.
      order: 'RGB', or 'BGR' for weights that came from Caffe (the references: `CAFFE_MEAN_BGR`, std
        1).

    Returns:
      float32 [N, H, W, 3].
    """
    if order not in ("RGB", "BGR"):
        raise ValueError(f"channel order {order!r} is neither 'RGB' nor 'BGR'")
    images = images.astype(jnp.float32)
    if order == "BGR":
        images = images[..., ::-1]
    return (images - jnp.asarray(mean, jnp.float32)) / jnp.asarray(std, jnp.float32)
