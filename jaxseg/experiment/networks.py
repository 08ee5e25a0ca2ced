"""From a config to networks: the architecture, what it is normalised by and what it is fed."""

import functools

import jax.numpy as jnp
from ml_collections import ConfigDict

from jaxseg.data import classfile
from jaxseg.engine.method import AXIS
from jaxseg.errors import UserError
from jaxseg.experiment.settings import choice
from jaxseg.models.backbones import fcn_layers, resnet, vgg
from jaxseg.models.discriminator import ARCHITECTURES as DISCRIMINATORS
from jaxseg.models.layers import layers
from jaxseg.models.network import Network, network, redrawn
from jaxseg.models.segmenters import unet
from jaxseg.models.segmenters.deeplabv2 import DeepLabV2
from jaxseg.models.segmenters.deeplabv3 import DeepLabV3
from jaxseg.models.segmenters.deeplabv3plus import DeepLabV3Plus
from jaxseg.models.segmenters.fcn import FCN
from jaxseg.models.segmenters.unet import UNet
from jaxseg.models.translator import Translator

PREPROCESS = {
    "caffe": functools.partial(layers.preprocess, mean=layers.CAFFE_MEAN_BGR, order="BGR"),
    "imagenet": functools.partial(
        layers.preprocess, mean=layers.IMAGENET_MEAN, std=layers.IMAGENET_STD, order="RGB"
    ),
    "digits": functools.partial(layers.preprocess, mean=layers.DIGITS_MEAN, order="BGR"),
}
DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
# The names that `net.backbone` may have, by `net.architecture`.
BACKBONES = {
    "deeplabv2": lambda: {**resnet.SIZES, **vgg.SIZES},
    "deeplabv3": lambda: resnet.SIZES,
    "deeplabv3plus": lambda: resnet.SIZES,
    "unet": lambda: unet.SIZES,
    "fcn": lambda: fcn_layers.SIZES,
}
# What `net.output_stride` may be, where it is a choice.
STRIDES = {"deeplabv3": (8, 16), "deeplabv3plus": (8, 16), "fcn": (8, 16, 32)}
WITH_DEPTH = ("deeplabv2", "deeplabv3plus")  # architectures that `net.depth` is for
# How often the references' optimiser holds a ResNet's convolutions: the released code lists the
# parameters of every module within the stages, so that a convolution comes with its stage, its
# block and by itself, one in a shortcut with the shortcut too, and the stem once.
REPEATS = ((r"/backbone/layer\d\w*/downsample_conv/", 4), (r"/backbone/layer\d\w*/conv\d/", 3))


def segmenter(config: ConfigDict, axis_name: str | None = AXIS) -> Network:
    """The task network; `axis_name` None for use outside pmap."""
    net = config.net
    classes = len(classfile.by_name(config.data.classes).classes)
    shared = dict(
        num_classes=classes, backbone=net.backbone, dtype=choice("net.dtype", net.dtype, DTYPES)
    )
    norm = dict(norm=net.norm, axis_name=axis_name)
    pyramid = dict(rates=tuple(net.rates), stride_in=net.stride_in, aux=net.aux, remat=net.remat)
    builders = {
        # The last feature map costs nothing where nobody looks at it.
        "deeplabv2": lambda: DeepLabV2(
            **shared,
            **norm,
            **pyramid,
            summed=net.summed or None,
            depth=net.depth,
            fusion=net.fusion,
            features=True,
        ),
        "deeplabv3": lambda: DeepLabV3(
            **shared,
            **norm,
            **pyramid,
            output_stride=net.output_stride,
            dropout=net.dropout,
            upsample=True,
            features=True,
        ),
        "deeplabv3plus": lambda: DeepLabV3Plus(
            **shared,
            **norm,
            **pyramid,
            output_stride=net.output_stride,
            low_level=net.low_level,
            dropout=net.dropout,
            depth=net.depth,
            features=True,
        ),
        "unet": lambda: UNet(**shared, **norm),
        "fcn": lambda: FCN(**shared, stride=net.output_stride, dropout=net.dropout),
    }
    build = choice("net.architecture", net.architecture, builders)
    built = network(build(), choice("net.preprocess", net.preprocess, PREPROCESS))
    return redrawn(built, net.init_std) if net.init_std else built


