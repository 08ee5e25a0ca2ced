"""Settings that could not work, found before anything is prepared or compiled."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from jaxseg.data import transforms
from jaxseg.engine.method import Method
from jaxseg.errors import UserError
from jaxseg.experiment import networks, ranges
from jaxseg.experiment import settings as experiment_settings
from jaxseg.experiment.method import counted, make_method, make_predictor
from jaxseg.experiment.optimisers import Players, make_optimisers
from jaxseg.models.segmenters.build import WITHOUT_FEATURES
from jaxseg.storage import sinks

BOUNDARY = ("evaluate", "always", "")


class Checked(NamedTuple):
    """What had to be built to check a config."""

    method: Method
    players: Players


def check(config: ConfigDict) -> Checked:
    """Raises UserError for settings that could not work, before anything is prepared.

    Returns:
      The config's method and optimisers.
    """
    for side in ("source", "target"):
        experiment_settings.size_of(f"data.{side}.size", config.data[side].size)
        transforms.check_augment(config.augment[side].to_dict())
    if "log" in config:  # runs from before have none
        sinks.check(config.log.sinks, config.log.also)
    settings = config.train
    for player, optimiser in config.optim.items():
        betas = tuple(optimiser.betas)
        if len(betas) not in (0, 2) or not all(0 <= beta < 1 for beta in betas):
            raise UserError(f"config.optim.{player}.betas={betas} are not two numbers within 0..1")
    if 0 < settings.steps <= settings.warmup_steps and any(
        optimiser.schedule_steps < 1 for optimiser in config.optim.values()
    ):  # of players that begin after the warm-up
        raise _nothing_left(config)
    ranges.check(config)
    networks.check(config.net)
    players = make_optimisers(config)
    experiment_settings.scored(config)
    experiment_settings.also_scored(config)
    _check_depth(config)
    _check_features(config)
    method = make_method(config)
    make_predictor(config, method)
    if config.eval.boundary not in BOUNDARY:
        raise UserError(
            f"config.eval.boundary={config.eval.boundary!r}: give one of "
            + ", ".join(map(repr, BOUNDARY))
        )
    _check_mixes(config, len(experiment_settings.devices(config)))
    if method.warmup and settings.warmup_steps >= settings.steps:
        raise _nothing_left(config)
    for player in method.losses:
        length, steps = config.optim[player].schedule_steps, settings.steps
        end = f"config.train.steps={steps}"
        if method.warmup and player not in method.warmup:
            steps -= settings.warmup_steps  # it stands still, and its schedule with it
            end += f", of which it plays {steps}"
        if length < steps and config.optim[player].schedule != "constant":
            raise UserError(
                f"config.optim.{player}.schedule_steps={length} ends before {end}: the learning "
                "rate would be 0 from there on"
            )
    return Checked(method, players)


def _nothing_left(config: ConfigDict) -> UserError:
    train = config.train
    return UserError(
        f"config.train.warmup_steps={train.warmup_steps} leaves nothing of "
        f"config.train.steps={train.steps} for the adaptation"
    )


def check_band(config: ConfigDict) -> None:
    """Raises UserError for a band of FDA that holds no frequency, and so would change nothing.

    Only what augments source images asks for it: runs from before are still evaluated.
    """
    fda, side = config.augment.source.get("fda"), min(config.data.source.size)
    if fda and not int(side * fda):
        raise UserError(
            f"config.augment.source.fda={fda} of config.data.source.size, whose shorter side is "
            f"{side}, is less than one frequency: give {math.ceil(1000 / side) / 1000} or more"
        )


def _check_depth(config: ConfigDict) -> None:
    """A depth head and the weight of its loss go together."""
    weight = config.method.settings.get("lam_depth", 0.0)
    if bool(weight) != config.net.depth:
        what = "is not learnt" if config.net.depth else "has no head"
        raise UserError(
            f"config.net.depth={config.net.depth} with a weight of its loss of {weight}: depth "
            f"{what}; give --config.net.depth={bool(weight)}"
            + (", or --config.method.settings.lam_depth=0" if weight else "")
        )


def _check_features(config: ConfigDict) -> None:
    """What looks at the backbone's last features needs a network that gives them."""
    architecture, settings = config.net.architecture, config.method.settings
    if architecture not in WITHOUT_FEATURES:
        return
    name = ""
    if settings.get("adversarial_weights", {}).get("features"):
        name = "config.method.settings.adversarial_weights.features"
    if settings.get("feature_distance") and counted(config):
        name = "config.method.settings.feature_distance"
    if name or config.method.name == "fcns_in_the_wild":
        raise UserError(
            f"config.net.architecture={architecture} has no level 'features', which "
            f"{name or 'this method'} looks at: give "
            + (f"--{name}=0, or another architecture" if name else "another architecture")
        )


def check_cycle(config: ConfigDict) -> None:
    """Raises UserError for images that CycleGAN's networks do not take, and for a CyCADA whose
    judge has learnt nothing. Only what trains asks for it.
    """
    if config.method.name != "cyclegan":
        return
    key = jax.random.PRNGKey(0)
    nets = networks.translator(config), networks.image_discriminator(config)
    for side in ("source", "target"):
        size = tuple(config.augment[side].crop) or tuple(config.data[side].size)
        image = jax.ShapeDtypeStruct((1, *size, 3), jnp.float32)
        try:
            for net in nets:
                jax.eval_shape(net.init, key, image)
        except ValueError as error:
            settings = f"config.data.{side}.size, config.augment.{side}.crop"
            raise UserError(f"{settings}: {error}") from error
    judged, begun = config.method.settings.lam_semantic, config.init.get("weights")
    if judged and not config.train.warmup_steps and not begun:
        raise UserError(
            "config.method.settings.lam_semantic holds the translators to what the segmenter sees "
            "when the warm-up ends, and config.train.warmup_steps=0: give steps, or --init_from=RUN"
        )


def _check_mixes(config: ConfigDict, devices: int) -> None:
    """Images are mixed with others of the same device and micro-batch: there must be another."""
    settings = config.train
    mixes = {name: p for name, p in config.method.settings.get("mixes", {}).items() if p}
    share = settings.batch // (settings.accumulate * jax.process_count() * devices)
    if mixes and share < 2:
        raise UserError(
            f"config.method.settings.mixes.{min(mixes)} needs two images a device and micro-batch, "
            f"but config.train.batch={settings.batch} gives {devices} devices {share} each: make "
            "it larger, or config.train.devices smaller"
        )
