"""The members of a sweep: the settings of each, and which settings can differ in one program.

`config.sweep.over` lists settings with their values, as "seed=0,1,2 optim.gen.lr=0.05,0.1"; the
members are all combinations, the last setting changing fastest. A number used by the update is
traced, so that it may differ between members within one program. With different settings of the
data (the seed, augmentation) each member has its own batches.
"""

import difflib
import functools
import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from jaxseg.engine.method import AXIS
from jaxseg.engine.update import make_update
from jaxseg.errors import UserError
from jaxseg.experiment import batches, settings
from jaxseg.experiment.method import make_method
from jaxseg.experiment.optimisers import make_optimisers
from jaxseg.experiment.state import abstract_state, example

OF_THE_DATA = ("seed", "augment.")
TRACED = ("method.settings.", "optim.")
HOW = ("vmap", "map", "each", "")


class Member(NamedTuple):
    """One of the runs that are trained together; a single run is the only member.

    Attributes:
      name: 'member_00', the name of its folder in the work folder; empty for a single run, which
        uses the work folder itself.
      values: swept setting -> its number.
      config: the config of this member as a separate run.
    """

    name: str
    values: dict[str, float]
    config: ConfigDict


def members(config: ConfigDict) -> list[Member]:
    """All members in order; without `config.sweep.over`, the single run that the config describes.

    Raises:
      UserError: `config.sweep` is malformed, or names a setting that cannot be swept.
    """
    if config.sweep.how not in HOW:
        raise UserError(
            f"config.sweep.how={config.sweep.how!r}: choose one of " + ", ".join(map(repr, HOW))
        )
    if not config.sweep.over:
        return [Member("", {}, config)]
    axes = dict(_axes(config))
    if not axes:
        raise UserError("config.sweep.over names no setting: give some, as 'seed=0,1,2'")
    base = config.copy_and_resolve_references()
    with base.unlocked():
        base.sweep.update(dict(over="", how=""))
        # With only one checkpoint each, members killed while saving may have no step in common.
        base.train.keep = max(2, base.train.keep)
    listed = []
    for number, values in enumerate(itertools.product(*axes.values())):
        own = dict(zip(axes, values, strict=True))
        listed.append(Member(f"member_{number:02d}", own, with_values(base, own)))
    return listed


def _axes(config: ConfigDict) -> Iterator[tuple[str, tuple[float, ...]]]:
    known, seen = list(_numbers(config)), set()
    for entry in config.sweep.over.split():
        path, equals, texts = entry.partition("=")
        path = path.removeprefix("config.")
        what = f"config.sweep.over: {entry!r}"
        if not (path and equals and all(texts.split(","))):
            raise UserError(f"{what} is not SETTING=VALUE,VALUE without blanks, as seed=0,1,2")
        if path in seen:
            raise UserError(f"{what}: {path} is given twice")
        seen.add(path)
        if not path.startswith((*OF_THE_DATA, *TRACED)):
            raise UserError(
                f"{what}: config.{path} cannot be swept; what can be is seed and the numbers in "
                "augment, method.settings and optim"
            )
        if path not in known:
            near = difflib.get_close_matches(path, known, 1, 0.5)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise UserError(f"{what}: config.{path} is no setting that is a number{hint}")
        kind = type(at(config, path))
        try:
            values = tuple(kind(text) for text in texts.split(","))
        except ValueError as error:
            word = "whole numbers" if kind is int else "numbers"
            raise UserError(f"{what}: give {word}, separated by commas") from error
        if len(set(values)) < len(values):
            raise UserError(f"{what}: a value is given twice")
        yield path, values


def _numbers(tree: ConfigDict, prefix: str = "") -> Iterator[str]:
    """The paths of all settings that are numbers."""
    for key, value in tree.items():
        if isinstance(value, ConfigDict):
            yield from _numbers(value, f"{prefix}{key}.")
        elif type(value) in (int, float):
            yield prefix + key


def at(config: ConfigDict, path: str) -> Any:
    """The value of the setting at a path such as 'optim.gen.lr'."""
    return functools.reduce(lambda group, key: group[key], path.split("."), config)


