"""Builds from a config everything that training needs: members, method, optimisers, updates."""

import zlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from jaxseg.engine import memory as engine_memory
from jaxseg.engine import processes
from jaxseg.engine.method import Method, State
from jaxseg.evaluation import selection
from jaxseg.experiment import batches, check, fine_tune, memory, preparation, run_classes, settings
from jaxseg.experiment.method import make_method
from jaxseg.experiment.optimisers import Players
from jaxseg.experiment.state import abstract_state, check_weights, first_states
from jaxseg.run import describe, sweep, sweep_members, sweep_tables
from jaxseg.run.sweep_members import Member
from jaxseg.storage import run_folder
from jaxseg.storage.checkpoints import checkpoint


class Trained(NamedTuple):
    """The members of a training, and the objects built for them.

    Attributes:
      members: at least one.
      folders: each member's folder.
      method: of the first member; those of the others differ in traced numbers only.
      players: each member's optimisers.
      how: see `sweep.how`.
      devices: local devices.
    """

    members: list[Member]
    folders: list[str]
    method: Method
    players: list[Players]
    how: str
    devices: list[jax.Device]

    @property
    def config(self) -> ConfigDict:
        """The first member's config; those of the others differ in swept settings only."""
        return self.members[0].config

    @property
    def last_warm(self) -> int:
        """The last step of the warm-up; 0 without one."""
        return self.config.train.warmup_steps if self.method.warmup else 0

    @property
    def swept(self) -> bool:
        """Whether the members have folders of their own in the work folder."""
        return bool(self.members[0].name)


def make_trained(config: ConfigDict, workdir: str) -> Trained:
    """Builds all that a config describes.

    Raises:
      UserError: a mistake in the settings, or an unsuitable work folder.
    """
    members = sweep_members.members(config)
    checked = [check.check(member.config) for member in members]
    for member in members:
        check.check_band(member.config)
        check.check_cycle(member.config)
    sweep_members.check_traceable(members)
    settings.use_compile_cache(config)
    devices = settings.devices(members[0].config)
    processes.same("the config", run_folder.shared_settings(config))
    if config.sweep.over:
        sweep_tables.compare(workdir, config.sweep.over)
    folders = [sweep_members.folder(workdir, member) for member in members]
    for folder in folders:
        processes.shared_folder(folder)
    method, players = checked[0].method, [each.players for each in checked]
    memory.check_batch(config, describe.batch_of(config, method, config.train.batch))
    if not any(run_folder.holds_steps(run_folder.checkpoints(folder)) for folder in folders):
        check_weights(config)
    preparation.check_read(config, method.reads)  # before labels are counted, which prepares them
    counted = _with_class_weights(members)
    if counted is not members:
        members, method = counted, make_method(counted[0].config)
    for member, folder in zip(members, folders, strict=True):
        changed = run_folder.compare_config(member.config, folder)
        if changed and jax.process_index() == 0:
            print(changed)
        if run_folder.holds_steps(run_folder.checkpoints(folder)):
            run_classes.compare(member.config, member.config, folder)
    how = sweep.how(config, members)
    return Trained(members, folders, method, players, how, devices)


def _with_class_weights(members: list[Member]) -> list[Member]:
    """The members with class weights as numbers, counted from labels if the config says so."""
    config = members[0].config
    counted = batches.with_class_weights(config)
    if counted is config:
        return members
    # No setting that can be swept changes the counts.
    weights = {"method.settings.class_weights": counted.method.settings.class_weights}
    return [
        member._replace(config=sweep_members.with_values(member.config, weights))
        for member in members
    ]


def open_manager(config: ConfigDict, workdir: str, last_warm: int) -> checkpoint.Manager:
    """Opens a run's checkpoints; `config.train` sets how many are kept."""
    settings = config.train
    return checkpoint.open_manager(
        run_folder.checkpoints(workdir), keep=settings.keep, since=last_warm,
        criteria=selection.CRITERIA if settings.keep_criteria else (),
    )  # fmt: skip


def first_or_saved_states(
    trained: Trained, managers: Sequence[checkpoint.Manager], workdir: str
) -> list[State]:
    """All members' states, on the host: at the last step that all have saved, or new ones."""
    config, method, players = trained.config, trained.method, trained.players[0]
    if any(manager.latest_step() is None for manager in managers):
        seeds = list(dict.fromkeys(member.config.seed for member in trained.members))
        made = first_states(config, method, players, seeds)
        states = []
        for i, (member, folder) in enumerate(zip(trained.members, trained.folders, strict=True)):
            state = made[seeds.index(member.config.seed)]
            announce = _say_nothing if i else print
            state = fine_tune.begin(member.config, state, folder, announce)
            states.append(jax.device_get(state))
        return states
    template = abstract_state(config, method, players)
    states = [checkpoint.restore_state(manager, template) for manager in managers]
    while len(steps := {int(state.step) for state in states}) > 1:
        for i, manager in enumerate(managers):
            if int(states[i].step) > min(steps):  # saved before another member could be
                states[i] = checkpoint.restore_state(manager, template, min(steps))
    print(f"resuming from step {int(states[0].step)} in {workdir}")
    return states


def make_updates(
    trained: Trained, compiled_as: Callable[[Any], None] | None = None
) -> dict[str, Callable]:
    """The update (states, batch) -> (states, metrics) of each phase, for `loop.advance`.

    Before a program runs for the first time, its memory is compared with what there is, and
    `compiled_as` is called with it.
    """
    method, settings = trained.method, trained.config.train

    def remedies(factor):
        return memory.remedies(trained.config, len(trained.devices), trained.how, factor)

    def look(compiled):
        engine_memory.check(compiled, trained.devices, "a training step", remedies)
        if compiled_as:
            compiled_as(compiled)

    if trained.how == sweep.ALONE:
        return {
            phase: sweep.alone_update(
                method._replace(losses=losses),
                trained.players[0],
                settings.accumulate,
                trained.devices,
                settings.skip_bad_steps,
                look,
            )
            for phase, losses in sweep.phases(method).items()
        }
    return {
        phase: sweep.members_update(trained.members, phase, trained.devices, trained.how, look)
        for phase in sweep.phases(method)
    }


def fingerprint(state: Any) -> str:
    """A hash of a state or states: equal only if they are equal bit for bit."""
    total = 0
    for leaf in jax.tree.leaves(jax.device_get(state)) if processes.count() > 1 else ():
        total = zlib.crc32(np.ascontiguousarray(leaf).tobytes(), total)
    return str(total)


def _say_nothing(*_: object) -> None:
    pass
