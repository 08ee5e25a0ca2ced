"""Builds networks from a config: architecture, normalisation layers and input preprocessing."""

from collections.abc import Collection

import jax.numpy as jnp
from ml_collections import ConfigDict

from jaxseg.data import classfile
from jaxseg.engine.method import AXIS
from jaxseg.errors import UserError
from jaxseg.experiment.settings import choice, take_translated
from jaxseg.models import cyclegan
from jaxseg.models.backbones import dinov2, dinov3
from jaxseg.models.discriminator import ARCHITECTURES as DISCRIMINATORS
from jaxseg.models.layers import layers
from jaxseg.models.named import PREPROCESS
from jaxseg.models.network import Network, network, redrawn
from jaxseg.models.segmenters import build as segmenters
from jaxseg.models.translator import Translator
from jaxseg.storage.weights import packaged

# Red, green and blue of the pixels that each of these turns into 0.
MEAN_COLOURS = {
    "caffe": layers.CAFFE_MEAN_BGR[::-1],
    "imagenet": layers.IMAGENET_MEAN,
    "digits": layers.DIGITS_MEAN,
}
DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
# How often the references' optimiser lists each convolution of a ResNet. The released code lists
# the parameters of every module within the stages: a convolution is listed with its stage, with its
# block and by itself (3 times), one in a shortcut with the shortcut too (4), the stem once.
REPEATS = ((r"/backbone/layer\d\w*/downsample_conv/", 4), (r"/backbone/layer\d\w*/conv\d/", 3))


def settle(config: ConfigDict, given: Collection[str] = ()) -> None:
    """Takes the source's translated images, if given, and removes what does not belong together: a
    preset's settings that the chosen architecture does not have, and the distance to ImageNet's
    features of a DINOv2 or DINOv3, which it harms (Englert et al., VFM-UDA++, 2025).

    `--config=configs/baseline.py --config.net.architecture=unet` is valid although the preset has
    dilation rates. Settings given on the command line stay, and `check` refuses them.

    Args:
      config: changed in place.
      given: names of settings given on the command line, such as 'net.rates'.

    Raises:
      UserError: unknown architecture or backbone; see also `settings.take_translated`.
    """
    take_translated(config)
    source = packaged.FILES.get(config.init.backbone)
    if source and "init.backbone" not in given and config.net.backbone not in source.backbones:
        own = config.net.backbone  # the preset's weights are another backbone's
        config.init.backbone = own if own in packaged.FILES else ""
    for key in segmenters.unused(config.net):
        if f"net.{key}" not in given and not isinstance(config.net[key], bool):
            config.net[key] = None
    distance, own = "feature_distance", config.method.settings
    foundation = config.net.backbone in (*dinov2.SIZES, *dinov3.SIZES)
    if foundation and own.get(distance) and f"method.settings.{distance}" not in given:
        own[distance] = 0.0


def segmenter(
    config: ConfigDict, axis_name: str | None = AXIS, classes: int | None = None
) -> Network:
    """The segmentation network; `axis_name` None for use outside pmap. `classes` is the number of
    its classes, by default that of `config.data.classes`.
    """
    net = config.net
    classes = classes or len(classfile.by_name(config.data.classes).classes)
    module = _module(net, classes, axis_name)
    built = network(module, choice("net.preprocess", net.preprocess, PREPROCESS))
    return redrawn(built, net.init_std) if net.init_std else built


def _module(net, classes, axis_name=None):
    own = {key: value for key, value in net.items() if key not in segmenters.GENERAL}
    dtype = choice("net.dtype", net.dtype, DTYPES)
    return segmenters.build(
        net.architecture, classes, net.backbone, norm=net.norm, axis_name=axis_name, dtype=dtype,
        remat=net.remat, hrda=net.get("hrda"), **own,
    )  # fmt: skip


def discriminator(config: ConfigDict) -> Network:
    """The discriminator, the same for every level; its input channels are set by `init`."""
    kind = choice("disc.architecture", config.disc.architecture, DISCRIMINATORS)
    dtype = choice("disc.dtype", config.disc.dtype, DTYPES)
    if config.disc.init_std < 0:
        raise UserError(f"config.disc.init_std={config.disc.init_std}: it cannot be negative")
    settings = dict(spectral=config.disc.spectral, init_std=config.disc.init_std)
    return network(kind(width=config.disc.width, dtype=dtype, **settings))


def translator(config: ConfigDict) -> Network:
    """The image transform network: GIO-Ada's, or CycleGAN's where the config says so."""
    settings = config.translator
    if "architecture" in settings:
        kinds = {"cyclegan": cyclegan.Generator, "gio_ada": _plain_translator}
        kind = choice("translator.architecture", settings.architecture, kinds)
        dtype = choice("translator.dtype", settings.dtype, DTYPES)
        return network(kind(width=settings.width, blocks=settings.blocks, dtype=dtype))
    for name, least in (("width", 1), ("blocks", 0), ("kernel", 1), ("init_std", 0)):
        if settings[name] < least:
            raise UserError(
                f"config.translator.{name}={settings[name]}: it must be at least {least}"
            )
    if settings.kernel % 2 == 0:
        raise UserError(f"config.translator.kernel={settings.kernel}: give an odd number")
    dtype = choice("translator.dtype", settings.dtype, DTYPES)
    return network(Translator(**{**settings.to_dict(), "dtype": dtype}))


def _plain_translator(width: int, blocks: int, dtype: jnp.dtype) -> Translator:
    """GIO-Ada's network without guides, in place of CycleGAN's generator."""
    return Translator(width=width, blocks=blocks, init_std=0.0, dtype=dtype)


def image_discriminator(config: ConfigDict) -> Network:
    """CycleGAN's discriminator of images."""
    settings = config.translator
    dtype = choice("translator.dtype", settings.dtype, DTYPES)
    width, layers_of_two = settings.disc_width, settings.disc_layers
    return network(cyclegan.PatchGan(width=width, layers=layers_of_two, dtype=dtype))


def rate_multipliers(config: ConfigDict) -> list[tuple[str, float]]:
    """Factors of gen's learning rate by parameter path; see `optim.multiplier_of`."""
    groups = [(r"(_head|/decoder)/", config.optim.gen.head_multiplier)]
    if "translator_multiplier" in config.optim.gen:
        groups.append((r"^translator/", config.optim.gen.translator_multiplier))
    if config.net.norm in layers.FIXED_AFFINE:  # scale and bias keep their loaded values
        groups.insert(0, (r"/(\w*bn\d?)/(scale|bias)$", 0.0))
    return groups


def check(net: ConfigDict) -> None:
    """Raises UserError for invalid settings of a network."""
    choice("net.norm", net.norm, dict.fromkeys(layers.NORM_MODES))
    if net.dropout is not None and not 0 <= net.dropout < 1:
        raise UserError(f"config.net.dropout={net.dropout}: give 0 or more, and less than 1")
    if net.init_std < 0 or (net.init_std and net.fusion):
        why = "with fusion the features would be multiplied by about 0" if net.fusion else ""
        raise UserError(f"config.net.init_std={net.init_std}: {why or 'it cannot be negative'}")
    _module(net, classes=2)
