"""Several runs in one program, with different seeds, loss weights or learning rates.

Each member of a sweep has a `State`; one update moves all of them together (stacked, by
`jax.vmap`), inside the pmapped axis of devices. Up to float32 rounding, a member's result is that
of a separate run. A single run uses its own update, without stacking. `sweep_members` defines what
can differ between members; `train` trains them.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from ml_collections import ConfigDict

from jaxseg.engine import processes, programs
from jaxseg.engine.method import AXIS, Loss, Method, State
from jaxseg.experiment import batches
from jaxseg.experiment.optimisers import Players
from jaxseg.run import sweep_members
from jaxseg.run.sweep_members import Member

ALONE = "alone"


def how(config: ConfigDict, members: Sequence[Member]) -> str:
    """How to compute the members: 'alone' for a single member with nothing traced; otherwise
    `config.sweep.how`, or the fastest way for this kind of device.

    Under 'vmap', convolutions with one kernel per member become grouped convolutions, which XLA's
    CPU backend computes slowly: there a step takes twice as long as with 'each'. With 'map', whose
    loop uses one core, it takes seven times as long.
    """
    if len(members) == 1 and not sweep_members.traced(members):
        return ALONE
    return config.sweep.how or ("each" if jax.default_backend() == "cpu" else "vmap")


def phases(method: Method) -> dict[str, dict[str, Loss]]:
    """The losses of each training phase: 'warmup', if the method has one, and 'full'."""
    losses = {"warmup": method.warmup, "full": method.losses}
    return {phase: played for phase, played in losses.items() if played is not None}


def alone_update(
    method: Method,
    players: Players,
    accumulate: int,
    devices: list,
    skips: int = 0,
    look: Callable[[Any], None] | None = None,
) -> Callable:
    """The update of a single run, (states, batch) -> (states, metrics), on lists of length one."""
    update = programs.pmapped_update(method, players.txs, accumulate, devices, skips, look)

    def updated(states: list[State], batch: dict[str, jax.Array]) -> tuple[list, list]:
        state, metrics = update(states[0], batch)
        return [state], [metrics]

    return updated


def members_update(
    members: Sequence[Member],
    phase: str,
    devices: list,
    how: str = "vmap",
    look: Callable[[Any], None] | None = None,
) -> Callable:
    """The pmapped update of all members, (state, batch) -> (state, metrics).

    Args:
      members: k members.
      phase: 'warmup' or 'full'.
      devices: D local devices.
      how: 'vmap', every operation for all members at once; 'map', one member after the other, with
        the memory of one; 'each', a copy of the update for each member.
      look: see `programs.keep_barriers`.

    Returns:
      A function of states as `joined` returns them, which are donated, and a batch [D, n, ...] that
      all members share, or [D, n, k, ...] if each has its own. Metrics are stacked or listed as the
      states are.
    """
    update = sweep_members.member_update(members[0].config, phase)
    own, count = sweep_members.own_batches(members), len(members)

    def all_members(values, state, batch):
        if how == "vmap":
            return jax.vmap(update, (0, 0, 1 if own else None))(values, state, batch)
        if own:
            batch = jax.tree.map(lambda x: jnp.moveaxis(x, 1, 0), batch)
        if how == "map":
            swept = (values, state, batch) if own else (values, state)
            return lax.map(lambda x: update(*x) if own else update(*x, batch), swept)
        done = [
            update(one(values, i), state[i], one(batch, i) if own else batch) for i in range(count)
        ]
        return [after for after, _ in done], [metrics for _, metrics in done]

    pmapped = jax.pmap(
        all_members,
        AXIS,
        in_axes=(None, None, 0),
        out_axes=(None, None),
        donate_argnums=1,
        devices=processes.everywhere(devices),
    )
    pmapped = programs.keep_barriers(pmapped, look)
    return functools.partial(pmapped, programs.place(sweep_members.traced(members), devices))


def joined(states: Sequence[State], how: str) -> Any:
    """The members' states on the host in the form that the update takes: stacked along a leading
    axis; for 'each' and 'alone' a list, which needs no copies.
    """
    if how in ("each", ALONE):
        return list(states)
    return jax.tree.map(lambda *leaves: np.stack(leaves), *states)


def one(tree: Any, member: int) -> Any:
    """Extracts one member from stacked or listed states or metrics."""
    return tree[member] if isinstance(tree, list) else jax.tree.map(lambda x: x[member, ...], tree)


class MemberBatches:
    """Host batches from step `start` on, from `batches.train_batches`: one stream for all members,
    or, if each member has its own, their batches stacked along a second axis.
    """

    def __init__(self, members: Sequence[Member], reads: tuple[str, ...], start: int) -> None:
        self._own = sweep_members.own_batches(members)
        drawn = members if self._own else members[:1]
        self._streams = [batches.train_batches(m.config, reads, start) for m in drawn]

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        return self

    def __next__(self) -> dict[str, np.ndarray]:
        drawn = [next(stream) for stream in self._streams]
        if not self._own:
            return drawn[0]
        return {key: np.stack([batch[key] for batch in drawn], 1) for key in drawn[0]}

    def close(self) -> None:
        for stream in self._streams:
            stream.close()
