"""From `config.optim` to optax transformations and their schedules, one for each player."""

from collections.abc import Callable
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from jaxseg.engine import optim
from jaxseg.errors import UserError
from jaxseg.experiment import networks
from jaxseg.experiment import settings as experiment_settings


class Players(NamedTuple):
    """The optimisers, and their schedules for the log; by player."""

    txs: dict[str, Any]
    schedules: dict[str, Callable]


def make_optimisers(config: ConfigDict) -> Players:
    """The optimiser and schedule of each player, as `config.optim` says.

    Raises:
      UserError: an unknown optimiser or schedule, settings that do not go together.
    """
    schedules, txs = {}, {}
    for player, settings in config.optim.items():
        name = f"optim.{player}"
        falls = {
            "poly": lambda s=settings: optim.poly(s.lr, s.schedule_steps, s.power),
            "cosine": lambda s=settings: optim.cosine(s.lr, s.schedule_steps),
            "one_cycle": lambda s=settings: optim.one_cycle(s.lr, s.schedule_steps, s.warm),
        }
        schedules[player] = experiment_settings.choice(
            f"{name}.schedule", settings.schedule, falls
        )()
        shared = dict(
            weight_decay=settings.weight_decay,
            multipliers=networks.rate_multipliers(config) if player == "gen" else (),
            clip=settings.clip,
        )
        makers = {"sgd": _sgd, "adam": _adam}
        make = experiment_settings.choice(f"{name}.optimiser", settings.optimiser, makers)
        txs[player] = make(name, settings, schedules[player], shared)
    return Players(txs, schedules)


def _sgd(name, settings, schedule, shared):
    if settings.high_momentum:
        raise UserError(f"config.{name}.high_momentum: the momentum of sgd stays; give 0, or adam")
    repeated = settings.get("repeat_backbone", False)
    repeats = networks.REPEATS if repeated else ()
    return optim.sgd(schedule, momentum=settings.momentum, repeats=repeats, **shared)


def _adam(name, settings, schedule, shared):
    if settings.get("repeat_backbone", False):
        raise UserError(f"config.{name}.repeat_backbone is for --config.{name}.optimiser=sgd")
    betas, cycle = tuple(settings.betas), None
    if settings.high_momentum:
        if settings.schedule != "one_cycle":
            remedy = f"it is for --config.{name}.schedule=one_cycle"
            raise UserError(f"config.{name}.high_momentum={settings.high_momentum}: {remedy}")
        cycle = optim.one_cycle_momentum(
            betas[0], settings.high_momentum, settings.schedule_steps, settings.warm
        )
    return optim.adam(schedule, betas=betas, beta1_schedule=cycle, **shared)
