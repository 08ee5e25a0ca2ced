"""Checkpoints: what Orbax saves and restores, and the proof that it is what was saved.

Orbax writes a step atomically and in the background, deletes steps that are not to be kept, and can
read one item of a step without the others. It does not notice a flipped byte, takes an empty step
folder for the latest step, and casts dtypes silently. So every leaf's shape, dtype and CRC-32 are
kept beside the arrays and compared when a step is read; a damaged step is reported, the step before
is used, and the next save renames it to `<step>.damaged` instead of writing over it. A step that
merely cannot be read now (rights, a network drive) is an error, not damage.

Trees are stored as nested dictionaries of arrays with text keys (`opt/gen/0/trace/seg/...`). No
Python type is stored, so a state restores into whatever tree types the template has, and a model
restores without one.

A step has three items: `model` (step, params, stats, memory), `train` (key, opt) and `config`.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from flax.traverse_util import unflatten_dict
from jax.experimental import multihost_utils

from jaxseg.errors import UserError
from jaxseg.evaluation.selection import LABELS, Criterion
from jaxseg.storage import run_folder
from jaxseg.storage.checkpoints.choice import Preservation, Rankings, standing_for
from jaxseg.storage.checkpoints.orbax import hindrance, quiet_orbax, set_aside
from jaxseg.storage.checkpoints.tree import Tree, fill, pack, seal, unseal, verified

MODEL_FIELDS = ("step", "params", "stats", "memory")
TRAIN_FIELDS = ("key", "opt")
DIGITS = 8  # of a step in the name of its folder


class Manager(ocp.CheckpointManager):
    """Orbax's manager, for which metrics that cannot be parsed are no metrics.

    Attributes:
      rankings: criterion, and the step it counts from, by the name that `restore_model` takes.
      damaged_steps: those that a restore came upon.
    """

    rankings: Rankings
    damaged_steps: set[int]

    def metrics(self, step: int) -> dict[str, float] | None:
        try:
            metrics = super().metrics(step)
        except ValueError:  # neither JSON nor UTF-8
            return None
        return metrics if isinstance(metrics, dict) else None


class _Damaged(Exception):
    """A step that cannot be read, or not as it was written."""


def open_manager(
    folder: str | Path,
    *,
    keep: int = 2,
    criteria: Sequence[Criterion] = (),
    since: int = 0,
    read_only: bool = False,
) -> Manager:
    """Opens a folder of checkpoints; creates it unless `read_only`.

    Args:
      folder: holds one folder per step.
      keep: how many of the latest steps stay; the best one by target labels stays as well.
      criteria: the best one by each of these stays too, and its key names it in `restore_model`.
      since: the end of the warm-up; earlier steps do not count for `criteria`.
      read_only: never writes or deletes; the folder has to hold a checkpoint.

    Returns:
      The Orbax manager. `manager.latest_step()` is None if there is nothing to resume from;
      close it (it waits for the last save), or use it as a context manager.

    Raises:
      UserError: `read_only` and no checkpoint, or a folder that cannot be used.
    """
    folder = Path(folder).absolute()
    quiet_orbax()

    rankings = {"best": (LABELS, 0), **{c.key: (c, since) for c in criteria}}
    options = ocp.CheckpointManagerOptions(
        preservation_policy=None if read_only else Preservation(keep, rankings.values()),
        best_fn=lambda metrics: metrics.get(LABELS.key, -math.inf),  # or it would save no metrics
        best_mode="max",
        step_format_fixed_length=DIGITS,
        read_only=read_only,
    )
    try:
        if read_only and not run_folder.holds_steps(folder):
            raise UserError(
                f"no checkpoint in {folder}: train first (--mode=train) with the same --workdir, "
                "or point --workdir at the folder of a finished run"
            )
        manager = Manager(folder, options=options)
    except OSError as error:
        raise UserError(f"cannot use the checkpoints in {folder}: {error}") from error
    manager.rankings, manager.damaged_steps = rankings, set()
    return manager


def save(
    manager: Manager,
    state: Tree,
    config: Mapping[str, Any],
    metrics: Mapping[str, Any] | None = None,
) -> None:
    """Writes one step in the background; `manager.wait_until_finished()` or `close()` waits for it.

    Steps at or past this one are what an abandoned run left behind (a run that resumed from an
    earlier step comes past them again), and are removed first. Steps that a restore found damaged
    are not removed but renamed to `<step>.damaged`, for somebody to look at.

    Args:
      manager: from `open_manager`.
      state: with the fields step, params, stats, memory, key, opt; arrays on the host, on every
        process.
      config: the run's settings, anything JSON can hold.
      metrics: of the evaluation at this step; None if there was none (such a step is never the
        best). What is not a finite number is left out.
    """
    step = int(state.step)
    model, leaves, empty = pack({name: getattr(state, name) for name in MODEL_FIELDS})
    train, train_leaves, train_empty = pack({name: getattr(state, name) for name in TRAIN_FIELDS})
    numbers = {
        name: float(value)
        for name, value in (metrics or {}).items()
        if isinstance(value, (int, float, np.number)) and math.isfinite(value)
    }
    body = {
        "config": config,
        "metrics": numbers,
        "leaves": leaves | train_leaves,
        "empty": empty + train_empty,
    }
    record = seal(json.dumps(body, sort_keys=True, default=str))

    manager.wait_until_finished()
    _set_damaged_aside(manager)
    for stale in [s for s in manager.all_steps() if s >= step]:
        manager.delete(stale)
    items = ocp.args.Composite(
        model=ocp.args.StandardSave(model),
        train=ocp.args.StandardSave(train),
        config=ocp.args.JsonSave(record),
    )
    manager.save(step, args=items, metrics=numbers or None, force=True)


def restore_state(
    manager: Manager,
    template: Tree,
    step: int | None = None,
    announce: Callable[[str], None] = print,
) -> Tree:
    """Restores a whole training state, bit for bit.

    Args:
      manager: from `open_manager`.
      template: a state (or its `jax.eval_shape`) whose tree types, shapes and dtypes are wanted.
      step: a step, or None for the last one that is sound.
      announce: called with one line for each damaged step that is passed over.

    Returns:
      The template's tree with NumPy leaves.

    Raises:
      UserError: nothing sound to restore, no such step, or the template differs from what was
        saved.
    """
    wanted = "last" if step is None else step
    _, saved, record = _first_sound(manager, wanted, ("model", "train"), announce)
    fields = {name: getattr(template, name) for name in MODEL_FIELDS + TRAIN_FIELDS}
    return template._replace(**fill(fields, saved, record))


def restore_model(
    manager: Manager,
    step: str | int = "best",
    template: Mapping[str, Tree] | None = None,
    announce: Callable[[str], None] = print,
) -> tuple[int, dict[str, Tree], dict[str, Any]]:
    """Restores what prediction needs, and nothing of the optimisers.

    Args:
      manager: from `open_manager`.
      step: 'best' (by target labels; the last step if none has them), 'last', the key of a
        criterion that the manager was opened with, or a step.
      template: {'params': ..., 'stats': ..., 'memory': ...} to compare with and to take the tree
        types from; without one nested dictionaries are returned.
      announce: called with one line whenever another step than the one asked for is used.

    Returns:
      The step, {'params', 'stats', 'memory'} with NumPy leaves, and the config that was saved with
      it.

    Raises:
      UserError: nothing sound to restore, no such step, none that has the criterion, or the
        template differs from what was saved.
    """
    used, saved, record = _first_sound(manager, step, ("model",), announce)
    if template is not None:
        fields = {name: template[name] for name in MODEL_FIELDS[1:]}
        saved = {path: leaf for path, leaf in saved.items() if path != "step"}
        return used, fill(fields, saved, record), record["config"]
    empty: dict[str, Any] = {path: {} for path in record["empty"]}
    tree = unflatten_dict(empty | saved, sep="/")
    return used, {name: tree[name] for name in MODEL_FIELDS[1:]}, record["config"]


def _first_sound(
    manager: Manager, step: str | int, items: tuple[str, ...], announce: Callable[[str], None]
) -> tuple[int, dict[str, np.ndarray], dict[str, Any]]:
    """Goes through the steps that may stand for `step` until one is as it was written."""
    steps = sorted(manager.all_steps(), reverse=True)
    if not steps:
        raise UserError(
            f"no checkpoint in {manager.directory}: train first, with the same --workdir"
        )
    metrics = {s: manager.metrics(s) for s in steps}
    candidates = standing_for(step, metrics, manager.rankings, str(manager.directory), announce)
    for position, candidate in enumerate(candidates):
        try:
            leaves, record = _read(manager, candidate, items)
        except _Damaged as reason:
            manager.damaged_steps.add(candidate)
            rest = candidates[position + 1 :]
            if rest:
                announce(
                    f"checkpoint {candidate} is damaged ({reason}): using step {rest[0]} instead"
                )
                continue
            others = [s for s in steps if s not in candidates]
            remedy = f"choose another: {others}" if others else "remove the folder to start afresh"
            raise UserError(
                f"checkpoint {candidate} in {manager.directory} is damaged ({reason}) "
                f"and no other can stand in for it: {remedy}"
            ) from reason
        return candidate, leaves, record
    raise AssertionError("unreachable")


def _read(
    manager: Manager, step: int, items: tuple[str, ...]
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Leaves of the items by path, verified against the record of the step."""
    fields = [f for item in items for f in (MODEL_FIELDS if item == "model" else TRAIN_FIELDS)]
    wanted = {item: ocp.args.StandardRestore() for item in items}
    try:
        restored = manager.restore(
            step, args=ocp.args.Composite(config=ocp.args.JsonRestore(), **wanted)
        )
        record = json.loads(unseal(restored["config"]))
        facts = {p: f for p, f in record["leaves"].items() if p.split("/")[0] in fields}
        leaves = verified([restored[item] for item in items], facts)
        if (scores := manager.metrics(step)) and scores != record["metrics"]:
            raise ValueError("its metrics are not those it was saved with")
    except Exception as error:  # Orbax and its storage raise many kinds
        if reason := hindrance(error, _folder(manager, step)):
            raise UserError(
                f"cannot read checkpoint {step} in {manager.directory} ({reason}): nothing was "
                "changed, give the command again when it can be read"
            ) from error
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise _Damaged(reason[:120]) from error
    return leaves, record


def _folder(manager: Manager, step: int) -> Path:
    return Path(manager.directory) / f"{step:0{DIGITS}d}"


def _set_damaged_aside(manager: Manager) -> None:
    """Renames the damaged steps that a restore came upon, out of sight of Orbax."""
    damaged = manager.damaged_steps & set(manager.all_steps())
    manager.damaged_steps.clear()
    if not damaged:
        return
    if jax.process_index() == 0:
        for step in damaged:
            set_aside(_folder(manager, step))
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices("damaged checkpoints renamed")
    manager.reload()
