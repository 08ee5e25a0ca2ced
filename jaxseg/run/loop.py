"""The training loop, the same for one run and for the members of a sweep."""

import os
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from jaxseg.engine import processes
from jaxseg.engine.interrupt import interrupt
from jaxseg.engine.method import Method, State
from jaxseg.evaluation import selection
from jaxseg.experiment import batches, optimisers
from jaxseg.run import progress
from jaxseg.storage.checkpoints import checkpoint

NAMES = {"warmup": "warm-up on the source", "full": "whole update"}


def advance(
    config: ConfigDict,
    start: int,
    state: State,
    updates: dict[str, Callable],
    stream: Iterator[dict[str, jax.Array]],
    bar: progress.Progress,
    asked: interrupt,
    last_warm: int,
    *,
    record: Callable[[int, list[dict], dict[str, float]], None],
    score: Callable[[State, int], Any],
    save: Callable[[State, Any], None],
) -> bool:
    """Takes the steps after `start`, of one run or of the members of a sweep at once.

    Args:
      config: `train` says when to log, to evaluate, to save and to end.
      state: on the devices; it is donated to the updates.
      updates: (state, batch) -> (state, metrics) by phase, 'warmup' up to step `last_warm`, then
        'full'.
      record: of the metrics of the steps since the last log (on the host), and the speed.
      score, save: (state, step) -> result of a snapshot, and what saves both; the result is None
        where it is not time for an evaluation.

    Returns:
      True at the end of the training, False if it was asked to end before.
    """
    settings, total = config.train, config.train.steps
    kept, waits, compiled, timed, clock = [], [], set(), 0, time.perf_counter()
    for step in range(start + 1, total + 1):
        waited = time.perf_counter()
        batch = next(stream)
        waits.append(time.perf_counter() - waited)
        phase = "warmup" if step <= last_warm else "full"
        first = phase not in compiled
        if first:
            bar.log(f"step {step}: compiling the {NAMES[phase]}")
            compiled.add(phase)
        state, metrics = updates[phase](state, batch)
        if first or jax.default_backend() == "cpu":
            jax.block_until_ready(state)  # fake CPU devices abort when many steps queue
        kept.append(metrics)
        timed += 1
        if first:  # compiling is not training time
            timed, clock = 0, time.perf_counter()
        if step % settings.log_every == 0 or step in (total, last_warm):
            metrics, speed = jax.device_get(kept), {}  # the only time they leave the device
            if timed:
                speed["images_per_second"] = timed * settings.batch / (time.perf_counter() - clock)
            record(step, metrics, speed | {"input_wait": float(np.mean(waits))})
            kept, waits, timed, clock = [], [], 0, time.perf_counter()
        paused, result = time.perf_counter(), None
        due = step in (total, last_warm) or _every(settings.eval_every, step)
        if due:
            result = score(state, step)
        ends = asked.ends_after(step)
        if due or ends or _every(settings.save_every, step):
            save(state, result)
            clock += time.perf_counter() - paused  # nor is evaluation
        if ends and step < total:
            bar.log(f"interrupted at step {step}; the same command goes on from there")
            return False
    return True


def means(kept: list[dict]) -> dict[str, float]:
    """Means of the metrics of some steps, of those that the last one has."""
    return {name: float(np.mean([m[name] for m in kept if name in m])) for name in kept[-1]}


def rates(
    players: optimisers.Players, step: int, last_warm: int, moved: Iterable[str]
) -> dict[str, float]:
    """Learning rates of the players that are `moved`, in the update that leads to a step; disc
    starts to count after the warm-up.
    """
    done = {"gen": step - 1, "disc": step - 1 - last_warm}
    return {
        f"lr/{player}": float(players.schedules[player](done[player]))
        for player in moved
        if done[player] >= 0
    }


def _every(period: int, step: int) -> bool:
    return period > 0 and step % period == 0


def prepare_data(config: ConfigDict, method: Method) -> None:
    """Finds or prepares all that will be read, with a progress bar of its own."""
    batches.check_data(config, method.reads)  # costs nothing if something is missing
    batches.eval_batches(config).close()
    if (source := batches.source_eval_batches(config)) is not None:
        source.close()
    batches.train_batches(config, method.reads, 0).close()
    processes.gather("data", "ready")  # which may take one host hours more than another


def open_manager(config: ConfigDict, workdir: str, last_warm: int) -> checkpoint.Manager:
    """Of the run's checkpoints, which keeps what `config.train` says."""
    settings = config.train
    return checkpoint.open_manager(
        os.path.join(workdir, "checkpoints"), keep=settings.keep, since=last_warm,
        criteria=selection.CRITERIA if settings.keep_criteria else (),
    )  # fmt: skip


def fingerprint(state: Any) -> str:
    """The same only for the same state or states, bit for bit."""
    total = 0
    for leaf in jax.tree.leaves(jax.device_get(state)) if processes.count() > 1 else ():
        total = zlib.crc32(np.ascontiguousarray(leaf).tobytes(), total)
    return str(total)
