"""A sweep of k members in one program against k separate runs of the same config.

    python benchmarks/sweep.py                                  # three seeds on streets+scratch
    python benchmarks/sweep.py --members=3 --size=32x64 --steps=10
    python benchmarks/sweep.py --how=vmap,map,each              # every way, against separate runs

Each program is a separate process, as a user would start it: import, random data, first state,
compilation of the warm-up update and the full update, then steps. Each side has a new compilation
cache, so a separate run can reuse what the run before it compiled. The time of a step is the median
after the first step. Separate runs are made one after another; on a machine with other load,
compare processor seconds. The last line is the sweep's speed-up in member steps per second; the
line before it is the speed-up in total time, including start-up and compilation.
"""

import argparse
import importlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from jaxseg.experiment.method import make_method
from jaxseg.experiment.optimisers import make_optimisers
from jaxseg.experiment.state import first_state, first_states

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="advent", help="a file in configs, with :PRESET")
    parser.add_argument("--members", type=int, default=3)
    parser.add_argument("--over", default="", help="as config.sweep.over; default: seeds")
    parser.add_argument("--how", default="", help="vmap, map or each; default: by device")
    parser.add_argument("--size", default="96x192", help="HEIGHTxWIDTH of the images")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--task", help=argparse.SUPPRESS)  # set for the processes started below
    given = parser.parse_args()
    if given.task:
        print("RESULT", json.dumps(measure(**json.loads(given.task))), flush=True)
        return
    over = given.over or "seed=" + ",".join(map(str, range(given.members)))
    task = dict(name=given.config, over=over, size=given.size, batch=given.batch, steps=given.steps)
    with tempfile.TemporaryDirectory() as folder:
        count = started(task | dict(how="count"), folder)["members"]
    print(f"{given.config}, {given.size}, batch {given.batch}, {over}: {count} members\n")
    print("| what | programs | s to the first whole step | processor s of it "
          "| s a step of all members | processor s of it | steps of members/s |\n"
          "|---|---|---|---|---|---|---|")  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        runs = [started(task | dict(how=str(i)), folder) for i in range(count)]
    alone = {key: sum(run[key] for run in runs) for key in runs[0]}
    show("separate", count, alone, count)
    for how in given.how.split(","):
        with tempfile.TemporaryDirectory() as folder:
            found = started(task | dict(how=how or "default"), folder)
        show(f"sweep {found.pop('how')}", 1, found, count)
        total = [x["start"] + x["wall"] * given.steps for x in (alone, found)]
        worked = [x["started"] + x["busy"] * given.steps for x in (alone, found)]
        print(f"\ntotal of {given.steps} steps: {total[0]:.1f} s separate, {total[1]:.1f} s "
              f"together, {total[0] / total[1]:.2f}x; processor time {worked[0]:.1f} s and "
              f"{worked[1]:.1f} s, {worked[0] / worked[1]:.2f}x, of a step "
              f"{alone['busy'] / found['busy']:.2f}x")  # fmt: skip
        print(f"{alone['wall'] / found['wall']:.2f}x", flush=True)


def show(what, programs, found, count):
    print(f"| {what} | {programs} | {found['start']:.1f} | {found['started']:.1f} "
          f"| {found['wall']:.3f} "
          f"| {found['busy']:.3f} | {count / found['wall']:.2f} |", flush=True)  # fmt: skip


def started(task, folder):
    """Measures a task in a separate process and returns its result."""
    environment = os.environ | {
        "JAX_COMPILATION_CACHE_DIR": folder, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "1",
    }  # fmt: skip
    begun = time.time()
    command = [sys.executable, __file__, "--task", json.dumps(task | dict(begun=begun))]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    for line in done.stdout.splitlines():
        if line.startswith("RESULT "):
            return json.loads(line.removeprefix("RESULT "))
    sys.exit(f"{task}:\n{done.stdout}{done.stderr}")


def measure(name, over, size, batch, steps, how, begun):
    """Measures one program: time to the first step, wall and processor seconds of later steps.

    Args:
      how: 'default' or a value of config.sweep.how; the index of a member to run alone; or 'count'
        to return only the number of members.
      begun: start time of the process, seconds since the epoch.
    """
    import jax
    import numpy as np

    from jaxseg.engine import programs as engine_programs
    from jaxseg.experiment import settings
    from jaxseg.run import sweep, sweep_members

    module, _, preset = name.partition(":")
    config = importlib.import_module(f"configs.{module}").get_config(preset or "streets+scratch")
    height, width = map(int, size.split("x"))
    for side in (config.data.source, config.data.target):
        side.size = (height, width)
    config.train.batch = batch
    config.sweep.update(dict(over=over, how="" if how == "default" or how.isdigit() else how))
    if how == "count":
        config.sweep.how = ""
        return {"members": len(sweep_members.members(config))}
    members = sweep_members.members(config)
    devices, method = settings.devices(config), make_method(members[0].config)
    phases = ["warmup", "full"] if method.warmup else ["full"]
    players = make_optimisers(members[0].config)
    if how.isdigit():
        member = members[int(how)]
        method, players = make_method(member.config), make_optimisers(member.config)
        state = jax.device_get(first_state(member.config, method, players))
        losses = {"warmup": method.warmup, "full": method.losses}
        update = {
            p: engine_programs.pmapped_update(
                method._replace(losses=losses[p]), players.txs, devices=devices
            )
            for p in phases
        }
        inner = ()
    else:
        sweep_members.check_traceable(members)
        seeds = [member.config.seed for member in members]
        made = first_states(config, method, players, seeds)
        way = sweep.how(config, members)
        state = sweep.joined(jax.device_get(made), way)
        update = {p: sweep.members_update(members, p, devices, way) for p in phases}
        inner = (len(members),) if sweep_members.own_batches(members) else ()
    shape = (len(devices), batch // len(devices), *inner, height, width)
    rng = np.random.default_rng(0)
    data = {
        key: rng.integers(0, 19, shape).astype(np.int32)
        if key.endswith("label")
        else rng.integers(0, 256, (*shape, 3)).astype(np.uint8)
        for key in method.reads
    }
    state, walls, busy = engine_programs.place(state, devices), [], []
    for phase in [*phases[:-1], *("full",) * (steps + 1)]:
        wall, processor = time.perf_counter(), time.process_time()
        state, _ = update[phase](state, data)
        jax.block_until_ready(state)
        walls.append(time.perf_counter() - wall)
        busy.append(time.process_time() - processor)
        if phase == "full" and len(walls) == len(phases):
            start = {"start": time.time() - begun, "started": time.process_time()}
    walls, busy = walls[len(phases) :], busy[len(phases) :]
    found = start | {"wall": statistics.median(walls), "busy": statistics.median(busy)}
    return found if how.isdigit() else found | {"how": way}


if __name__ == "__main__":
    main()
