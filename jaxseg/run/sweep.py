"""Many runs in one program: seeds, weights of losses and rates are trained side by side.

Each member of a sweep is a `State`; all of them go through one update together (stacked, by
`jax.vmap`), inside the pmapped axis of devices. A member ends as its run alone would, to the
rounding of float32. Its folder is that of a run: config.json, metrics.jsonl, checkpoints, report,
and every mode takes it as --workdir. `sweep_members` says what can differ between members.
"""

import contextlib
import functools
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from ml_collections import ConfigDict

from jaxseg.engine import feed, processes, programs
from jaxseg.engine.interrupt import interrupt
from jaxseg.engine.method import AXIS, Method, State
from jaxseg.experiment import batches, check, settings
from jaxseg.experiment.method import make_method
from jaxseg.experiment.optimisers import make_optimisers
from jaxseg.experiment.state import abstract_state, first_states, with_initial_weights
from jaxseg.run import collapse, loop, progress, snapshots, sweep_members, sweep_tables
from jaxseg.run.sweep_members import Member
from jaxseg.storage import logs, run_folder
from jaxseg.storage.checkpoints import checkpoint

SILENT = lambda *_: None  # noqa: E731


def run(config: ConfigDict, workdir: str) -> int:
    """Trains all members to `config.train.steps`; returns the exit code, as `train.run` does."""
    main = jax.process_index() == 0
    members = sweep_members.members(config)
    for member in members:
        check.check(member.config)
    sweep_members.check_traceable(members)
    settings.use_compile_cache(config)
    # Nothing that is swept changes what is counted.
    counted = batches.with_class_weights(members[0].config).method.settings.get("class_weights")
    if counted is not None:
        members = [_with_class_weights(member, counted) for member in members]
    first = members[0].config
    devices, method = settings.devices(first), make_method(first)
    last_warm = first.train.warmup_steps if method.warmup else 0
    processes.same("the sweep", f"{config.sweep} {run_folder.common(first)}")
    folders = [os.path.join(workdir, member.name) for member in members]
    sweep_tables.compare(workdir, config.sweep.over)
    for folder, member in zip(folders, members, strict=True):
        processes.shared_folder(folder)
        run_folder.compare_config(member.config, folder)
    loop.prepare_data(first, method)
    with contextlib.ExitStack() as opened, processes.together():
        managers = [
            opened.enter_context(loop.open_manager(member.config, folder, last_warm))
            for member, folder in zip(members, folders, strict=True)
        ]
        states = _states(members, folders, managers, method)
        start = int(states[0].step)
        for member, folder in zip(members, folders, strict=True):
            run_folder.write_config(member.config, folder)
        write = functools.partial(sweep_tables.write, workdir, config.sweep.over, members)
        if main:
            write()
        processes.same(f"the state of step {start}", loop.fingerprint(states))
        state, moved = programs.place(joined(states, how(config)), devices), tuple(states[0].params)
        del states
        updates = {
            phase: members_update(members, phase, devices, how(config))
            for phase, losses in (("warmup", method.warmup), ("full", method.losses))
            if losses is not None
        }
        scorers = snapshots.make_scorers(first, method, devices)
        scores = [scorers(folder, start) for folder in folders]
        print(f"{len(members)} members in one program, in {workdir}")
        with (
            interrupt(start) as asked,
            progress.console(first.train.steps, enabled=main) as bar,
            contextlib.ExitStack() as logging,
            feed.prefetch(train_batches(members, method.reads, start), devices) as stream,
        ):
            log = [
                logging.enter_context(
                    logs.open_logs(
                        folder, resume_step=start, enabled=main,
                        announce=lambda text, name=member.name: bar.log(f"{name}: {text}"),
                    )
                )
                for member, folder in zip(members, folders, strict=True)
            ]  # fmt: skip
            players = [make_optimisers(member.config) for member in members]
            watches = [
                collapse.recall(line for line in logs.read(folder) if line["kind"] == "train")
                for folder in folders
            ]

            def record(step: int, metrics: list[dict], speed: dict[str, float]) -> None:
                found = []
                for i, own in enumerate(players):
                    values = loop.means([one(m, i) for m in metrics])
                    values |= loop.rates(own, step, last_warm, moved)
                    found.append(values | speed)
                    log[i].train(step, found[i])
                    watches[i], warnings = collapse.follow(watches[i], found[i])
                    for text in warnings:
                        log[i].warning(step, text)
                bar.update(step, loop.means(found))

            def score(state: Any, step: int) -> list[dict[str, Any]]:
                host = jax.device_get(state)
                found = [each(one(host, i), step, log[i], _Muted) for i, each in enumerate(scores)]
                bar.log(sweep_tables.line(step, found))
                if main:
                    write()
                return found

            def save(state: Any, results: list[dict[str, Any]] | None) -> None:
                host = jax.device_get(state)
                for manager in managers:  # all have a step before any has the next
                    manager.wait_until_finished()
                for i, (manager, member) in enumerate(zip(managers, members, strict=True)):
                    own = member.config.to_dict()
                    checkpoint.save(manager, one(host, i), own, results and results[i])

            finished = loop.advance(
                first, start, state, updates, stream, bar, asked, last_warm,
                record=record, score=score, save=save,
            )  # fmt: skip
    if not finished:
        return 130
    if main:
        for folder in folders:
            snapshots.write_up(folder, last_warm)
        sweep_tables.print_tables(write())
    return 0


