"""Checkpoints: saved and restored by Orbax, verified by checksums.

Orbax writes a step atomically and in the background, deletes steps that are not to be kept, and can
read one item of a step without the others. But it does not notice a flipped byte, takes an empty
step folder for the latest step, and casts dtypes silently. So every leaf's shape, dtype and CRC-32
are saved beside the arrays and compared when a step is read. A damaged step is reported and the
step before it is used; the next save renames it to `<step>.damaged` instead of overwriting it. A
step that merely cannot be read now (permissions, a network drive) is an error, not damage.

Trees are stored as nested dictionaries of arrays with text keys (`opt/gen/0/trace/seg/...`). No
Python type is stored: a state is restored into the tree types of its template, and a model can be
restored without one.

A step has three items: `model` (step, params, stats, memory), `train` (key, opt, skipped) and
`config`: the run's settings, the metrics by which criteria choose a step, and the facts of all
leaves, under one checksum. A state that is not finite is neither saved nor restored.
"""

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from flax.traverse_util import unflatten_dict
from jax.experimental import multihost_utils

from jaxseg.errors import UserError
from jaxseg.storage.checkpoints.choice import standing_for
from jaxseg.storage.checkpoints.manager import Manager
from jaxseg.storage.checkpoints.manager import open_manager as open_manager
from jaxseg.storage.checkpoints.orbax import hindrance, set_aside
from jaxseg.storage.checkpoints.tree import (
    Tree,
    by_path,
    fill,
    not_finite,
    pack,
    seal,
    unseal,
    verified,
)

MODEL_FIELDS = ("step", "params", "stats", "memory")
TRAIN_FIELDS = ("key", "opt", "skipped")
ADDED = ("skipped",)  # fields that the first checkpoints lack; the template's values stand for them


class _Damaged(Exception):
    """A step that cannot be read, or differs from what was written."""


def save(
    manager: Manager,
    state: Tree,
    config: Mapping[str, Any],
    metrics: Mapping[str, Any] | None = None,
) -> None:
    """Writes one step in the background; `manager.wait_until_finished()` or `close()` waits for it.

    Existing steps at or past this one are removed first: they were written before the run resumed
    from an earlier step. Steps that a restore found damaged are not removed but renamed to
    `<step>.damaged`, so that somebody can examine them.

    Args:
      manager: from `open_manager`.
      state: with the fields step, params, stats, memory, key, opt; arrays on the host, in every
        process.
      config: the run's settings, as JSON values.
      metrics: of the evaluation at this step; None if there was none (such a step is never the
        best). Values that are not finite numbers are left out.

    Raises:
      UserError: the state is not finite.
    """
    step = int(state.step)
    model, leaves, empty = pack({name: getattr(state, name) for name in MODEL_FIELDS})
    train, train_leaves, train_empty = pack({name: getattr(state, name) for name in TRAIN_FIELDS})
    for tree in (model, train):
        if path := not_finite(by_path(tree)[0]):
            raise UserError(
                f"{path} is not finite at step {step}: this state is not saved in "
                f"{manager.directory}"
            )
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
      template: a state (or its `jax.eval_shape`) with the tree types, shapes and dtypes to restore.
      step: a step, or None for the last undamaged one.
      announce: called with one line for each damaged step that is skipped.

    Returns:
      The template's tree with NumPy leaves.

    Raises:
      UserError: no undamaged checkpoint, no such step, or the template differs from the saved
        state.
    """
    wanted = "last" if step is None else step
    _, saved, record = _first_sound(manager, wanted, ("model", "train"), announce)
    names = [n for n in MODEL_FIELDS + TRAIN_FIELDS if n not in ADDED or n in saved]
    fields = {name: getattr(template, name) for name in names}
    return template._replace(**fill(fields, saved, record))


def restore_model(
    manager: Manager,
    step: str | int = "best",
    template: Mapping[str, Tree] | None = None,
    announce: Callable[[str], None] = print,
) -> tuple[int, dict[str, Tree], dict[str, Any]]:
    """Restores what prediction needs, without the optimisers.

    Args:
      manager: from `open_manager`.
      step: 'best' (by target labels; the last step if none was evaluated), 'last', the key of a
        criterion that the manager was opened with, or a step.
      template: {'params': ..., 'stats': ..., 'memory': ...} to compare with and to take the tree
        types from; without it, nested dictionaries are returned.
      announce: called with one line if another step than the requested one is used.

    Returns:
      The step, {'params', 'stats', 'memory'} with NumPy leaves, and the config saved at that step.

    Raises:
      UserError: no undamaged checkpoint, no such step, none that has the criterion, or the template
        differs from the saved model.
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
    """Reads the candidates for `step` in order, and returns the first that is undamaged."""
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
    """The items' leaves by path, verified against the checksums saved with the step."""
    fields = [f for item in items for f in (MODEL_FIELDS if item == "model" else TRAIN_FIELDS)]
    wanted = {item: ocp.args.StandardRestore() for item in items}
    try:
        restored = manager.restore(
            step, args=ocp.args.Composite(config=ocp.args.JsonRestore(), **wanted)
        )
        record = json.loads(unseal(restored["config"]))
        facts = {p: f for p, f in record["leaves"].items() if p.split("/")[0] in fields}
        leaves = verified([restored[item] for item in items], facts)
        if "step" in leaves and leaves["step"] != step:
            raise ValueError(f"it holds step {leaves['step']}: its folder was renamed")
        if path := not_finite(leaves):
            raise ValueError(f"{path} is not finite")
    except Exception as error:  # Orbax and its storage raise many kinds of errors
        if reason := hindrance(error, manager.folder(step)):
            raise UserError(
                f"cannot read checkpoint {step} in {manager.directory} ({reason}): nothing was "
                "changed, give the command again when it can be read"
            ) from error
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise _Damaged(reason[:120]) from error
    return leaves, record


def _set_damaged_aside(manager: Manager) -> None:
    """Renames the damaged steps that a restore has found, so that Orbax ignores them."""
    damaged = manager.damaged_steps & set(manager.all_steps())
    manager.damaged_steps.clear()
    if not damaged:
        return
    if jax.process_index() == 0:
        for step in damaged:
            set_aside(manager.folder(step))
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices("damaged checkpoints renamed")
    manager.reload()
