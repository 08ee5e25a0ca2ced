"""The training loop: the one place where the update is pmapped.

Reads batches, runs the update, logs, evaluates, saves, and goes on from the last checkpoint when
the workdir holds one. Everything a step depends on is in `State` and the step number, so a resumed
run repeats the uninterrupted one bit for bit. Several processes go through it side by side, each
with its share of the images; see `distributed`.
"""

import jax
from ml_collections import ConfigDict

from jaxseg.engine import feed, processes
from jaxseg.engine.interrupt import interrupt
from jaxseg.engine.programs import place, pmapped_update
from jaxseg.experiment import batches, check
from jaxseg.experiment import settings as experiment_settings
from jaxseg.experiment.method import make_method
from jaxseg.experiment.optimisers import make_optimisers
from jaxseg.experiment.state import abstract_state, first_state, with_initial_weights
from jaxseg.run import collapse, progress, snapshots
from jaxseg.run.loop import advance, fingerprint, means, open_manager, prepare_data, rates
from jaxseg.storage import logs
from jaxseg.storage.checkpoints import checkpoint
from jaxseg.storage.run_folder import common, compare_config, write_config


def run(config: ConfigDict, workdir: str) -> int:
    """Trains to `config.train.steps`; returns the exit code (0, or 130 when interrupted)."""
    check.check(config)
    experiment_settings.use_compile_cache(config)
    devices, main = experiment_settings.devices(config), jax.process_index() == 0
    processes.same("the config", common(config))
    processes.shared_folder(workdir)
    config = batches.with_class_weights(config)
    settings = config.train
    method, players = make_method(config), make_optimisers(config)
    last_warm = settings.warmup_steps if method.warmup else 0
    compare_config(config, workdir)
    prepare_data(config, method)
    if len(devices) < jax.local_device_count():
        print(f"using {len(devices)} of {jax.local_device_count()} devices: "
              f"config.train.batch={settings.batch} cannot be shared by more")  # fmt: skip
    # Whoever fails tells the others before the manager waits for them.
    with open_manager(config, workdir, last_warm) as manager, processes.together():
        if manager.latest_step() is None:
            state = first_state(config, method, players)
            state = with_initial_weights(config, state, workdir, print)
        else:
            template = abstract_state(config, method, players)
            state = checkpoint.restore_state(manager, template)
            print(f"resuming from step {int(state.step)} in {workdir}")
        write_config(config, workdir)
        start = int(state.step)
        processes.same(f"the state of step {start}", fingerprint(state))
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
