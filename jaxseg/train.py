"""The training loop: the one place where the update is pmapped.

Reads batches, runs the update, logs, evaluates, saves, and goes on from the last checkpoint when
the workdir holds one. Everything a step depends on is in `State` and the step number, so a resumed
run repeats the uninterrupted one bit for bit. Several processes go through it side by side, each
with its share of the images; see `distributed`.
"""

import json
import os
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from jaxseg import (
    assemble,
    batches,
    checkpoint,
    collapse,
    distributed,
    logs,
    programs,
    progress,
    selection,
    snapshots,
    validate,
)
from jaxseg.core import AXIS, Method, State, make_update
from jaxseg.data import feed
from jaxseg.errors import UserError
from jaxseg.interrupt import interrupt

# Settings that may differ between a run and its continuation.
FREE = ("train.steps", "train.log_every", "train.eval_every", "train.save_every", "train.keep",
        "train.keep_criteria", "train.pictures", "train.devices", "sweep", "eval", "compile_cache",
        "data.root", "data.records", "data.threads", "net.remat")  # fmt: skip

OWN = ("compile_cache", "data.root", "data.records", "data.threads")  # of a host

NAMES = {"warmup": "warm-up on the source", "full": "whole update"}


def pmapped_update(
    method: Method, txs: dict[str, Any], accumulate: int = 1, devices: list | None = None
) -> Callable:
    """(state, batch [D, n, ...]) -> (state, metrics); a state without device axis, is donated.

    Args:
      method, txs, accumulate: see `make_update`.
      devices: D local ones; with several processes as many of each take part. All by default.
    """
    pmapped = jax.pmap(
        make_update(method, txs, accumulate), AXIS, in_axes=(None, 0), out_axes=(None, None),
        donate_argnums=0, devices=devices and distributed.everywhere(devices),
    )  # fmt: skip
    return programs.keep_barriers(pmapped)


def place(state: State, devices: list) -> State:
    """The state on every local device, as the donated pmap wants it."""
    return jax.device_put(state, NamedSharding(Mesh(np.array(devices), (AXIS,)), PartitionSpec()))


def run(config: ConfigDict, workdir: str) -> int:
    """Trains to `config.train.steps`; returns the exit code (0, or 130 when interrupted)."""
    validate.check(config)
    assemble.use_compile_cache(config)
    devices, main = assemble.devices(config), jax.process_index() == 0
    distributed.same("the config", common(config))
    distributed.shared_folder(workdir)
    config = batches.with_class_weights(config)
    settings = config.train
    method, players = assemble.method(config), assemble.optimisers(config)
    last_warm = settings.warmup_steps if method.warmup else 0
    compare_config(config, workdir)
    prepare_data(config, method)
    if len(devices) < jax.local_device_count():
        print(f"using {len(devices)} of {jax.local_device_count()} devices: "
              f"config.train.batch={settings.batch} cannot be shared by more")  # fmt: skip
    # Whoever fails tells the others before the manager waits for them.
    with open_manager(config, workdir, last_warm) as manager, distributed.together():
        if manager.latest_step() is None:
            state = assemble.first_state(config, method, players)
            state = assemble.with_initial_weights(config, state, workdir, print)
        else:
            template = assemble.abstract_state(config, method, players)
            state = checkpoint.restore_state(manager, template)
            print(f"resuming from step {int(state.step)} in {workdir}")
        write_config(config, workdir)
        start = int(state.step)
        distributed.same(f"the state of step {start}", fingerprint(state))
        state = place(state, devices)
        score = snapshots.make_scorer(config, method, devices, workdir, start)
        updates = {
            phase: pmapped_update(
                method._replace(losses=losses), players.txs, settings.accumulate, devices
            )
            for phase, losses in (("warmup", method.warmup), ("full", method.losses))
            if losses is not None
        }
        with (
            interrupt(start) as asked,
            progress.console(settings.steps, enabled=main) as bar,
            logs.open_logs(workdir, resume_step=start, enabled=main, announce=bar.log) as log,
            feed.prefetch(batches.train_batches(config, method.reads, start), devices) as stream,
        ):
            lines = logs.read(workdir)  # those of steps that are done again are gone by now
            watch = collapse.recall(line for line in lines if line["kind"] == "train")

            def record(step: int, metrics: list[dict], speed: dict[str, float]) -> None:
                nonlocal watch
                values = means(metrics) | rates(players, step, last_warm, state.params) | speed
                bar.update(step, values)
                log.train(step, values)
                watch, warnings = collapse.follow(watch, values)
                for text in warnings:
                    log.warning(step, text)

            finished = advance(
                config, start, state, updates, stream, bar, asked, last_warm,
                record=record,
                score=lambda state, step: score(state, step, log, bar),
                save=lambda state, result: checkpoint.save(
                    manager, jax.device_get(state), config.to_dict(), result
                ),
            )  # fmt: skip
    if not finished:
        return 130
    if main:
        snapshots.conclude(workdir, last_warm)
    return 0


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


def prepare_data(config: ConfigDict, method: Method) -> None:
    """Finds or prepares all that will be read, with a progress bar of its own."""
    batches.check_data(config, method.reads)  # costs nothing if something is missing
    batches.eval_batches(config).close()
    if (source := batches.source_eval_batches(config)) is not None:
        source.close()
    batches.train_batches(config, method.reads, 0).close()
    distributed.gather("data", "ready")  # which may take one host hours more than another


def open_manager(config: ConfigDict, workdir: str, last_warm: int) -> checkpoint.Manager:
    """Of the run's checkpoints, which keeps what `config.train` says."""
    settings = config.train
    return checkpoint.open_manager(
        os.path.join(workdir, "checkpoints"), keep=settings.keep, since=last_warm,
        criteria=selection.CRITERIA if settings.keep_criteria else (),
    )  # fmt: skip


def means(kept: list[dict]) -> dict[str, float]:
    """Means of the metrics of some steps, of those that the last one has."""
    return {name: float(np.mean([m[name] for m in kept if name in m])) for name in kept[-1]}


def rates(
    players: assemble.Players, step: int, last_warm: int, moved: Iterable[str]
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


def compare_config(config: ConfigDict, workdir: str) -> None:
    """Refuses a workdir that holds a run with other settings.

    A setting that the run does not know was added since; its default is what was done before.
    """
    path, saved = os.path.join(workdir, "config.json"), os.path.join(workdir, "checkpoints")
    started = os.path.isdir(saved) and any(name.isdigit() for name in os.listdir(saved))
    if not (started and os.path.exists(path)):
        return
    with open(path) as file:
        before, now = _flat(json.load(file)), _flat(json.loads(config.to_json()))
    for key in sorted(before):
        there, here = before[key], now.get(key)
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


def common(config: ConfigDict) -> str:
    """What all processes have to agree on."""
    settings = _flat(json.loads(config.to_json()))
    return json.dumps({key: settings[key] for key in sorted(settings.keys() - set(OWN))})


def fingerprint(state: Any) -> str:
    """The same only for the same state or states, bit for bit."""
    total = 0
    for leaf in jax.tree.leaves(jax.device_get(state)) if distributed.count() > 1 else ():
        total = zlib.crc32(np.ascontiguousarray(leaf).tobytes(), total)
    return str(total)


def _flat(tree: dict, prefix: str = "") -> dict[str, Any]:
    flat = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat.update(_flat(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat
