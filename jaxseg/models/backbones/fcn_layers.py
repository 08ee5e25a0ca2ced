"""The layers of fully convolutional AlexNet and VGG-16 (Long et al., 2015), as data, and the
geometry that follows from them.
"""

from typing import NamedTuple

from jaxseg.models.layers.receptive_field import Step, crop_offset


class Layer(NamedTuple):
    """One layer of a trunk; `kind` is 'conv' (followed by ReLU), 'pool', 'norm' or 'dropout'."""

    name: str
    kind: str
    kernel: int = 1
    stride: int = 1
    padding: int = 0
    features: int = 0
    groups: int = 1

    @property
    def step(self) -> Step:
        return Step(self.kernel, self.stride, self.padding)


class Sizes(NamedTuple):
    """The numbers of a trunk.

    Attributes:
      family: 'alexnet' (Krizhevsky et al., 2012) or 'vgg16' (Simonyan and Zisserman, 2015).
      widths: channels of AlexNet's five convolutions, or of VGG's five stages.
      blocks: convolutions of VGG's stages.
      full: channels of fc6 and fc7.
      full_kernel: kernel side of fc6, the size of the last pooling's map in the classifier.
      padding: of the image, in the first convolution: large enough that fc6, which has no padding,
        covers every border.
    """

    family: str
    widths: tuple[int, int, int, int, int]
    blocks: tuple[int, int, int, int, int] = (1, 1, 1, 1, 1)
    full: int = 4096
    full_kernel: int = 7
    padding: int = 100


SIZES = {
    "alexnet": Sizes("alexnet", (96, 256, 384, 384, 256), full_kernel=6),
    "vgg16": Sizes("vgg16", (64, 128, 256, 512, 512), (2, 2, 3, 3, 3)),
    # For small images: VGG-16's convolutions, which pretrained weights fit, and light layers after
    # them; with fc6 of 3x3 a padding of 36 covers every border.
    "vgg16_narrow": Sizes("vgg16", (64, 128, 256, 512, 512), (2, 2, 3, 3, 3), 256, 3, 36),
    # For 120x160, to be trained from scratch on two CPU cores: about 0.04 and 0.2 GMAC. With fc6 of
    # 3x3 these paddings give the published offsets of 18 and 19 again.
    "alexnet_small": Sizes("alexnet", (24, 48, 64, 64, 48), full=128, full_kernel=3, padding=52),
    "vgg16_small": Sizes("vgg16", (16, 32, 48, 64, 64), (1, 1, 2, 2, 2), 128, 3, 36),
    # To try a program, not to learn.
    "alexnet_tiny": Sizes("alexnet", (4,) * 5, full=4, full_kernel=3, padding=52),
    "vgg16_tiny": Sizes("vgg16", (4,) * 5, (1,) * 5, 4, 3, 36),
}
ORDERS = ("pool_norm", "norm_pool")


class Upsampling(NamedTuple):
    """One transposed convolution and the crop after it.

    Attributes:
      name: 'upscore...' as in the published networks.
      kernel, stride: of the transposed convolution.
      skip: name of the pooling whose scores are cropped by `offset` and added; '' for the last
        upsampling, whose result is cropped by `offset` to the image.
      offset: first row and column to keep.
    """

    name: str
    kernel: int
    stride: int
    skip: str
    offset: int


def trunk(sizes: Sizes, order: str = "pool_norm") -> tuple[Layer, ...]:
    """The layers up to fc7.

    Args:
      sizes: the numbers.
      order: of AlexNet's first two stages after convolution and ReLU: 'pool_norm' as in the FCN
        (and CaffeNet), 'norm_pool' as in Caffe's bvlc_alexnet. The weights have the same shapes.

    Raises:
      ValueError: unknown family or order.
    """
    if sizes.family not in ("alexnet", "vgg16") or order not in ORDERS:
        raise ValueError(f"FCN family {sizes.family!r} or order {order!r} is unknown")
    layers = []
    if sizes.family == "alexnet":
        one, two, three, four, five = sizes.widths
        layers.append(Layer("conv1", "conv", 11, 4, sizes.padding, one))
        layers += _reduce(1, order)
        layers.append(Layer("conv2", "conv", 5, 1, 2, two, groups=2))
        layers += _reduce(2, order)
        layers.append(Layer("conv3", "conv", 3, 1, 1, three))
        layers.append(Layer("conv4", "conv", 3, 1, 1, four, groups=2))
        layers.append(Layer("conv5", "conv", 3, 1, 1, five, groups=2))
        layers.append(Layer("pool5", "pool", 3, 2))
    else:
        for stage, (blocks, width) in enumerate(
            zip(sizes.blocks, sizes.widths, strict=True), start=1
        ):
            for block in range(1, blocks + 1):
                padding = 1 if layers else sizes.padding
                layers.append(Layer(f"conv{stage}_{block}", "conv", 3, 1, padding, width))
            layers.append(Layer(f"pool{stage}", "pool", 2, 2))
    for name, kernel in (("6", sizes.full_kernel), ("7", 1)):
        layers.append(Layer(f"fc{name}", "conv", kernel, features=sizes.full))
        layers.append(Layer(f"drop{name}", "dropout"))
    return tuple(layers)


def _reduce(stage, order):
    pair = [Layer(f"pool{stage}", "pool", 3, 2), Layer(f"norm{stage}", "norm")]
    return pair if order == "pool_norm" else pair[::-1]


def upsamplings(sizes: Sizes, stride: int = 32) -> tuple[Upsampling, ...]:
    """The upsamplings to the image's size, with crop offsets derived from the layers.

    Args:
      sizes: the numbers of the trunk.
      stride: 32 upsamples in one step; 16 adds the scores of pool4, and 8 those of pool3 too (VGG).

    Raises:
      ValueError: a stride that the family does not have, or maps that cropping cannot align.
    """
    if stride not in ((32,) if sizes.family == "alexnet" else (8, 16, 32)):
        raise ValueError(f"FCN of {sizes.family} has no stride {stride}")
    layers = trunk(sizes)
    if sizes.family == "alexnet":
        plan = [("upscore", 63, 32, "")]
    else:
        plan = {
            32: [("upscore", 64, 32, "")],
            16: [("upscore2", 4, 2, "pool4"), ("upscore16", 32, 16, "")],
            8: [("upscore2", 4, 2, "pool4"), ("upscore_pool4", 4, 2, "pool3"),
                ("upscore8", 16, 8, "")],
        }[stride]  # fmt: skip
    found, path = [], [layer.step for layer in layers]
    for name, kernel, factor, skip in plan:
        path.append(Step(kernel, factor, transposed=True))
        if skip:
            names = [layer.name for layer in layers]
            at_skip = [layer.step for layer in layers[: names.index(skip) + 1]]
            offset = crop_offset(at_skip, path)
        else:
            offset = crop_offset(path, [])
        found.append(Upsampling(name, kernel, factor, skip, offset))
    return tuple(found)
