"""The training loop: the one place where the update is pmapped.

Reads batches, runs the update, logs, evaluates, saves, and goes on from the last checkpoint when
the workdir holds one. Everything a step depends on is in `State` and the step number, so a resumed
run repeats the uninterrupted one bit for bit.
"""

import json
import os
import signal
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from jaxseg import assemble, batches, checkpoint, logs, progress, selection, snapshots, validate
from jaxseg.core import AXIS, Method, State, make_update
from jaxseg.data import feed
from jaxseg.errors import UserError

# Settings that may differ between a run and its continuation.
FREE = ("train.steps", "train.log_every", "train.eval_every", "train.save_every", "train.keep",
        "train.keep_criteria", "train.pictures", "train.devices", "eval", "compile_cache",
        "data.root", "data.records", "data.threads")  # fmt: skip

NAMES = {"warmup": "warm-up on the source", "full": "whole update"}


def pmapped_update(
    method: Method, txs: dict[str, Any], accumulate: int = 1, devices: list | None = None
) -> Callable:
    """(state, batch [D, n, ...]) -> (state, metrics); a state without device axis, is donated."""
    return jax.pmap(
        make_update(method, txs, accumulate),
        AXIS,
        in_axes=(None, 0),
        out_axes=(None, None),
        donate_argnums=0,
        devices=devices,
    )


def place(state: State, devices: list) -> State:
    """The state on every local device, as the donated pmap wants it."""
    return jax.device_put(state, NamedSharding(Mesh(np.array(devices), (AXIS,)), PartitionSpec()))


def run(config: ConfigDict, workdir: str) -> int:
    """Trains to `config.train.steps`; returns the exit code (0, or 130 when interrupted)."""
    validate.check(config)
    assemble.use_compile_cache(config)
    devices, main = assemble.devices(config), jax.process_index() == 0
    config = batches.with_class_weights(config)
    settings, total = config.train, config.train.steps
    method, players = assemble.method(config), assemble.optimisers(config)
    folder = os.path.join(workdir, "checkpoints")
    last_warm = settings.warmup_steps if method.warmup else 0
    compare_config(config, workdir)
    # The data first: it is prepared with a progress bar of its own, and costs nothing if missing.
    batches.check_data(config, method.reads)
    batches.eval_batches(config).close()
    if (source := batches.source_eval_batches(config)) is not None:
        source.close()
    batches.train_batches(config, method.reads, 0).close()
    if len(devices) < jax.local_device_count():
        print(f"using {len(devices)} of {jax.local_device_count()} devices: "
              f"config.train.batch={settings.batch} cannot be shared by more")  # fmt: skip
    opened = checkpoint.open_manager(
        folder, keep=settings.keep, since=last_warm,
        criteria=selection.CRITERIA if settings.keep_criteria else (),
    )  # fmt: skip
    with opened as manager, _Interrupt() as interrupt:
        if manager.latest_step() is None:
            state = assemble.first_state(config, method, players)
            state = assemble.with_initial_weights(config, state, workdir, print)
        else:
            template = assemble.abstract_state(config, method, players)
            state = checkpoint.restore_state(manager, template)
            print(f"resuming from step {int(state.step)} in {workdir}")
        write_config(config, workdir)
        start = int(state.step)
        state = place(state, devices)
        score = snapshots.make_scorer(config, method, devices, workdir, start)
        updates = {
            phase: pmapped_update(method._replace(losses=losses), players.txs, settings.accumulate)
            for phase, losses in (("warmup", method.warmup), ("full", method.losses))
            if losses is not None
        }
        with (
            progress.console(total, enabled=main) as bar,
            logs.open_logs(workdir, resume_step=start, enabled=main, announce=bar.log) as log,
            feed.prefetch(batches.train_batches(config, method.reads, start), devices) as stream,
        ):
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
                    values = _means(kept) | _rates(players, state, step - 1, last_warm)
                    if timed:
                        seconds = time.perf_counter() - clock
                        values["images_per_second"] = timed * settings.batch / seconds
                    values["input_wait"] = float(np.mean(waits))
                    bar.update(step, values)
                    log.train(step, values)
                    kept, waits, timed, clock = [], [], 0, time.perf_counter()
                paused, result = time.perf_counter(), None
                due = step in (total, last_warm) or _every(settings.eval_every, step)
                if due:
                    result = score(state, step, log, bar)
                if due or interrupt.asked or _every(settings.save_every, step):
                    checkpoint.save(manager, jax.device_get(state), config.to_dict(), result)
                    clock += time.perf_counter() - paused  # nor is evaluation
                if interrupt.asked and step < total:
                    bar.log(f"interrupted at step {step}; the same command goes on from there")
                    return 130
    if main:
        snapshots.conclude(workdir, last_warm)
    return 0


def _means(kept: list[dict]) -> dict[str, float]:
    """Means over the steps since the last reading; the only time metrics leave the device."""
    kept = jax.device_get(kept)
    return {name: float(np.mean([m[name] for m in kept if name in m])) for name in kept[-1]}


def _rates(players, state: State, updates: int, warmup_steps: int) -> dict[str, float]:
    """Learning rates of the players' update in hand; disc starts to count after the warm-up."""
    done = {"gen": updates, "disc": updates - warmup_steps}
    return {
        f"lr/{player}": float(players.schedules[player](done[player]))
        for player in state.params
        if done[player] >= 0
    }


def _every(period: int, step: int) -> bool:
    return period > 0 and step % period == 0


def compare_config(config: ConfigDict, workdir: str) -> None:
    """Refuses a workdir that holds a run with other settings."""
    path, saved = os.path.join(workdir, "config.json"), os.path.join(workdir, "checkpoints")
    started = os.path.isdir(saved) and any(name.isdigit() for name in os.listdir(saved))
    if not (started and os.path.exists(path)):
        return
    with open(path) as file:
        before, now = _flat(json.load(file)), _flat(json.loads(config.to_json()))
    for key in sorted(set(before) | set(now)):
        there, here = before.get(key), now.get(key)
        if there != here and not any(key == f or key.startswith(f + ".") for f in FREE):
            raise UserError(
                f"{workdir} holds a run with config.{key}={there}, now it is {here}: "
                "give another --workdir, or delete that folder"
            )


def write_config(config: ConfigDict, workdir: str) -> None:
    """Writes config.json, whole or not at all."""
    if jax.process_index() == 0:
        path = os.path.join(workdir, "config.json")
        with open(path + ".new", "w") as file:
            json.dump(config.to_dict(), file, indent=1)
        os.replace(path + ".new", path)


def _flat(tree: dict, prefix: str = "") -> dict[str, Any]:
    flat = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat.update(_flat(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat


class _Interrupt:
    """Ctrl-C or SIGTERM ask for an end after the step in hand; a second one ends at once."""

    asked = False

    def __enter__(self):
        self.before = {}
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                self.before[number] = signal.signal(number, self._ask)
            except ValueError:  # not the main thread
                pass
        return self

    def _ask(self, number, frame):
        self.asked = True
        signal.signal(number, self.before[number])

    def __exit__(self, *_):
        for number, handler in self.before.items():
            signal.signal(number, handler)