class _Muted:
    """In place of a bar, for what is told of all members in one line."""

    log = staticmethod(SILENT)


def how(config: ConfigDict) -> str:
    """`config.sweep.how`, or what suits this kind of device.

    Kernels that differ from member to member make grouped convolutions of one program for all,
    which XLA's CPU backend computes slowly: there a step by 'vmap' takes twice as long as by
    'each', and one by 'map', whose loop uses one core, seven times.
    """
    return config.sweep.how or ("each" if jax.default_backend() == "cpu" else "vmap")


def members_update(
    members: Sequence[Member], phase: str, devices: list, how: str = "vmap"
) -> Callable:
    """(state, batch) -> (state, metrics) of all members, pmapped as `programs.pmapped_update` is.

    Args:
      members: k of them.
      phase: 'warmup' or 'full'.
      devices: D local ones.
      how: 'vmap', every operation for all members at once; 'map', one member after the other, with
        the memory of one; 'each', a copy of the update for each member.

    Returns:
      Of the states as `joined` has them, which are donated, and a batch [D, n, ...] that all
      members share or [D, n, k, ...] if each has its own; the metrics are as the states.
    """
    update = sweep_members.member_update(members[0].config, phase)
    own, count = sweep_members.own_batches(members), len(members)

    def together(values, state, batch):
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
        together,
        AXIS,
        in_axes=(None, None, 0),
        out_axes=(None, None),
        donate_argnums=1,
        devices=processes.everywhere(devices),
    )
    pmapped = programs.keep_barriers(pmapped)
    return functools.partial(pmapped, programs.place(sweep_members.traced(members), devices))


def joined(states: Sequence[State], how: str) -> Any:
    """States on the host as `members_update` wants them: as one with a leading axis of members, or
    for 'each' as a list, which costs no copies.
    """
    if how == "each":
        return list(states)
    return jax.tree.map(lambda *leaves: np.stack(leaves), *states)


def one(tree: Any, member: int) -> Any:
    """What is of one member, of what is joined in either way."""
    return tree[member] if isinstance(tree, list) else jax.tree.map(lambda x: x[member, ...], tree)


def _states(
    members: Sequence[Member],
    folders: Sequence[str],
    managers: Sequence[checkpoint.Manager],
    method: Method,
) -> list[State]:
    """All members' states at one step, on the host: the last that all of them have, or new ones."""
    config = members[0].config
    players = make_optimisers(config)
    if any(manager.latest_step() is None for manager in managers):
        seeds = list(dict.fromkeys(member.config.seed for member in members))
        made = first_states(config, method, players, seeds)
        found = []
        for i, (member, folder) in enumerate(zip(members, folders, strict=True)):
            state = made[seeds.index(member.config.seed)]
            announce = SILENT if i else print
            state = with_initial_weights(member.config, state, folder, announce)
            found.append(jax.device_get(state))
        return found
    template = abstract_state(config, method, players)
    states = [checkpoint.restore_state(manager, template) for manager in managers]
    while len(steps := {int(state.step) for state in states}) > 1:
        for i, manager in enumerate(managers):
            if int(states[i].step) > min(steps):  # it was saved when another was not yet
                states[i] = checkpoint.restore_state(manager, template, min(steps))
    print(f"resuming from step {int(states[0].step)} in {os.path.dirname(folders[0])}")
    return states


class train_batches:
    """Host batches from step `start` on: those of a run, or with an axis of members after the first
    if they have their own; see `batches.train_batches`.
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


def _with_class_weights(member: Member, weights: tuple[float, ...]) -> Member:
    path = "method.settings.class_weights"
    return member._replace(config=sweep_members.with_values(member.config, {path: weights}))