def discriminator(config: ConfigDict) -> Network:
    """One definition for every level; the parameters are made for the maps it first sees."""
    kind = choice("disc.architecture", config.disc.architecture, DISCRIMINATORS)
    dtype = choice("disc.dtype", config.disc.dtype, DTYPES)
    if config.disc.init_std < 0:
        raise UserError(f"config.disc.init_std={config.disc.init_std}: it cannot be negative")
    settings = dict(spectral=config.disc.spectral, init_std=config.disc.init_std)
    return network(kind(width=config.disc.width, dtype=dtype, **settings))


def translator(config: ConfigDict) -> Network:
    """The image transform network; its parameters are made for the channels it first sees."""
    settings = config.translator
    for name, least in (("width", 1), ("blocks", 0), ("kernel", 1), ("init_std", 0)):
        if settings[name] < least:
            raise UserError(
                f"config.translator.{name}={settings[name]}: it must be at least {least}"
            )
    if settings.kernel % 2 == 0:
        raise UserError(f"config.translator.kernel={settings.kernel}: give an odd number")
    dtype = choice("translator.dtype", settings.dtype, DTYPES)
    return network(Translator(**{**settings.to_dict(), "dtype": dtype}))


def rate_multipliers(config: ConfigDict) -> list[tuple[str, float]]:
    """Factors of gen's learning rate by parameter path; see `optim.multiplier_of`."""
    groups = [(r"(_head|/decoder)/", config.optim.gen.head_multiplier)]
    if "translator_multiplier" in config.optim.gen:
        groups.append((r"^translator/", config.optim.gen.translator_multiplier))
    if config.net.norm in layers.FIXED_AFFINE:  # it stays as it was loaded
        groups.insert(0, (r"/(\w*bn\d?)/(scale|bias)$", 0.0))
    return groups


def check(net: ConfigDict) -> None:
    """Raises UserError for settings of a network that could not work."""
    names = choice("net.architecture", net.architecture, BACKBONES)()
    choice("net.backbone", net.backbone, names)
    choice("net.norm", net.norm, dict.fromkeys(layers.NORM_MODES))
    choice("net.stride_in", net.stride_in, dict.fromkeys(("1x1", "3x3")))
    one_level = net.architecture in ("unet", "fcn") or net.backbone in vgg.SIZES
    if net.aux and one_level:
        raise UserError(
            f"config.net: {net.architecture} of {net.backbone} has one output level: give "
            "--config.net.aux=False"
        )
    score = net.backbone in vgg.SIZES and vgg.SIZES[net.backbone].score
    if net.architecture.startswith("deeplab") and not (net.rates or score):
        raise UserError(f"config.net.rates is empty: {net.architecture} has dilation rates")
    if not 0 <= net.summed <= len(net.rates):
        raise UserError(f"config.net.summed={net.summed} of {len(net.rates)} config.net.rates")
    strides = STRIDES.get(net.architecture)
    if strides and net.output_stride not in strides:
        raise UserError(
            f"config.net.output_stride={net.output_stride}; {net.architecture} has "
            f"{', '.join(map(str, strides))}"
        )
    if not 0 <= net.dropout < 1:
        raise UserError(f"config.net.dropout={net.dropout}: give 0 or more, and less than 1")
    if net.remat and (net.architecture in ("unet", "fcn") or net.backbone in vgg.SIZES):
        raise UserError(
            f"config.net.remat=True is for the blocks of a ResNet; {net.architecture} of "
            f"{net.backbone} has none"
        )
    _check_depth(net)


def _check_depth(net):
    if net.depth and net.architecture not in WITH_DEPTH:
        raise UserError(
            f"config.net.depth=True, but {net.architecture} has no depth head; choose "
            f"--config.net.architecture={' or '.join(WITH_DEPTH)}"
        )
    if net.fusion and not (net.depth and net.architecture == "deeplabv2"):
        raise UserError(
            "config.net.fusion=True is for --config.net.architecture=deeplabv2 with "
            "--config.net.depth=True"
        )
    if net.init_std < 0 or (net.init_std and net.fusion):
        why = "with fusion the features would be multiplied by about 0" if net.fusion else ""
        raise UserError(f"config.net.init_std={net.init_std}: {why or 'it cannot be negative'}")
    if net.low_level < 1:
        raise UserError(f"config.net.low_level={net.low_level}: it must be at least 1")
