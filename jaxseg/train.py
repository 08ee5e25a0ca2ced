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

from jaxseg import assemble, checkpoint, evaluate, logs, progress, report, visualize
from jaxseg.core import AXIS, Method, State, make_update
from jaxseg.data import feed
from jaxseg.errors import UserError

# Settings that may differ between a run and its continuation.
FREE = ("train.steps", "train.log_every", "train.eval_every", "train.keep", "train.pictures",
        "eval", "data.root", "data.records", "data.threads", "init")  # fmt: skip


def pmapped_update(method: Method, txs: dict[str, Any], accumulate: int) -> Callable:
    """(state, batch [D, n, ...]) -> (state, metrics); the state has no device axis and is donated."""
    update = make_update(method, txs, accumulate)
    return jax.pmap(update, AXIS, in_axes=(None, 0), out_axes=(None, None), donate_argnums=0)


def place(state: State, devices: list) -> State:
    """The state on every local device, as the donated pmap wants it."""
    return jax.device_put(state, NamedSharding(Mesh(np.array(devices), (AXIS,)), PartitionSpec()))


def run(config: ConfigDict, workdir: str) -> int:
    """Trains to `config.train.steps`; returns the exit code (0, or 130 when interrupted)."""
    os.makedirs(workdir, exist_ok=True)
    remember_config(config, workdir)
    devices = jax.local_devices()
    method, players = assemble.method(config), assemble.optimisers(config)
    classes = assemble.label_set(config)
    main = jax.process_index() == 0
    total, warmup_steps = config.train.steps, config.train.warmup_steps
    with (
        checkpoint.open_manager(
            os.path.join(workdir, "checkpoints"), keep=config.train.keep
        ) as manager,
        progress.console(total, enabled=main) as console,
        _Interrupt() as interrupt,
    ):
        # The data first: a missing data set should cost no compilation.
        validation = assemble.eval_batches(config)
        validation.close()
        state = assemble.first_state(config, method, players)
        if manager.latest_step() is None:
            state = assemble.with_initial_weights(config, state, console.log)
        else:
            state = checkpoint.restore_state(manager, state, announce=console.log)
            console.log(f"resuming from step {int(state.step)} in {workdir}")
        start = int(state.step)
        state = place(state, devices)
        writer = logs.open_logs(workdir, resume_step=start, enabled=main)
        evaluator = evaluate.make_evaluator(
            method.predict, len(classes.classes), devices, pictures=config.train.pictures
        )
        batches = feed.prefetch(assemble.train_batches(config, start), devices)
        updates = {
            True: pmapped_update(
                method._replace(losses=method.warmup or method.losses), players.txs,
                config.train.accumulate,
            ),
            False: pmapped_update(method, players.txs, config.train.accumulate),
        }  # fmt: skip
        meter = _Meter(config.train.batch)
        result, step = None, start

        for step in range(start + 1, total + 1):
            waited = time.perf_counter()
            batch = next(batches)
            waited = time.perf_counter() - waited
            state, metrics = updates[step <= warmup_steps](state, batch)
            if jax.default_backend() == "cpu":
                jax.block_until_ready(state)  # CPU devices abort when many steps are queued
            meter.add(metrics, waited)
            if step % config.train.log_every == 0 or step == total:
                values = meter.read()
                for player, schedule in players.schedules.items():
                    done = step - 1 - (warmup_steps if player == "disc" else 0)
                    if player in state.params and done >= 0:
                        values[f"lr/{player}"] = float(schedule(done))
                writer.train(step, values)
                console.update(step, values)
            if step == total or interrupt.asked or _due(step, config):
                result = None
                if step == total or _due(step, config):
                    result = _evaluate(config, state, evaluator, step, workdir, classes)
                    writer.evaluation(step, result)
                    console.log(
                        f"step {step}: {result['split']} mIoU {100 * result['miou']:.2f} %, "
                        f"pixel accuracy {100 * result['pixel_accuracy']:.2f} %"
                    )
                checkpoint.save(
                    manager, jax.device_get(state), config.to_dict(), result
                )
                meter.restart()
            if interrupt.asked:
                console.log(f"interrupted at step {step}, saved; the same command goes on from here")
                batches.close()
                writer.close()
                return 130
        batches.close()
        writer.close()
    return _finish(config, workdir, main)


def _finish(config: ConfigDict, workdir: str, main: bool) -> int:
    """Restores the best and the last checkpoint's results for the report and the closing lines."""
    if not main:
        return 0
    best, last = logs.best_and_last(workdir)
    if last is None:
        raise UserError(f"{workdir} holds no evaluation; nothing to report")
    evaluate.write_results(os.path.join(workdir, "results.json"), last)
    evaluate.print_table(last, assemble.label_set(config).classes)
    report.write_report(workdir)
    print(
        f"target mIoU {100 * last['miou']:.2f} % at the last step {last['step']}; "
        f"best {100 * best['miou']:.2f} % at step {best['step']} (chosen with target labels)"
    )
    print(f"report: {os.path.join(workdir, 'report.html')}")
    return 0


def _due(step: int, config: ConfigDict) -> bool:
    every = config.train.eval_every
    return bool(every) and step % every == 0


def _evaluate(config, state, evaluator, step, workdir, classes):
    result, shown = evaluator(
        state.params, state.stats, state.memory, assemble.eval_batches(config), classes.classes
    )
    result = {"step": step, "split": config.data.target.val_split, **result}
    if jax.process_index() == 0:
        visualize.save_pictures(os.path.join(workdir, "pictures"), step, shown, classes)
    return result


def remember_config(config: ConfigDict, workdir: str) -> None:
    """Writes config.json; refuses a workdir that holds a run with other settings."""
    path = os.path.join(workdir, "config.json")
    now = json.loads(json.dumps(config.to_dict()))
    if os.path.exists(path):
        with open(path) as file:
            before = json.load(file)
        for key in sorted(set(_flat(before)) | set(_flat(now))):
            there, here = _flat(before).get(key), _flat(now).get(key)
            if there != here and not any(key == f or key.startswith(f + ".") for f in FREE):
                raise UserError(
                    f"{workdir} holds a run with config.{key}={there}, now it is {here}: "
                    "give another --workdir, or delete that folder"
                )
    if jax.process_index() == 0:
        with open(path + ".new", "w") as file:
            json.dump(now, file, indent=1)
        os.replace(path + ".new", path)


def _flat(tree: dict, prefix: str = "") -> dict[str, Any]:
    flat = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat.update(_flat(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat


class _Meter:
    """Means of the metrics since the last reading; fetches nothing from the device before that."""

    def __init__(self, batch: int):
        self.batch, self.kept, self.waits = batch, [], []
        self.since = time.perf_counter()

    def add(self, metrics, waited):
        self.kept.append(metrics)
        self.waits.append(waited)

    def restart(self):
        self.since = time.perf_counter()

    def read(self) -> dict[str, float]:
        kept = jax.device_get(self.kept)
        steps, seconds = len(kept), time.perf_counter() - self.since
        values = {name: float(np.mean([m[name] for m in kept if name in m])) for name in kept[-1]}
        values["images_per_second"] = steps * self.batch / seconds
        values["input_wait"] = float(np.mean(self.waits))
        self.kept, self.waits, self.since = [], [], time.perf_counter()
        return values


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
