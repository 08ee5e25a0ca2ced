"""Builds each player's optax transformation and schedule from `config.optim`."""

import ast
import functools
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import optax
from ml_collections import ConfigDict

from jaxseg.engine import groups as parameter_groups
from jaxseg.engine import optim
from jaxseg.engine import schedules as engine_schedules
from jaxseg.errors import UserError, check_keywords
from jaxseg.experiment import networks
from jaxseg.experiment import settings as experiment_settings

# Settings added after the first runs, with the values that those runs used.
LATER = dict(groups=(), settings="", warmup_steps=0, warmup_start=1e-6, hold=0.0)


class Players(NamedTuple):
    """Optimisers, and their schedules for the log, by player."""

    txs: dict[str, Any]
    schedules: dict[str, Callable]


def make_optimisers(config: ConfigDict) -> Players:
    """The optimiser and schedule of each player, as `config.optim` says.

    Raises:
      UserError: an unknown optimiser or schedule, settings that do not go together.
    """
    schedules, txs = {}, {}
    if config.method.name == "cyclegan" and "translator" not in config.optim:
        raise UserError(
            f"{config.name}: there is no config.optim.translator; it is a run from before the "
            "translators had an optimiser of their own, which has to be trained anew"
        )
    for player, settings in config.optim.items():
        what = f"config.optim.{player}"
        schedules[player] = _schedule(what, settings)
        multipliers = networks.rate_multipliers(config) if player == "gen" else ()
        txs[player] = _optimiser(what, settings, schedules[player], multipliers)
    return Players(txs, schedules)


def _later(settings: ConfigDict, name: str) -> Any:
    return settings[name] if name in settings else LATER[name]  # noqa: SIM401


def _schedule(what: str, settings: ConfigDict) -> optax.Schedule:
    s, made = settings, engine_schedules
    falls = {
        "poly": lambda: made.poly(s.lr, s.schedule_steps, s.power),
        "linear": lambda: made.linear(s.lr, s.schedule_steps, _later(s, "hold")),
        "cosine": lambda: made.cosine(s.lr, s.schedule_steps),
        "one_cycle": lambda: made.one_cycle(s.lr, s.schedule_steps, s.warm),
        "constant": lambda: made.constant(s.lr),
    }
    name = what.removeprefix("config.")
    schedule = experiment_settings.choice(f"{name}.schedule", settings.schedule, falls)()
    warmup = (_later(settings, "warmup_steps"), _later(settings, "warmup_start"))
    try:
        return made.warmed_up(schedule, *warmup)
    except UserError as error:
        raise UserError(f"{what}.warmup_steps, warmup_start: {error}") from error


def _optimiser(
    what: str, settings: ConfigDict, schedule: optax.Schedule, multipliers: optim.Multipliers
) -> optax.GradientTransformation:
    """A player's optimiser; without `groups` exactly that of the papers."""
    own = {"sgd": _sgd, "adam": _adam}.get(settings.optimiser, _optax)
    given = parameter_groups.parse(f"{what}.groups", _later(settings, "groups"))
    rates = parameter_groups.rates(given)
    if rates:
        # Parameters that the network freezes stay frozen; the groups replace its other factors.
        kept = [entry for entry in multipliers if type(entry[1]) is float and not entry[1]]
        multipliers = [*kept, *rates, *multipliers]
    make = functools.partial(own, what, settings, schedule, multipliers)
    if not given and own is not _optax:
        return make(settings.weight_decay, settings.clip)
    return parameter_groups.grouped(
        lambda factor: make(settings.weight_decay * factor, 0.0),
        given,
        clip=settings.clip,
        what=f"{what}.groups",
    )


def _sgd(what, settings, schedule, multipliers, weight_decay, clip):
    _own(what, optim.sgd, settings, takes=())
    if settings.high_momentum:
        raise UserError(f"{what}.high_momentum: the momentum of sgd stays; give 0, or adam")
    repeated = settings.get("repeat_backbone", False)
    return optim.sgd(
        schedule,
        momentum=settings.momentum,
        repeats=networks.REPEATS if repeated else (),
        weight_decay=weight_decay,
        multipliers=multipliers,
        clip=clip,
    )


def _adam(what, settings, schedule, multipliers, weight_decay, clip):
    own = _own(what, optim.adam, settings, takes=("eps",))
    _no_repeats(what, settings)
    betas, cycle = tuple(settings.betas), None
    if len(betas) != 2:
        raise UserError(f"{what}.betas={betas}: adam needs two numbers within 0..1")
    if settings.high_momentum:
        if settings.schedule != "one_cycle":
            remedy = f"it is for --{what}.schedule=one_cycle"
            raise UserError(f"{what}.high_momentum={settings.high_momentum}: {remedy}")
        cycle = engine_schedules.one_cycle_momentum(
            betas[0], settings.high_momentum, settings.schedule_steps, settings.warm
        )
    return optim.adam(
        schedule,
        betas=betas,
        beta1_schedule=cycle,
        weight_decay=weight_decay,
        multipliers=multipliers,
        clip=clip,
        **own,
    )


def _optax(what, settings, schedule, multipliers, weight_decay, clip):
    del clip  # of all parameters together: `grouped` does it
    _no_repeats(what, settings)
    if settings.high_momentum:
        raise UserError(f"{what}.high_momentum is for --{what}.optimiser=adam; give 0")
    return parameter_groups.from_optax(
        settings.optimiser,
        schedule,
        what=what,
        settings=_pairs(what, settings),
        weight_decay=weight_decay,
        betas=tuple(settings.betas),
        multipliers=multipliers,
    )


def _no_repeats(what: str, settings: ConfigDict) -> None:
    if settings.get("repeat_backbone", False):
        raise UserError(f"{what}.repeat_backbone is for --{what}.optimiser=sgd")


def _own(what: str, make: Callable, settings: ConfigDict, takes: tuple[str, ...]) -> dict[str, Any]:
    """`settings` for sgd or adam, most of whose arguments are settings of the player itself."""
    given, reserved = _pairs(what, settings), inspect.signature(make).parameters.keys() - set(takes)
    check_keywords(make, given, what=f"{what}.settings: {settings.optimiser}", reserved=reserved)
    return given


def _pairs(what: str, settings: ConfigDict) -> dict[str, Any]:
    """Parses "eps=1e-7 nesterov=True"; values that are no Python literals stay text."""
    found = {}
    for entry in _later(settings, "settings").split():
        name, equals, text = entry.partition("=")
        if not (name and equals and text) or name in found:
            raise UserError(
                f"{what}.settings: {entry!r} is not NAME=VALUE without blanks, each name once, as "
                "in 'eps=1e-7 nesterov=True'"
            )
        try:
            found[name] = ast.literal_eval(text)
        except (SyntaxError, ValueError):
            found[name] = text
    return found
