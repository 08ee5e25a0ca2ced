"""Compares all methods on one pair of domains: several seeds, the same evaluation.

    python benchmarks/streets.py                                # all methods, three seeds
    python benchmarks/streets.py --methods=source_only,advent --seeds=0
    python benchmarks/streets.py --preset=streets_camvid --seeds=0
    python benchmarks/streets.py --table                        # table of finished runs only
    python benchmarks/streets.py --folder=runs/longer -- --config.train.steps=2000 \\
        --config.optim.gen.schedule_steps=2000 --config.optim.disc.schedule_steps=2000

Arguments after `--` go to every run. Finished runs are not repeated and interrupted ones are
resumed, so the command can be repeated at any time; other overrides need another folder. Two runs
are made in parallel, each on half of the cores. The exit code is 0 when all runs are finished.
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
sys.path.insert(0, str(ROOT))

from jaxseg.evaluation import selection
from jaxseg.storage import logs

# The presets' own additions to source only, taken away one after the other (the ladder).
UNWEIGHTED = ["--config.net.statistics=target", "--config.method.settings.weighted=0.0"]
ANY_IMAGE = ["--config.data.rare_classes.temperature=0.0"]
OWN_COLOURS = [f"--config.augment.source.{n}=0.0" for n in ("jitter", "hue", "blur", "noise")]
# Name in the table -> config (with a modifier of the preset), and overrides.
METHODS = {
    "adabn_plain": ("source_only", [*UNWEIGHTED, *ANY_IMAGE, *OWN_COLOURS]),
    "adabn_augmented": ("source_only", [*UNWEIGHTED, *ANY_IMAGE]),
    "adabn_rare_classes": ("source_only", UNWEIGHTED),
    "source_only": ("source_only", []),
    "source_only_adabn": ("source_only", ["--config.net.statistics=target"]),
    "fcns_in_the_wild": ("fcns_in_the_wild", []),
    "adaptsegnet_features": ("adaptsegnet_features", []),
    "adaptsegnet_single": ("adaptsegnet_single", []),
    "adaptsegnet_ls": ("adaptsegnet_ls", []),
    "adaptsegnet": ("adaptsegnet", []),
    "minent": ("minent", []),
    "minent_er": ("minent_er", []),
    "minent_prior": ("minent_prior", []),
    "advent": ("advent", []),
    "advent_prior": ("advent_prior", []),
    "advent_mic": ("advent", ["--config.mic.weight=1"]),
    "dacs": ("dacs", []),
    "dacs_mic": ("dacs+mic", []),
    "daformer": ("daformer", []),
    "daformer_hrda": ("daformer+hrda", []),
    "cbst": ("cbst", []),
    "lab": ("source_only", ["--config.augment.source.lab=1"]),
    "histogram": ("source_only", ["--config.augment.source.histogram=1"]),
    "fda": ("fda", []),
    "dacs_lab": ("dacs", ["--config.augment.source.lab=1"]),
    "dacs_histogram": ("dacs", ["--config.augment.source.histogram=1"]),
    "dacs_fda": ("dacs", ["--config.augment.source.fda=0.01"]),
    "gio_ada": ("gio_ada", []),
    "dada": ("dada", []),
    "cyclegan": ("cyclegan", []),
    "cycada": ("cycada", []),
    "few_labels": ("few_labels", []),
    "oracle": ("oracle", []),
    "source_only_vgg16": ("source_only+vgg16", []),
    "adaptsegnet_vgg16": ("adaptsegnet+vgg16", []),
    "advent_vgg16": ("advent+vgg16", []),
}
# What takes the place of the overrides on the smaller images of `+scratch`, where 0.01 of the
# shorter side is less than one frequency (configs/fda.py has 0.02 there too).
SMALLER = {"dacs_fda": ["--config.augment.source.fda=0.02"]}
# Name in the table -> methods whose networks of the same seed are averaged (ADVENT's ensemble).
ENSEMBLES = {"advent_and_minent_er": ("advent", "minent_er")}
PLACES = ("--config.data.root=", "--config.data.records=")  # folders do not change results
COMMAND, REPORT = "command.json", "report.html"  # a run writes its report last


def flags_of(method: str, seed: int, preset: str, overrides: list[str]) -> list[str]:
    """Returns the flags of one run, without --workdir."""
    config, own = METHODS[method]
    name, plus, modifier = config.partition("+")
    if "scratch" in preset:
        own = SMALLER.get(method, own)
    where = f"--config=configs/{name}.py:{preset}{plus}{modifier}"
    return [where, f"--config.seed={seed}", *own, *overrides]


def clash(workdir: Path, flags: list[str]) -> str | None:
    """Returns an error text if the folder holds a run with other flags; None if it may be used.

    Folders without command.json are accepted, as their flags are unknown.
    """
    if not (workdir / COMMAND).exists():
        return None
    before, now = json.loads((workdir / COMMAND).read_text()), _lasting(flags)
    if before == now:
        return None
    return f"{workdir} holds the run of {' '.join(before)}, not {' '.join(now)}"


def remember(workdir: Path, flags: list[str]) -> None:
    """Creates a run's folder and writes its flags there; leaves existing folders unchanged."""
    if not workdir.exists():
        workdir.mkdir(parents=True)
        (workdir / COMMAND).write_text(json.dumps(_lasting(flags), indent=1) + "\n")


