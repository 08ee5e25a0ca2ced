"""Fully convolutional networks (Long et al., 2015): FCN-AlexNet and FCN-32s, -16s and -8s."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from jaxseg.errors import UserError
from jaxseg.models.backbones.fcn_layers import SIZES, Sizes, Upsampling, trunk, upsamplings
from jaxseg.models.layers.layers import Conv, max_pool
from jaxseg.models.layers.transposed import bilinear_kernel, upsample

# Other segmenters cannot use these trunks: the padding of 100 pixels shifts their feature maps.
BACKBONES = SIZES
STRIDES = {"alexnet": (32,), "vgg16": (8, 16, 32)}
msra = nn.initializers.variance_scaling(2.0, "fan_in", "normal")  # He et al., 2015; Caffe's name


def local_response_norm(
    x: jax.Array, size: int = 5, alpha: float = 1e-4, beta: float = 0.75
) -> jax.Array:
    """Local response normalisation across channels (Krizhevsky et al., 2012), as in Caffe.

    Args:
      x: [N, H, W, C], any floating dtype.
      size: odd number of neighbouring channels, cut off at the first and the last.
      alpha, beta: x / (1 + alpha / size * sum of the neighbours' squares) ** beta.

    Returns:
      An array of x's shape and dtype; computed in float32.
    """
    x32 = x.astype(jnp.float32)
    squares = lax.pad(jnp.square(x32), jnp.float32(0), [(0, 0, 0)] * 3 + [(size // 2,) * 2 + (0,)])
    total = sum(squares[..., first : first + x.shape[-1]] for first in range(size))
    return (x32 * (1 + alpha / size * total) ** -beta).astype(x.dtype)


class Trunk(nn.Module):
    """The layers of `fcn_layers.trunk`."""

    sizes: Sizes
    order: str
    dropout: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> dict[str, jax.Array]:
        """Returns every pooling's map and the last one ('top')."""
        maps = {}
        for layer in trunk(self.sizes, self.order):
            if layer.kind == "conv":
                conv = Conv(
                    layer.features, layer.kernel, layer.stride, layer.padding,
                    groups=layer.groups, dtype=self.dtype, kernel_init=msra, name=layer.name,
                )  # fmt: skip
                x = nn.relu(conv(x))
            elif layer.kind == "pool":
                x = max_pool(x, layer.kernel, layer.stride, ceil_mode=True)
                maps[layer.name] = x
            elif layer.kind == "norm":
                x = local_response_norm(x)
            else:
                x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return {**maps, "top": x}


class Head(nn.Module):
    """Sum of the scores of the last map and the skipped poolings, upsampled to the image's size."""

    num_classes: int
    plan: tuple[Upsampling, ...]
    learn_upsampling: bool
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, maps: dict[str, jax.Array], size: tuple[int, int]) -> jax.Array:
        total = self._score("score_fr", maps["top"])
        for step in self.plan:
            total = upsample(total, self._kernel(step), step.stride)
            if step.skip:
                score = self._score(f"score_{step.skip}", maps[step.skip])
                # A small fc6 can make the sum a row or column wider than the skipped map, outside
                # of the image.
                reach = [
                    min(have, at_skip - step.offset)
                    for have, at_skip in zip(total.shape[1:3], score.shape[1:3], strict=True)
                ]
                total = _crop(total, 0, reach) + _crop(score, step.offset, reach)
            else:
                total = _crop(total, step.offset, size)
        return total

    def _score(self, name, x):
        conv = Conv(
            self.num_classes, 1, dtype=self.dtype, kernel_init=nn.initializers.zeros, name=name
        )
        return conv(x).astype(jnp.float32)

    def _kernel(self, step):
        bilinear = jnp.asarray(bilinear_kernel(step.kernel))[..., None]
        if not self.learn_upsampling:
            return bilinear

        def initial(key):
            del key
            return jnp.broadcast_to(bilinear, (*bilinear.shape[:2], self.num_classes))

        return self.param(f"{step.name}_kernel", initial)


def _crop(x, offset, size):
    rows, columns = offset + size[0], offset + size[1]
    if x.shape[1] < rows or x.shape[2] < columns:
        raise ValueError(f"scores of {x.shape[1:3]} do not cover {size} from {offset} on")
    return x[:, offset:rows, offset:columns]


class FCN(nn.Module):
    """FCN-AlexNet, FCN-32s, FCN-16s or FCN-8s. Its logits have the image's size.

    Parameters are grouped as 'backbone' (up to fc7) and 'main_head' (the scores, which begin at
    zero as in the paper). There are no running statistics. Dropout draws from the stream 'dropout',
    which training must be given (`Network.apply(..., key=)`). The published networks take BGR of 0
    to 255 less the mean of ImageNet; DIGITS' FCN-AlexNet subtracts 116 (`layers.DIGITS_MEAN`).

    Attributes:
      num_classes: K.
      backbone: a name in `fcn_layers.SIZES`, or `fcn_layers.Sizes`.
      stride: 32, 16 or 8; AlexNet has 32 alone.
      order: of pooling and normalisation in AlexNet, see `fcn_layers.trunk`.
      learn_upsampling: the transposed convolutions, one kernel per class, are parameters with
        bilinear initial values; otherwise constants, as in the published networks (learning rate
        0).
      dropout: rate after fc6 and fc7.
      dtype: computation dtype of the trunk, float32 or bfloat16.
    """

    num_classes: int
    backbone: str | Sizes = "vgg16"
    stride: int = 8
    order: str = "pool_norm"
    learn_upsampling: bool = False
    dropout: float = 0.5
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> dict[str, jax.Array]:
        """Maps normalised [N, H, W, 3] to float32 {'main': [N, H, W, K]}."""
        if isinstance(self.backbone, str) and self.backbone not in SIZES:
            raise ValueError(f"FCN backbone {self.backbone!r} is not one of {sorted(SIZES)}")
        sizes = SIZES[self.backbone] if isinstance(self.backbone, str) else self.backbone
        maps = Trunk(sizes, self.order, self.dropout, self.dtype, name="backbone")(images, train)
        head = Head(
            self.num_classes, upsamplings(sizes, self.stride), self.learn_upsampling, self.dtype,
            name='main_head',
        )  # fmt: skip
        return {"main": head(maps, images.shape[1:3])}


def make(
    num_classes: int,
    backbone: str | Sizes,
    *,
    dtype: jnp.dtype = jnp.float32,
    output_stride: int | None = None,
    dropout: float = 0.5,
) -> FCN:
    """See `FCN`; `output_stride` is its `stride`, None for the smallest.

    Raises:
      UserError: a stride that the backbone does not have.
    """
    sizes = SIZES[backbone] if isinstance(backbone, str) else backbone
    strides = STRIDES[sizes.family]
    if output_stride not in (None, *strides):
        raise UserError(
            f"config.net.output_stride={output_stride}; fcn of {backbone} has "
            f"{', '.join(map(str, strides))}"
        )
    return FCN(num_classes, backbone, output_stride or strides[0], dropout=dropout, dtype=dtype)
