"""The table of methods on one pair: every method, several seeds, the same evaluation.

    python benchmarks/streets.py                                # all methods, three seeds
    python benchmarks/streets.py --methods=source_only,advent --seeds=0
    python benchmarks/streets.py --preset=streets_camvid --seeds=0
    python benchmarks/streets.py -- --config.train.steps=2000   # overrides for every run

Runs that are finished are not repeated and interrupted ones go on, so the command can be given
again at any time. Two runs go side by side, each on half of the cores.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Name in the table -> config and overrides.
METHODS = {
    "source_only": ("source_only", []),
    "source_only_adabn": ("source_only", ["--config.net.statistics=target"]),
    "minent": ("minent", []),
    "adaptsegnet_single": ("adaptsegnet_single", []),
    "adaptsegnet": ("adaptsegnet", []),
    "advent": ("advent", []),
    "oracle": ("oracle", []),
}


def evaluations(workdir: Path) -> list[dict]:
    path = workdir / "metrics.jsonl"
    if not path.exists():
        return []
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [line for line in lines if line["kind"] == "eval"]


def run(method: str, seed: int, arguments: argparse.Namespace, cores: list[int]) -> None:
    config, overrides = METHODS[method]
    workdir = Path(arguments.folder) / f"{method}_{seed}"
    if (workdir / "report.html").exists():
        return
    workdir.mkdir(parents=True, exist_ok=True)
    command = [
        sys.executable, "launch.py", f"--config=configs/{config}.py:{arguments.preset}",
        f"--config.seed={seed}", f"--workdir={workdir.resolve()}", *overrides, *arguments.overrides,
    ]  # fmt: skip
    started = time.time()
    with open(workdir / "log.txt", "a") as log:
        done = subprocess.run(
            command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT,
            preexec_fn=lambda: os.sched_setaffinity(0, cores), check=False,
        )  # fmt: skip
    last = evaluations(workdir)[-1:]
    score = f"mIoU {100 * last[0]['miou']:.2f} %" if last else "no evaluation"
    print(
        f"{method} seed {seed}: {score}, {(time.time() - started) / 60:.1f} min"
        + ("" if done.returncode == 0 else f", exit code {done.returncode}, see {workdir}/log.txt"),
        flush=True,
    )


def table(arguments: argparse.Namespace) -> None:
    def spread(values):
        mean = f"{100 * statistics.mean(values):.1f}"
        return f"{mean} ± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else mean

    print("\n| method | target mIoU %, last step | best step | seeds |\n|---|---|---|---|")
    means = {}
    for method in arguments.methods:
        runs = [evaluations(Path(arguments.folder) / f"{method}_{s}") for s in arguments.seeds]
        runs = [r for r in runs if r]
        if runs:
            last = [r[-1]["miou"] for r in runs]
            best = [max(e["miou"] for e in r) for r in runs]
            means[method] = statistics.mean(last)
            singles = " ".join(f"{100 * value:.1f}" for value in last)
            print(f"| {method} | {spread(last)} | {spread(best)} | {singles} |")
    if {"source_only", "oracle"} <= set(means):
        print(f"\nsource_only reaches {means['source_only'] / means['oracle']:.0%} of the oracle")
    if {"source_only", "advent"} <= set(means):
        gain = 100 * (means["advent"] - means["source_only"])
        print(f"advent gains {gain:+.1f} points of mIoU over source_only")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="streets")
    parser.add_argument("--methods", default=",".join(METHODS), type=str)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--jobs", default=2, type=int, help="runs side by side")
    parser.add_argument("--folder", default=None, help="default runs/benchmark_PRESET")
    parser.add_argument("overrides", nargs="*", help="after --: flags for every run")
    arguments = parser.parse_args()
    arguments.methods = arguments.methods.split(",")
    arguments.seeds = [int(seed) for seed in arguments.seeds.split(",")]
    arguments.folder = arguments.folder or f"runs/benchmark_{arguments.preset}"
    unknown = [m for m in arguments.methods if m not in METHODS]
    if unknown:
        parser.error(f"unknown method {unknown[0]}; choose from {', '.join(METHODS)}")
    cores = sorted(os.sched_getaffinity(0))
    share = max(len(cores) // arguments.jobs, 1)
    slots = [cores[i * share : (i + 1) * share] or cores[:1] for i in range(arguments.jobs)]
    todo = [(m, s) for s in arguments.seeds for m in arguments.methods]
    with ThreadPoolExecutor(arguments.jobs) as pool:

        def work(task):
            slot = slots.pop()
            try:
                run(*task, arguments, slot)
            finally:
                slots.append(slot)

        list(pool.map(work, todo))
    table(arguments)


if __name__ == "__main__":
    main()
