"""Settings that could not work, found before anything is prepared or compiled."""

import functools

from ml_collections import ConfigDict

from jaxseg import assemble
from jaxseg.data import transforms
from jaxseg.errors import UserError
from jaxseg.models import layers, resnet, vgg

POSITIVE = (
    "train.batch",
    "train.accumulate",
    "train.steps",
    "train.log_every",
    "train.keep",
    "eval.batch",
    "optim.gen.schedule_steps",
    "optim.disc.schedule_steps",
)


def check(config: ConfigDict) -> None:
    """Raises UserError for settings that could not work, before anything is prepared."""
    for name in POSITIVE:
        group, _, key = name.rpartition(".")
        value = functools.reduce(lambda c, part: c[part], group.split("."), config)[key]
        if value < 1:
            raise UserError(f"config.{name}={value} must be at least 1")
    for side in ("source", "target"):
        assemble.size_of(f"data.{side}.size", config.data[side].size)
        transforms.check_augment(config.augment[side].to_dict())
    net, settings = config.net, config.train
    assemble.choice("net.backbone", net.backbone, {**resnet.SIZES, **vgg.SIZES})
    assemble.choice("net.norm", net.norm, dict.fromkeys(layers.NORM_MODES))
    assemble.choice("net.stride_in", net.stride_in, dict.fromkeys(("1x1", "3x3")))
    _check_head(net)
    if len(config.optim.disc.betas) != 2:
        raise UserError(f"config.optim.disc.betas={config.optim.disc.betas} are not two numbers")
    assemble.scored(config)
    assemble.also_scored(config)
    method = assemble.method(config)
    assemble.predictor(config, method)
    if config.eval.source_images < 0:
        raise UserError(f"config.eval.source_images={config.eval.source_images} is negative")
    assemble.devices(config)
    if method.warmup and settings.warmup_steps >= settings.steps:
        raise UserError(
            f"config.train.warmup_steps={settings.warmup_steps} leaves nothing of "
            f"config.train.steps={settings.steps} for the adaptation"
        )
    for player in method.losses:
        length = config.optim[player].schedule_steps
        if length < settings.steps:
            raise UserError(
                f"config.optim.{player}.schedule_steps={length} ends before config.train.steps="
                f"{settings.steps}: the learning rate would be 0 from there on"
            )


def _check_head(net: ConfigDict) -> None:
    pyramid = not (net.backbone in vgg.SIZES and vgg.SIZES[net.backbone].score)
    if pyramid and not net.rates:
        raise UserError(f"config.net.rates is empty: {net.backbone} sums dilation rates")
    if not 0 <= net.summed <= len(net.rates):
        raise UserError(f"config.net.summed={net.summed} of {len(net.rates)} config.net.rates")
    if net.aux and net.backbone in vgg.SIZES:
        raise UserError(
            f"config.net.backbone={net.backbone} has one output level: give --config.net.aux=False"
        )