def with_values(config: ConfigDict, values: Mapping[str, Any]) -> ConfigDict:
    """A copy of the config with new values, which may be tracers, at some paths."""
    config = config.copy_and_resolve_references()
    with config.unlocked(), config.ignore_type():
        for path, value in values.items():
            group, _, key = path.rpartition(".")
            (at(config, group) if group else config)[key] = value
    return config


def folder(workdir: str, member: Member) -> str:
    """The folder of a member's run."""
    return os.path.join(workdir, member.name) if member.name else workdir


def own_batches(members: Sequence[Member]) -> bool:
    """Whether each member has its own batches, those of a separate run."""
    swept = members[0].values if len(members) > 1 else ()
    return any(path.startswith(OF_THE_DATA) for path in swept)


def traced(members: Sequence[Member]) -> dict[str, np.ndarray]:
    """The traced settings: path -> [members], float32 or int32."""
    return {
        path: np.asarray([member.values[path] for member in members], _dtype(value))
        for path, value in members[0].values.items()
        if path.startswith(TRACED)
    }


def _dtype(value: float) -> type:
    return np.int32 if isinstance(value, int) else np.float32


def member_update(config: ConfigDict, phase: str):
    """(values {path: number}, state, batch) -> (state, metrics): one member's step within a sweep.

    Tracing it builds the method and the optimisers from a config that holds tracers where the
    members differ.

    Args:
      config: of any member.
      phase: 'warmup' or 'full'.
    """

    def update(values, state, batch):
        own = with_values(config, values)
        method, players = make_method(own), make_optimisers(own)
        losses = method.warmup if phase == "warmup" else method.losses
        played = method._replace(losses=losses)
        settings = config.train
        step = make_update(played, players.txs, settings.accumulate, settings.skip_bad_steps)
        return step(state, batch)

    return update


def check_traceable(members: Sequence[Member]) -> None:
    """Raises UserError for a swept setting that changes the program itself, or changes nothing.

    Traces the update with tracers in place of the settings; computes nothing.
    """
    config = batches.with_equal_weights(members[0].config)
    paths = [path for path in members[0].values if path.startswith(TRACED)]
    if not paths:
        return
    try:
        used = _used(config, paths)
    except Exception as error:
        _used(config, [])  # finds mistakes that have nothing to do with the sweep
        for path in paths:
            try:
                _used(config, [path])
            except Exception as own:
                raise UserError(
                    f"config.sweep.over: config.{path} decides what is computed, not only how "
                    f"much of it: members that differ in it need runs of their own ({_kind(own)})"
                ) from error
        raise
    for path in paths:
        if path not in used:
            raise UserError(
                f"config.sweep.over: config.{path} changes nothing in {config.name}: all members "
                "would be the same"
            )


def _used(config: ConfigDict, paths: Sequence[str]) -> set[str]:
    """The settings that the update uses, found by tracing it with tracers in their place."""
    method, players = make_method(config), make_optimisers(config)
    state = abstract_state(config, method, players)
    share = config.train.batch // (jax.process_count() * len(settings.devices(config)))
    batch = {
        key: jax.ShapeDtypeStruct(
            (1, share, *x.shape[1:]), np.int32 if key.endswith("label") else x.dtype
        )
        for key, x in example(config, method).items()
        if key in method.reads
    }
    values = {path: _dtype(at(config, path))(at(config, path)) for path in sorted(paths)}
    update = jax.vmap(member_update(config, "full"), (None, None, 0), axis_name=AXIS)
    program = jax.make_jaxpr(update)(values, state, batch).jaxpr
    # Literals (which have `val`) cannot be hashed.
    read = {x for step in program.eqns for x in step.invars if not hasattr(x, "val")}
    # The swept values are the program's first inputs, in the order of their names.
    return {path for path, x in zip(values, program.invars, strict=False) if x in read}


def _kind(error: BaseException) -> str:
    """The name of the innermost error; TracerBoolConversionError, say, points to an `if`."""
    while error.__cause__ is not None:
        error = error.__cause__
    return type(error).__name__
