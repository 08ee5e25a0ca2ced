"""How a training step scales with devices: its collectives, and its time on fake devices.

    python benchmarks/scaling.py                       # both tables
    python benchmarks/scaling.py --only=collectives    # communication per step
    python benchmarks/scaling.py --only=time --devices=1,2,4 --steps=6

The collectives are read from the compiled program of the pmapped update for two devices; their
bytes depend neither on the number of devices nor on the size of the images. The times are those of
fake devices that share this machine's cores, so they show the overhead of dividing the work, not
the speed-up. Compare processor seconds over all cores and processes, especially on a machine with
other load. Each measurement is a separate process. See docs/scaling.md.
"""

import argparse
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
CONFIG = "advent"
PRESETS = ("streets+scratch", "gta5_cityscapes")
BYTES = {"pred": 1, "s8": 1, "u8": 1, "s16": 2, "u16": 2, "bf16": 2, "f16": 2,
         "s64": 8, "u64": 8, "f64": 8}  # fmt: skip
COLLECTIVES = "all-reduce|all-gather|reduce-scatter|collective-permute|all-to-all"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=["collectives", "time"])
    parser.add_argument("--devices", default="1,2,4")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--task", help=argparse.SUPPRESS)  # set for the processes started below
    given = parser.parse_args()
    if given.task:
        task = json.loads(given.task)
        work = collectives if task.pop("what") == "collectives" else measure
        print("RESULT", json.dumps(work(**task)), file=sys.__stdout__, flush=True)
        return
    if given.only != "time":
        print("| preset | parameters (gen + disc) | statistics | all-reduces lowered | compiled "
              "| MB a step | 4 x (parameters + statistics), MB |")  # fmt: skip
        print("|---|---|---|---|---|---|---|")
        for preset in PRESETS:
            (found,) = started([dict(what="collectives", preset=preset)], devices=2)
            print(collectives_row(preset, found), flush=True)
    if given.only != "collectives":
        print("\n| processes x devices | images a device | images a step | processor s a step "
              "| the same an image | wall s a step |\n|---|---|---|---|---|---|")  # fmt: skip
        for processes, devices, batch in settings([int(n) for n in given.devices.split(",")]):
            address = f"127.0.0.1:{free_port()}"
            tasks = [
                dict(what="time", batch=batch, steps=given.steps)
                | (dict(address=[address, processes, i]) if processes > 1 else {})
                for i in range(processes)
            ]
            found = started(tasks, devices)
            busy, wall = sum(each["busy"] for each in found), found[0]["wall"]
            share = batch // (processes * devices)
            print(
                f"| {processes} x {devices} | {share} | {batch} | {busy:.2f} "
                f"| {busy / batch:.2f} | {wall:.2f} |",
                flush=True,
            )


def settings(devices):
    """(processes, devices of each, images per step): one batch divided, then growing batches."""
    same = [(1, n, 4) for n in devices if 4 % n == 0]
    growing = [(1, n, 2 * n) for n in devices if n > 2]
    return [*same, (2, 1, 4), *growing]


def started(tasks, devices):
    """Runs tasks in parallel processes with fake devices; returns their results."""
    flags = f"--xla_force_host_platform_device_count={devices}"
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    running = [
        subprocess.Popen(
            [sys.executable, __file__, f"--task={json.dumps(task)}"], env=environment, cwd=ROOT,
            stdout=subprocess.PIPE, text=True,
        )
        for task in tasks
    ]  # fmt: skip
    try:
        said = [process.communicate()[0] for process in running]
    finally:
        for process in running:
            process.kill()
    lines = [[x for x in text.splitlines() if x.startswith("RESULT ")] for text in said]
    if not all(lines) or any(process.returncode for process in running):
        raise SystemExit("scaling.py: a measurement failed, see above")
    return [json.loads(found[-1].removeprefix("RESULT ")) for found in lines]


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def experiment(preset, **train):
    """Returns (config, method, optimisers) for a preset of CONFIG."""
    import importlib

    from jaxseg.experiment.method import make_method
    from jaxseg.experiment.optimisers import make_optimisers

    config = importlib.import_module(f"configs.{CONFIG}").get_config(preset)
    config.train.update(train)
    return config, make_method(config), make_optimisers(config)


