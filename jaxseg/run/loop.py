"""The training loop: takes steps, and calls for logs, evaluations and checkpoints in time."""

import time
from collections.abc import Callable, Iterator

import jax
import numpy as np
from ml_collections import ConfigDict

from jaxseg.engine.interrupt import Interrupt
from jaxseg.engine.method import State
from jaxseg.run import bad_steps, progress
from jaxseg.run.callbacks import Callbacks

NAMES = {"warmup": "warm-up on the source", "full": "whole update"}


def advance(
    config: ConfigDict,
    start: int,
    state: State,
    updates: dict[str, Callable],
    stream: Iterator[dict[str, jax.Array]],
    callbacks: Callbacks,
    *,
    bar: progress.Progress,
    asked: Interrupt,
    last_warm: int,
) -> bool:
    """Takes the steps after `start`, of all members at once.

    Args:
      config: `train` sets when to log, evaluate, save and end.
      state: on the devices; it is donated to the updates.
      updates: (state, batch) -> (state, metrics) by phase, 'warmup' up to step `last_warm`, then
        'full'.
      stream: batches on the devices.
      bar: progress bar; also shows messages about compilation and interruption.
      asked: says whether training was interrupted.

    Returns:
      True at the end of training, False if it was interrupted.

    Raises:
      UserError: from `callbacks.stop`, at the first step that is not finite.
    """
    settings, total = config.train, config.train.steps
    kept, waits, compiled, timed, clock = [], [], set(), 0, time.perf_counter()
    pending = bad_steps.Pending(settings.skip_bad_steps)
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
        waiting = first or jax.default_backend() == "cpu"
        if waiting:
            jax.block_until_ready(state)  # simulated CPU devices abort when many steps queue
        kept.append(metrics)
        pending.add(step, metrics)
        _stop_if_bad(pending, state, callbacks, wait=waiting)
        timed += 1
        if first:  # compiling is not training time
            timed, clock = 0, time.perf_counter()
        if step % settings.log_every == 0 or step in (total, last_warm):
            _stop_if_bad(pending, state, callbacks)
            metrics, speed = jax.device_get(kept), {}  # metrics stay on the device until here
            if timed:
                speed["images_per_second"] = timed * settings.batch / (time.perf_counter() - clock)
            callbacks.record(step, metrics, speed | {"input_wait": float(np.mean(waits))})
            kept, waits, timed, clock = [], [], 0, time.perf_counter()
        paused, result = time.perf_counter(), None
        due = step in (total, last_warm) or _every(settings.eval_every, step)
        if due:
            _stop_if_bad(pending, state, callbacks)
            result = callbacks.score(state, step)
        ends = asked.ends_after(step)
        if due or ends or _every(settings.save_every, step):
            _stop_if_bad(pending, state, callbacks)
            callbacks.save(state, result)
            clock += time.perf_counter() - paused  # nor is evaluation
        if ends and step < total:
            bar.log(f"interrupted at step {step}; the same command goes on from there")
            return False
    return True


def _stop_if_bad(
    pending: bad_steps.Pending, state: State, callbacks: Callbacks, *, wait: bool = True
) -> None:
    if found := pending.found(wait=wait):
        callbacks.stop(state, *found)


def _every(period: int, step: int) -> bool:
    return period > 0 and step % period == 0