def _lasting(flags: list[str]) -> list[str]:
    return [flag for flag in flags if not flag.startswith(PLACES)]


def run(workdir: Path, flags: list[str], cores: list[int]) -> None:
    """Trains to the end, bound to `cores` where the system supports it."""
    if (workdir / REPORT).exists():
        return
    remember(workdir, flags)
    command = [sys.executable, "launch.py", *flags, f"--workdir={workdir.resolve()}"]
    bind = (lambda: os.sched_setaffinity(0, cores)) if hasattr(os, "sched_setaffinity") else None
    started = time.time()
    with open(workdir / "log.txt", "a") as log:
        done = subprocess.run(
            command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, preexec_fn=bind, check=False
        )
    _, last = logs.best_and_last(workdir)
    score = f"mIoU {100 * last['miou']:.2f} % at step {last['step']}" if last else "no evaluation"
    trouble = f", FAILED, exit code {done.returncode}, see {workdir}/log.txt"
    minutes = (time.time() - started) / 60
    print(
        f"{workdir.name}: {score}, {minutes:.1f} min{trouble if done.returncode else ''}",
        flush=True,
    )


def average(folder: Path, name: str, seed: int, preset: str) -> None:
    """Evaluates an ensemble of finished runs' last networks, unless done before."""
    members = [folder / f"{method}_{seed}" for method in ENSEMBLES[name]]
    workdir = folder / f"{name}_{seed}"
    if (workdir / REPORT).exists() or not all((m / REPORT).exists() for m in members):
        return
    workdir.mkdir(parents=True, exist_ok=True)
    flags = [
        f"--config=configs/{METHODS[ENSEMBLES[name][0]][0]}.py:{preset}",
        "--mode=evaluate",
        "--ensemble=" + ",".join(f"{member.resolve()}@last" for member in members),
        f"--workdir={workdir.resolve()}",
    ]
    with open(workdir / "log.txt", "a") as log:
        done = subprocess.run(
            [sys.executable, "launch.py", *flags],
            cwd=ROOT,
            stdout=log,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if done.returncode == 0:
        (workdir / REPORT).write_text("an ensemble: see results.json\n")


def scores(folder: Path, method: str, seeds: list[int]) -> dict[int, tuple[float, float]]:
    """Returns {seed: (mIoU of the last step, best mIoU)} of the finished runs."""
    found = {}
    for seed in seeds:
        workdir = folder / f"{method}_{seed}"
        if method in ENSEMBLES:
            if (workdir / REPORT).exists():
                score = json.loads((workdir / "results.json").read_text())["miou"]
                found[seed] = (score, score)
            continue
        best, last = logs.best_and_last(workdir)
        if (workdir / REPORT).exists() and last:
            found[seed] = (last["miou"], best["miou"])
    return found


def table(folder: Path, methods: list[str], seeds: list[int]) -> str:
    """Returns the Markdown table of finished runs, followed by comparisons of methods.

    Two methods are compared over the seeds that both have finished.
    """
    lines = [
        "| method | target mIoU %, last step | best step | finished | seeds |",
        "|---|---|---|---|---|",
    ]
    found = {method: scores(folder, method, seeds) for method in methods}
    for method, runs in found.items():
        last, best = (spread([run[i] for run in runs.values()]) for i in (0, 1))
        singles = " ".join(f"{100 * value:.1f}" for value, _ in runs.values())
        lines.append(f"| {method} | {last} | {best} | {len(runs)}/{len(seeds)} | {singles} |")
    for first, second, text in (
        ("source_only", "oracle", "source_only reaches {0:.0%} of the oracle"),
        ("source_only", "advent", "advent gains {1:+.1f} points of mIoU over source_only"),
    ):
        both = sorted(found.get(first, {}).keys() & found.get(second, {}).keys())
        if both:
            a, b = (statistics.mean(found[name][s][0] for s in both) for name in (first, second))
            counted = ", ".join(map(str, both))
            lines += ["", f"{text.format(a / b, 100 * (b - a))} (seeds {counted})"]
    return "\n".join(lines)


def selection_table(folder: Path, methods: list[str], seeds: list[int]) -> str:
    """Returns the Markdown table of snapshot selection without target labels, over finished runs.

    For each criterion: the rank correlation with target mIoU over a run's snapshots, and how far
    the chosen snapshot's mIoU is below the best, both as means over the runs; and the share of runs
    with a positive correlation. Empty without runs of at least three evaluations.
    """
    runs = []
    for method in methods:
        for seed in seeds:
            path = folder / f"{method}_{seed}" / "selection.json"
            if path.exists():
                runs.append(json.loads(path.read_text())["criteria"])
    runs = [run for run in runs if run["miou"]["evaluations"] >= selection.FEWEST]
    if not runs:
        return ""
    counts = sorted({run["miou"]["evaluations"] for run in runs})
    each = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    lines = [
        f"Snapshots of {len(runs)} runs, {each} each:",
        "",
        "| criterion | rank correlation with target mIoU | positive in | points below the best |",
        "|---|---|---|---|",
    ]
    for criterion in (*selection.CRITERIA, selection.LAST):
        found = [run[criterion.key] for run in runs if criterion.key in run]
        ranks = [c["rank_correlation"] for c in found if c["rank_correlation"] is not None]
        if not ranks:
            continue
        below = statistics.mean(c["below_best"] for c in found)
        positive = sum(rank > 0 for rank in ranks)
        lines.append(
            f"| {selection.title(criterion)} | {statistics.mean(ranks):+.2f} | "
            f"{positive}/{len(ranks)} | {100 * below:.1f} |"
        )
    return "\n".join(lines)


def spread(values: list[float]) -> str:
    """Formats mean and standard deviation over the runs in percent."""
    if not values:
        return "–"
    mean = f"{100 * statistics.mean(values):.1f}"
    return f"{mean} ± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else mean


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="streets")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--jobs", default=2, type=int, help="runs in parallel")
    parser.add_argument("--folder", default=None, help="default runs/benchmark_PRESET")
    parser.add_argument("--table", action="store_true", help="print finished runs; run nothing")
    parser.add_argument("overrides", nargs="*", help="after --: flags for every run")
    arguments = parser.parse_args()
    methods = arguments.methods.split(",")
    seeds = [int(seed) for seed in arguments.seeds.split(",")]
    folder = Path(arguments.folder or f"runs/benchmark_{arguments.preset}")
    if unknown := [m for m in methods if m not in METHODS]:
        parser.error(f"unknown method {unknown[0]}; choose from {', '.join(METHODS)}")
    todo = {
        folder / f"{m}_{s}": flags_of(m, s, arguments.preset, arguments.overrides)
        for s in seeds
        for m in methods
    }
    if not arguments.table:
        for workdir, flags in todo.items():
            if wrong := clash(workdir, flags):
                parser.error(f"{wrong}; give another --folder")
        run_all(todo, max(arguments.jobs, 1))
        for name in ENSEMBLES:
            for seed in seeds:
                average(folder, name, seed, arguments.preset)
    averaged = [name for name in ENSEMBLES if set(ENSEMBLES[name]) <= set(methods)]
    print("\n" + table(folder, [*methods, *averaged], seeds))
    print("\n" + selection_table(folder, methods, seeds))
    return 0 if all((workdir / REPORT).exists() for workdir in todo) else 1


def run_all(todo: dict[Path, list[str]], jobs: int) -> None:
    bound = hasattr(os, "sched_getaffinity")
    cores = sorted(os.sched_getaffinity(0)) if bound else list(range(os.cpu_count() or 1))
    share = max(len(cores) // jobs, 1)
    slots = [cores[i * share : (i + 1) * share] or cores[:1] for i in range(jobs)]

    def work(task: tuple[Path, list[str]]) -> None:
        slot = slots.pop()
        try:
            run(*task, slot)
        finally:
            slots.append(slot)

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(work, todo.items()))


if __name__ == "__main__":
    sys.exit(main())
