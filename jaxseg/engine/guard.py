"""Keeps numbers that are not finite out of the training state.

An update whose losses, gradient norms, new statistics or new memory are not finite is not made.
Whether it is made is decided inside the compiled update, from values that are equal on all devices,
so the devices stay equal and nobody waits for the host. `skips` such updates are passed over in a
run; with the next one the state stands still for good, as it was before that step, until the host
looks and stops the run.

The new parameters do not take part, so that it is decided before the optimisers move: on a CPU they
move in a branch, which costs nothing. Should an optimiser make NaN of finite gradients, the next
step's losses tell; such a state cannot be saved either (`checkpoint`).

What the host needs to know comes with the metrics, under names that begin with PREFIX.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxseg import routes
from jaxseg.engine.method import State

PREFIX = "guard/"
SKIPPED = PREFIX + "skipped"  # int32, `State.skipped` after the step
NORM = "grad_norm/"  # of each player, averaged over the devices, before any clipping
WATCHED = ("loss/", NORM)  # metrics that decide; others may be undefined, as an accuracy of nothing
PARTS = ("stats", "memory")  # of the state; parameters follow from finite gradients
SMALL = 1 << 16  # arrays with fewer values are examined together: one reduction, not hundreds


def norm(tree: Any) -> jax.Array:
    """The Euclidean norm of all values of a tree, float32 []; not finite if one value is not."""
    squares = (jnp.sum(jnp.square(part)) for part in _parts(jax.tree.leaves(tree)))
    return jnp.sqrt(sum(squares, jnp.zeros(())))


def settle(
    before: State,
    players: Sequence[str],
    moved: Callable[[], tuple[dict, dict]],
    stats: Any,
    memory: Any,
    metrics: Mapping[str, jax.Array],
    skips: int,
) -> tuple[State, dict[str, jax.Array]]:
    """The state that a step leaves: a new one, or `before` if something in it is not finite.

    Args:
      before: the state that the step began with; its `skipped` is at most `skips` in the first step
        of a run.
      players: those that move in this step.
      moved: () -> ({player: parameters}, {player: optimiser's state}) of these. It is traced within
        a branch of the program, and once more if there are `skips`.
      stats, memory: what the step computed.
      metrics: of the step, equal on all devices, with the losses and gradient norms.
      skips: number of updates that may be passed over.

    Returns:
      The state and the metrics, with {guard/skipped: int32, guard/<part of the state>: 1.0 if it
      was not finite}. A step that is passed over moves the step's number and the counters in the
      optimisers' states (so that schedules end with the training), nothing else. Once `skips` is
      exceeded nothing moves at all, and `skipped` is skips + 1.
    """
    computed = {"stats": stats, "memory": memory}
    broken = {name: ~_finite(getattr(before, name), new) for name, new in computed.items()}
    values = [jnp.isfinite(v) for name, v in metrics.items() if name.startswith(WATCHED)]
    bad = jnp.any(jnp.stack([*broken.values(), *(~finite for finite in values)]))
    over = before.skipped > skips
    stop = over | (bad & (before.skipped >= skips))
    still = over | bad
    stood = tuple({p: part[p] for p in players} for part in (before.params, before.opt))
    if routes.current() == "cpu":
        # In a branch nothing is read or compared that the optimisers do not touch anyway.
        params, opt = lax.cond(still, lambda: stood, moved)
    else:  # a branch would make an accelerator wait for the host
        params, opt = _chosen(still, stood, moved())
    if skips:
        opt = jax.tree.map(functools.partial(_counted, stop), stood[1], moved()[1], opt)
    state = State(
        step=jnp.where(stop, before.step, before.step + 1),
        key=before.key,
        params={**before.params, **params},
        opt={**before.opt, **opt},
        stats=_chosen(still, before.stats, stats),
        memory=_chosen(still, before.memory, memory),
        skipped=jnp.where(over, before.skipped, before.skipped + bad.astype(jnp.int32)),
    )
    told = {PREFIX + name: flag.astype(jnp.float32) for name, flag in broken.items()}
    return state, {**metrics, **told, SKIPPED: state.skipped}


def _chosen(still: jax.Array, old: Any, new: Any) -> Any:
    """`old` if the state is to stand still, else `new`."""
    return jax.tree.map(lambda a, b: b if a is b else jnp.where(still, a, b), old, new)


def _counted(stop: jax.Array, old: jax.Array, new: jax.Array, chosen: jax.Array) -> jax.Array:
    counter = not jnp.issubdtype(new.dtype, jnp.inexact)
    return jnp.where(stop, old, new) if counter else chosen


def wrong(metrics: Mapping[str, Any]) -> list[str]:
    """What is not finite in a step, by name; empty if the step is sound.

    Args:
      metrics: of one step, on the host.

    Returns:
      Names of metrics, the losses' terms among them. If losses and gradient norms are finite, terms
      are no reason, and the reason is 'the new stats' or another part of the state.
    """
    names = [name for name, value in plain(metrics).items() if not math.isfinite(value)]
    if any(name.startswith(WATCHED) for name in names):
        return names
    return [f"the new {name}" for name in PARTS if metrics.get(PREFIX + name)]


def plain(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The metrics without those of this module."""
    return {name: value for name, value in metrics.items() if not name.startswith(PREFIX)}


def skipped(metrics: Any) -> list[int]:
    """How many updates each member has passed over, from the metrics of one step on the devices.

    Args:
      metrics: {name: [] or [members]}, or a list of such for each member.
    """
    found = [each[SKIPPED] for each in (metrics if isinstance(metrics, list) else [metrics])]
    return [int(count) for counts in jax.device_get(found) for count in counts.reshape(-1)]


def _finite(before: Any, after: Any) -> jax.Array:
    """Whether all floats of a tree are finite, except for leaves that the step left alone."""
    pairs = zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True)
    changed = [new for old, new in pairs if old is not new]
    # 0 times NaN or infinity is NaN; on CPU this sum is quicker than `isfinite(leaf).all()`.
    return sum((jnp.sum(part * 0) for part in _parts(changed)), jnp.zeros(())) == 0


def _parts(leaves: list[jax.Array]) -> list[jax.Array]:
    """The floats of many arrays as few float32 arrays: each costs a kernel and its compilation."""
    floats = [leaf for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    if not floats:
        return []
    # Without this barrier what computes the leaves is computed again, in one huge kernel.
    floats = lax.optimization_barrier(floats)
    small = [leaf.reshape(-1) for leaf in floats if leaf.size < SMALL]
    large = [leaf for leaf in floats if leaf.size >= SMALL]
    joined = [jnp.concatenate([leaf.astype(jnp.float32) for leaf in small])] if small else []
    return joined + [leaf.astype(jnp.float32) for leaf in large]
