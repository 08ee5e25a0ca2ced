"""Groups of parameters with their own learning rate and weight decay; optax's optimisers by name.

A group is a regular expression on the parameter's path (`segmenter/main_head/kernel`) with a factor
of the learning rate, a factor of the weight decay, or both. Each factor is taken from the first
matching group that sets it; without one it is 1.
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
# These take no schedule as their learning rate, or need more than the gradient at each step.
UNSUITED = ("lbfgs", "optimistic_adam", "rprop", "sm3")
OWN = ("learning_rate", "weight_decay", "mask", "weight_decay_mask")  # given by `from_optax`


class Group(NamedTuple):
    """The parameters whose path matches an expression anywhere.

    Attributes:
      pattern: the regular expression.
      rate: factor of the learning rate, 0 to freeze the parameters; None leaves it to later groups.
      decay: factor of the weight decay; None leaves it to later groups.
    """

    pattern: str
    rate: float | None = None
    decay: float | None = None


def parse(what: str, given: Sequence[Any]) -> tuple[Group, ...]:
    """Reads groups from a config: (('head', {'rate': 10.0}), ('norm', {'decay': 0.0})).

    Args:
      what: names the setting in messages.
      given: pairs of an expression and its factors.

    Raises:
      UserError: an entry that is not such a pair, an invalid expression, or a negative factor.
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
    """An optimiser whose weight decay differs between groups, and that freezes groups of rate 0.

    Args:
      make: factor of the weight decay -> the optimiser for parameters with this factor; it also
        applies the groups' learning rates.
      groups: a group of rate 0 is frozen: its parameters do not change and need no optimiser state.
      clip: largest global norm of the gradient of all parameters that are not frozen; 0: no limit.
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
        if FROZEN in parts:  # their gradient must not count in the norm
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
    """The optimisers of optax that `from_optax` accepts."""
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
      settings: keyword arguments of the optimiser, as documented by optax.
      weight_decay: as the optimiser defines it; adamw, lion and most others decouple it from the
        gradient and multiply it by the learning rate.
      betas: b1 and b2 of an optimiser that has both, unless `settings` give them; () for its
        defaults.
      multipliers: (expression, factor of the learning rate), first match wins. The factor also
        multiplies decoupled weight decay, as in PyTorch's parameter groups.

    Raises:
      UserError: an unknown name, or a setting or weight decay that the optimiser does not have.
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
