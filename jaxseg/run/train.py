"""Training, `--mode=train`: of one run, or of the members of a sweep together.

A single run is a sweep with one member, whose folder is the work folder itself. Training reads
batches, runs the update, logs, evaluates, saves, and resumes from the last checkpoint if there is
one. A step depends on `State` and the step number only, so a resumed run repeats the uninterrupted
one bit for bit. Each member's folder is that of a run (config.json, metrics.jsonl, checkpoints,
report), which every mode accepts as --workdir. Several processes can train one run, each with its
share of the images; see `processes`.
"""

import contextlib
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from jaxseg.engine import feed, processes, programs
from jaxseg.engine.interrupt import Interrupt
from jaxseg.engine.method import State
from jaxseg.errors import one_line_on_files
from jaxseg.experiment import memory, preparation, run_classes
from jaxseg.experiment.method import notes
from jaxseg.report import compare as report_compare
from jaxseg.run import (
    bad_steps,
    callbacks,
    compare,
    loop,
    made,
    profiling,
    progress,
    snapshots,
    sweep,
    sweep_tables,
    yardsticks,
)
from jaxseg.run.trained import (
    Trained,
    fingerprint,
    first_or_saved_states,
    make_trained,
    make_updates,
    open_manager,
)
from jaxseg.storage import run_folder, run_lock
from jaxseg.storage.checkpoints import checkpoint


def run(config: ConfigDict, workdir: str, command: str = "", *, profile: int = 0) -> int:
    """Trains all members to `config.train.steps`; returns the exit code (0, or 130 when
    interrupted).

    Args:
      config: of the experiment.
      workdir: folder of the run, or of the sweep.
      command: as typed, which the runs note; see `made`.
      profile: number of steps to trace; see `profiling.traced`.
    """
    with contextlib.ExitStack() as opened, one_line_on_files(workdir):
        trained, main = make_trained(config, workdir), jax.process_index() == 0
        if main:
            folders = dict.fromkeys((workdir, *trained.folders))
            opened.enter_context(run_lock.held(folders))
        return _run(config, workdir, trained, command, main=main, profile=profile)


def _run(
    config: ConfigDict, workdir: str, trained: Trained, command: str, *, main: bool, profile: int
) -> int:
    preparation.prepare(trained.config, trained.method.reads)
    processes.gather("data", "ready")  # preparing data may take hours longer on one host
    used, there = len(trained.devices), jax.local_device_count()
    if used < there:
        batch = trained.config.train.batch
        print(f"using {used} of {there} devices: config.train.batch={batch} cannot be shared by "
              "more")  # fmt: skip
    for note in notes(trained.config):
        print(note)
    over, tabulate = config.sweep.over, lambda: None
    if trained.swept and main:
        tabulate = functools.partial(sweep_tables.write, workdir, over, trained.members)
    # `end_together` is innermost: a failing process ends the others before the managers wait.
    with (
        contextlib.ExitStack() as opened,
        processes.end_together(),
        one_line_on_files(workdir),
        memory.told(trained.config, used, trained.how),
    ):
        managers = [
            opened.enter_context(open_manager(member.config, folder, trained.last_warm))
            for member, folder in zip(trained.members, trained.folders, strict=True)
        ]
        states = first_or_saved_states(trained, managers, workdir)
        for member, folder in zip(trained.members, trained.folders, strict=True):
            run_folder.write_config(member.config, folder)
            run_classes.write(member.config, folder)
        tabulate()
        start = int(states[0].step)
        processes.same(f"the state of step {start}", fingerprint(states))
        if trained.swept:
            print(f"{len(trained.members)} members in one program, in {workdir}")
        noted = made.facts(trained.config, trained.method.reads, command)

        def saved() -> int:
            return max(manager.latest_step() or start for manager in managers)

        with made.Clock(trained.folders, noted, saved) as clock:
            clock.finished = _trained_on(trained, states, managers, tabulate, profile)
    if not clock.finished:
        return 130
    if main and trained.swept:
        sweep_tables.print_tables(sweep_tables.outcome(workdir, over, trained.members))
        yardsticks.write(trained.config, trained.folders)  # the data are the same
        for folder in trained.folders:
            snapshots.write_up(folder, trained.last_warm)
        tabulate()
        print(f"comparison: {report_compare.write([workdir], Path(workdir, compare.PAGE))[0]}")
    elif main:
        yardsticks.write(trained.config, [workdir])
        snapshots.conclude(workdir, trained.last_warm)
    return 0


def _trained_on(
    trained: Trained,
    states: list[State],
    managers: Sequence[checkpoint.Manager],
    tabulate: Callable[[], Any],
    profile: int = 0,
) -> bool:
    """Trains from these states to the end; returns False if training was interrupted."""
    config, devices, start = trained.config, trained.devices, int(states[0].step)
    main = jax.process_index() == 0
    moved = tuple(states[0].params)
    begun = bad_steps.allowed(states, config.train.skip_bad_steps)
    state = programs.place(sweep.joined(begun, trained.how), devices)
    del begun
    states.clear()  # frees the copies on the host
    parts: dict[str, str] = {}  # of the program that was compiled last
    updates = make_updates(
        trained, lambda compiled: parts.update(profiling.parts_of(compiled)) if profile else None
    )
    scorers = snapshots.make_scorers(config, trained.method, devices)
    scores = [scorers(folder, start) for folder in trained.folders]
    drawn = sweep.MemberBatches(trained.members, trained.method.reads, start)
    with (
        Interrupt(start) as asked,
        progress.console(config.train.steps, enabled=main) as bar,
        callbacks.open_logs(trained, start, bar) as log,
        feed.Prefetch(drawn, devices) as stream,
    ):
        hooks = callbacks.Callbacks(
            record=callbacks.make_record(trained, moved, log, bar),
            score=callbacks.make_score(trained, scores, log, bar, tabulate),
            save=callbacks.make_save(trained, managers),
            stop=bad_steps.make_stop(trained, log),
        )
        if profile and main:
            left = config.train.steps - max(start, trained.last_warm)
            updates = profiling.traced(updates, profile, left, trained.folders[0], bar.log, parts)
        return loop.advance(
            config, start, state, updates, stream, hooks,
            bar=bar, asked=asked, last_warm=trained.last_warm,
        )  # fmt: skip
