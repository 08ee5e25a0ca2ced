"""CycleGAN's networks: the residual generator and the discriminator of 70x70 patches (Zhu et al.,
"Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial Networks", ICCV 2017; the
generator is that of Johnson et al., 2016, the discriminator that of Isola et al., 2017).

Names of parameters follow the layers; `storage/weights/rename_cyclegan.py` maps the published
files. Kernels of transposed convolutions keep PyTorch's orientation, [kh, kw, in, out].
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxseg.models.layers.conv import conv2d
from jaxseg.models.layers.layers import Conv, Norm

normal = nn.initializers.normal(0.02)


def reflected(x: jax.Array, by: int) -> jax.Array:
    """[N, H, W, C] with `by` mirrored rows and columns on every side, the edge itself not repeated.

    Raises:
      ValueError: the map is not larger than `by`, so that there is nothing to mirror.
    """
    if min(x.shape[1:3]) <= by:
        raise ValueError(
            f"a map of {x.shape[1]}x{x.shape[2]} cannot be padded by {by} mirrored pixels: "
            "give larger images"
        )
    return jnp.pad(x, ((0, 0), (by, by), (by, by), (0, 0)), mode="reflect")


def doubled(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """PyTorch's transposed 3x3 convolution with stride 2, padding 1 and output padding 1.

    In each direction an even output is w[1] x[i] and an odd one w[2] x[i] + w[0] x[i + 1]. So all
    four kinds of output pixels are one dense convolution with a 2x2 kernel, whose outputs are then
    put side by side; accelerators and CPUs have quick programs for that.

    Args:
      x: [N, H, W, C].
      kernel: [3, 3, C, K] of the dtype of `x`.

    Returns:
      [N, 2 H, 2 W, K].
    """
    zero = jnp.zeros_like(kernel[:1])
    rows = jnp.stack([  # [parity, tap, 3, C, K]
        jnp.concatenate([kernel[1:2], zero]), jnp.concatenate([kernel[2:3], kernel[:1]])
    ])  # fmt: skip
    zero = jnp.zeros_like(rows[:, :, :1])
    taps = jnp.stack([
        jnp.concatenate([rows[:, :, 1:2], zero], 2),
        jnp.concatenate([rows[:, :, 2:3], rows[:, :, :1]], 2),
    ], 1)  # fmt: skip
    # [row parity, column parity, row tap, column tap, C, K] -> [2, 2, C, 4 K]
    batch, height, width, channels = x.shape
    dense = taps.transpose(2, 3, 4, 0, 1, 5).reshape(2, 2, channels, -1)
    y = conv2d(x, dense, padding=((0, 1), (0, 1)))
    y = y.reshape(batch, height, width, 2, 2, -1).transpose(0, 1, 3, 2, 4, 5)
    return y.reshape(batch, 2 * height, 2 * width, -1)


class Doubling(nn.Module):
    """The layer of `doubled`, with a bias."""

    features: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (3, 3, x.shape[-1], self.features)
        kernel = self.param("kernel", normal, shape, jnp.float32).astype(self.dtype)
        bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
        return doubled(x.astype(self.dtype), kernel) + bias.astype(self.dtype)


class Generator(nn.Module):
    """Translates an image: 7x7, two 3x3 of stride 2, residual blocks, two transposed 3x3, 7x7.

    Instance norm without an affine map after all but the last convolution; reflection padding; a
    tanh at the end. Every convolution has a bias. 11,378,179 parameters at width 64 with 9 blocks.

    Attributes:
      width: channels at full size; half and quarter size have 2 and 4 times as many.
      blocks: number of residual blocks: 9 for images of 256 pixels, 6 for smaller ones.
      dtype: computation dtype, float32 or bfloat16; statistics and the result are float32.
    """

    width: int = 64
    blocks: int = 9
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> dict[str, jax.Array]:
        """Maps [N, H, W, 3] in -1..1 to {'image': float32 [N, H, W, 3] in -1..1}.

        Raises:
          ValueError: H or W does not divide by 4, or is below 8.
        """
        del train  # an instance norm is the same function in training
        if x.shape[1] % 4 or x.shape[2] % 4 or min(x.shape[1:3]) < 8:
            raise ValueError(
                f"CycleGAN's generator takes images whose height and width divide by 4 and are at "
                f"least 8, not {x.shape[1]}x{x.shape[2]}"
            )

        def normed(x, activation=True):
            return Norm("instancenorm", dtype=self.dtype)(x, False, activation)

        def conv(x, features, name, kernel=3, stride=1, padding=0):
            return Conv(
                features, kernel, stride, padding, dtype=self.dtype, kernel_init=normal, name=name
            )(x)

        x = normed(conv(reflected(x, 3), self.width, "first", 7))
        for index in (1, 2):
            x = normed(conv(x, 2**index * self.width, f"down{index}", stride=2, padding=1))
        for index in range(1, self.blocks + 1):
            y = normed(conv(reflected(x, 1), x.shape[-1], f"block{index}_conv1"))
            x = x + normed(conv(reflected(y, 1), x.shape[-1], f"block{index}_conv2"), False)
        for index, factor in ((1, 2), (2, 1)):
            x = normed(Doubling(factor * self.width, self.dtype, name=f"up{index}")(x))
        x = conv(reflected(x, 3), 3, "last", 7)
        return {"image": jnp.tanh(x.astype(jnp.float32))}


class PatchGan(nn.Module):
    """Scores overlapping patches of an image: 4x4 convolutions with padding 1, leaky ReLU 0.2.

    `layers` of stride 2, then two of stride 1; instance norm between all but the first and the
    last. With 3 layers each score sees 70x70 pixels, and 2,764,737 parameters at width 64.

    Attributes:
      width: channels of the first convolution, doubled up to 8 times as many.
      layers: convolutions of stride 2: 3 for patches of 70x70, 1 for 16x16.
      dtype: computation dtype.
    """

    width: int = 64
    layers: int = 3
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> dict[str, jax.Array]:
        """Maps [N, H, W, 3] to {'score': float32 [N, h, w, 1]}; 256x256 gives 30x30.

        Raises:
          ValueError: an image too small for one score.
        """
        del train
        if min(x.shape[1:3]) >> self.layers < 3:
            raise ValueError(
                f"images of {x.shape[1]}x{x.shape[2]} are too small for a discriminator of "
                f"{self.layers} layers, which takes {3 << self.layers}x{3 << self.layers} and more"
            )
        for index in range(self.layers + 2):
            last = index == self.layers + 1
            features = 1 if last else self.width * min(2**index, 8)
            x = Conv(
                features, 4, 2 if index < self.layers else 1, 1, dtype=self.dtype,
                kernel_init=normal, name=f"conv{index + 1}",
            )(x)  # fmt: skip
            if 0 < index and not last:
                x = Norm("instancenorm", dtype=self.dtype)(x, False, False)
            x = x if last else nn.leaky_relu(x, 0.2)
        return {"score": x.astype(jnp.float32)}