def collectives(preset):
    """Counts the collectives of one step and their bytes, and the values in the state."""
    import jax

    from jaxseg.engine import programs
    from jaxseg.experiment import state as experiment_state

    config, method, players = experiment(preset)
    state = experiment_state.abstract_state(config, method, players)
    devices = jax.local_devices()
    batch = {
        key: jax.ShapeDtypeStruct((len(devices), *array.shape), array.dtype)
        for key, array in experiment_state.example(config, method).items()
    }
    update = programs.pmapped_update(method, players.txs, config.train.accumulate, devices)
    lowered = update.lower(state, batch)
    in_lowered = len(re.findall(r"stablehlo\.all_reduce", lowered.as_text()))
    # Compiled without backend optimisation, which does not change the collectives.
    compiled = lowered.compile(compiler_options={"xla_backend_optimization_level": 0})
    sizes = {
        name: sum(leaf.size for leaf in jax.tree.leaves(tree))
        for name, tree in (
            ("gen", state.params.get("gen", {})),
            ("disc", state.params.get("disc", {})),
            ("statistics", state.stats),
        )
    }
    return {"sizes": sizes, "lowered": in_lowered, "compiled": parsed(compiled.as_text())}


def parsed(text):
    """Returns {kind: [count, bytes]} of the collectives in a compiled program's text."""
    found = defaultdict(lambda: [0, 0])
    for shapes, kind in re.findall(rf"= (.*?) ({COLLECTIVES})(?:-start)?\(", text):
        found[kind][0] += 1
        for dtype, numbers in re.findall(r"(\w+)\[([\d,]*)\]", shapes):
            count = 1
            for number in filter(None, numbers.split(",")):
                count *= int(number)
            found[kind][1] += count * BYTES.get(dtype, 4)
    return dict(found)


def collectives_row(preset, found):
    sizes = found["sizes"]
    count, volume = found["compiled"].get("all-reduce", (0, 0))
    others = {k: v for k, v in found["compiled"].items() if k != "all-reduce"}
    told = f" and {others}" if others else ""
    return (
        f"| {preset} | {sizes['gen']:,} + {sizes['disc']:,} | {sizes['statistics']:,} "
        f"| {found['lowered']} | {count}{told} | {volume / 1e6:.2f} "
        f"| {4 * sum(sizes.values()) / 1e6:.2f} |"
    )


def measure(batch, steps, address=None):
    """Measures a step of the preset `streets+scratch` on random images.

    Returns mean processor seconds of this process and median wall-clock seconds per step.
    """
    from jaxseg.engine import processes

    if address:
        processes.start(*address)
    import jax
    import numpy as np

    from jaxseg.engine import feed, programs
    from jaxseg.experiment import settings
    from jaxseg.experiment import state as experiment_state

    config, method, players = experiment("streets+scratch", batch=batch)
    devices = settings.devices(config)
    state = programs.place(experiment_state.first_state(config, method, players), devices)
    update = programs.pmapped_update(method, players.txs, config.train.accumulate, devices)
    rng = np.random.default_rng(processes.index())
    mine = batch // processes.count()
    example = experiment_state.example(config, method)
    host = {k: rng.integers(0, 19, (mine, *x.shape[1:]), np.uint8) for k, x in example.items()}
    times, busy = [], 0.0
    with feed.Prefetch(iter(lambda: host, None), devices) as stream:
        for step in range(steps + 1):
            if step == 1:  # the first one compiles
                busy = time.process_time()
            sent, begun = next(stream), time.perf_counter()
            state, _ = jax.block_until_ready(update(state, sent))
            times.append(time.perf_counter() - begun)
    return {"busy": (time.process_time() - busy) / steps, "wall": statistics.median(times[1:])}


if __name__ == "__main__":
    main()
