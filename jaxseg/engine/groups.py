"""Groups of parameters with rates and weight decay of their own, and optax's optimisers by name.

A group is a regular expression on the parameter's path (`segmenter/main_head/kernel`) with a factor
of the learning rate, a factor of the weight decay, or both. For each of the two the first group
that matches and gives it wins; a parameter of no group has the factor 1.
"""

import inspect
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import optax

from jaxseg.engine.optim import Multipliers, multiplier_of, path_name, scale_by_path
from jaxseg.errors import UserError, check_keywords

FROZEN = "frozen"
# These do not take a schedule as their learning rate, or want more than the gradient at a step.
UNSUITED = ("lbfgs", "optimistic_adam", "rprop", "sm3")
OWN = ("learning_rate", "weight_decay", "mask", "weight_decay_mask")  # given by `from_optax`


class Group(NamedTuple):
    """Parameters whose path an expression is found in.

    Attributes:
      pattern: the regular expression.
      rate: factor of the learning rate, 0 to freeze the parameters; None leaves it to later groups.
      decay: factor of the weight decay; None leaves it to later groups.
    """

    pattern: str
    rate: float | None = None
    decay: float | None = None


def parse(what: str, given: Sequence[Any]) -> tuple[Group, ...]:
    """Groups as a config has them: (('head', {'rate': 10.0}), ('norm', {'decay': 0.0})).

    Args:
      what: names the setting in messages.
      given: pairs of an expression and its factors.

    Raises:
      UserError: what is given is no such pairs, has no valid expression, or a negative factor.
    """
    found = []
    for entry in given:
        if not (
            isinstance(entry, tuple | list) and len(entry) == 2 and isinstance(entry[0], str)
        ) or not hasattr(entry[1], "keys"):
            raise UserError(
                f"{what}: {entry!r} is not (EXPRESSION, FACTORS); give pairs, as "
                "\"(('head', {'rate': 10.0}), ('norm', {'decay': 0.0}))\""
            )
        pattern, factors = entry[0], {key: entry[1][key] for key in entry[1].keys()}  # noqa: SIM118
        try:
            re.compile(pattern)
        except re.error as error:
            raise UserError(f"{what}: {pattern!r} is no regular expression: {error}") from error
        check_keywords(Group, factors, what=f"{what}: {pattern!r}", reserved=("pattern",))
        for key, value in factors.items():
            if type(value) not in (int, float) or value < 0:
                raise UserError(f"{what}: {pattern!r} has {key}={value!r}: give 0 or more")
        found.append(Group(pattern, **factors))
    return tuple(found)


def rates(groups: Sequence[Group]) -> list[tuple[str, float]]:
    """The factors of the learning rate, as `optim.multiplier_of` reads them."""
    return [(group.pattern, group.rate) for group in groups if group.rate is not None]


def grouped(
    make: Callable[[float], optax.GradientTransformation],
    groups: Sequence[Group],
    *,
    clip: float = 0.0,
    what: str = "groups",
) -> optax.GradientTransformation:
    """An optimiser with a weight decay of its own for some parameters, and none at all for others.

    Args:
      make: factor of the weight decay -> the optimiser for parameters that have this factor. The
        rates of the groups are its own concern.
      groups: a group of rate 0 is frozen: its parameters stay, and take no optimiser memory.
      clip: largest global norm of the gradient of all that is not frozen, 0 for no limit.
      what: names the setting in messages.

    Returns:
      a transformation; its `init` raises UserError for a group that matches no parameter.
    """
    frozen = rates(groups)
    decays = [(group.pattern, group.decay) for group in groups if group.decay is not None]

    def label(path: tuple) -> str:
        name = path_name(path)
        if multiplier_of(name, frozen) == 0:
            return FROZEN
        return f"decay {float(multiplier_of(name, decays))}"

    def labels(params: Any) -> Any:
        return jax.tree_util.tree_map_with_path(lambda path, _: label(path), params)

    factors = dict.fromkeys([1.0, *(float(decay) for _, decay in decays)])
    parts = {f"decay {factor}": make(factor) for factor in factors}
    if any(rate == 0 for _, rate in frozen):
        parts[FROZEN] = optax.set_to_zero()
    steps = [make(1.0) if len(parts) == 1 else optax.partition(parts, labels)]
    if clip:
        steps.insert(0, optax.clip_by_global_norm(clip))
        if FROZEN in parts:  # whose gradient does not count
            steps.insert(0, scale_by_path([(p, float(rate != 0)) for p, rate in frozen]))
    tx = optax.chain(*steps)

    def init(params: Any) -> Any:
        paths = jax.tree_util.tree_flatten_with_path(params)[0]
        names = [path_name(path) for path, _ in paths]
        for group in groups:
            if not any(re.search(group.pattern, name) for name in names):
                raise UserError(
                    f"{what}: {group.pattern!r} matches no parameter; their names are like "
                    + ", ".join(dict.fromkeys((names[0], names[len(names) // 2], names[-1])))
                )
        return tx.init(params)

    return optax.GradientTransformationExtraArgs(init, tx.update)


def optax_names() -> list[str]:
    """The optimisers of optax that `from_optax` makes."""
    return [name for name in dir(optax) if _is_optimiser(name)]


def from_optax(
    name: str,
    schedule: optax.Schedule,
    *,
    what: str,
    settings: dict[str, Any],
    weight_decay: float = 0.0,
    betas: Sequence[float] = (),
    multipliers: Multipliers = (),
) -> optax.GradientTransformation:
    """An optimiser of optax by its name there, as 'adamw' or 'lion'.

    Args:
      name: of a function of optax that takes a learning rate.
      schedule: step -> learning rate.
      what: names the group of settings in messages.
      settings: its own keyword arguments, as its documentation has them.
      weight_decay: as the optimiser has it; of adamw, lion and most others decoupled from the
        gradient and multiplied by the rate.
      betas: b1 and b2 of an optimiser that has both, where `settings` do not give them; () for its
        own.
      multipliers: (expression, factor of the learning rate), first match wins. The decoupled decay
        is multiplied with it, as in PyTorch's parameter groups.

    Raises:
      UserError: an unknown name; a setting that the optimiser does not take, or a weight decay.
    """
    if not _is_optimiser(name):
        raise UserError(
            f"{what}.optimiser={name!r}; choose sgd, adam (as in PyTorch), or one of optax: "
            + ", ".join(optax_names())
        )
    make = getattr(optax, name)
    takes = inspect.signature(make).parameters
    check_keywords(make, settings, what=f"{what}.settings: {name}", reserved=OWN)
    own = dict(settings)
    if betas and {"b1", "b2"} <= takes.keys():
        own = dict(b1=betas[0], b2=betas[1]) | own
    if "weight_decay" in takes:
        own["weight_decay"] = weight_decay
    elif weight_decay:
        raise UserError(
            f"{what}.weight_decay={weight_decay}: {name} has none; give --{what}.weight_decay=0"
        )
    tx = make(schedule, **own)
    return optax.chain(tx, scale_by_path(multipliers)) if multipliers else tx


def _is_optimiser(name: str) -> bool:
    made = getattr(optax, name, None)
    if not name[:1].islower() or name in UNSUITED or name.startswith("scale_"):
        return False  # a class, a private name, part of an optimiser
    return callable(made) and "learning_rate" in inspect.signature(made).parameters
