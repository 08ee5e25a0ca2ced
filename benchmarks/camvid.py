"""The ablation table of the MiniCity tutorial on CamVid: losses, norms, mixes, multi-scale testing.

    python benchmarks/camvid.py -- --config.data.root=DIR         # everything, two seeds
    python benchmarks/camvid.py --cells=baseline,focal --seeds=0,1,2 -- --config.data.root=DIR
    python benchmarks/camvid.py --table                           # table of finished runs only
    python benchmarks/camvid.py --preset=camvid --seeds=0 -- --config.data.root=DIR

Every cell is the baseline with one change, trained for the same number of steps on train and
scored on val. The baseline is a small DeepLabV3 from scratch with cross-entropy and BatchNorm at
120x160; with `--preset=camvid` the pyramid on ImageNet weights that `configs/baseline.py` trains.
Arguments after `--` go to every run. Finished runs are not repeated, interrupted ones are
resumed. Two runs are made in parallel, each on half of the cores. The exit code is 0 when all
runs are finished.
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks import streets

BASELINE, MULTI_SCALE = "baseline", "multi_scale_flip"
_LOSSES = "--config.method.settings.losses"
_MIXES = "--config.method.settings.mixes"
_INSTEAD = f"{_LOSSES}.cross_entropy=0"
_PLAIN = f"{_LOSSES}.weighted=0"
_CUTMIX, _COPY_BLOB = [f"{_MIXES}.cutmix=0.5"], [f"{_MIXES}.copy_blob=0.5"]
_MEDIAN = "--config.method.settings.class_weights=median"
# Preset -> name in the table -> config and overrides.
CELLS = {
    "camvid+scratch": {
        BASELINE: ("baseline", []),
        "weighted": ("baseline", [_INSTEAD, f"{_LOSSES}.weighted=1", _MEDIAN]),
        "focal": ("baseline", [_INSTEAD, f"{_LOSSES}.focal=1"]),
        "instancenorm": ("baseline", ["--config.net.norm=instancenorm"]),
        "groupnorm": ("baseline", ["--config.net.norm=groupnorm"]),
        "evonorm": ("baseline", ["--config.net.norm=evonorm"]),
        "cutmix": ("baseline", _CUTMIX),
        "copy_blob": ("baseline", _COPY_BLOB),
        "fcn8s": ("fcn", []),
    },
    # This baseline's loss is half weighted already, and its norms are those of the weights.
    "camvid": {
        BASELINE: ("baseline", []),
        "cross_entropy": ("baseline", [f"{_LOSSES}.cross_entropy=1", _PLAIN]),
        "weighted": ("baseline", [_INSTEAD, f"{_LOSSES}.weighted=1"]),
        "focal": ("baseline", [_INSTEAD, _PLAIN, f"{_LOSSES}.focal=1"]),
        "cutmix": ("baseline", _CUTMIX),
        "copy_blob": ("baseline", _COPY_BLOB),
        "no_imagenet": ("baseline", ["--config.init.backbone="]),
    },
}
SCRATCH = "camvid+scratch"
# The baseline's networks under another evaluation protocol.
PROTOCOL = ["--config.eval.scales=(0.5,0.75,1.0,1.25,1.5,1.75,2.0,2.2)", "--config.eval.flip=True"]


def preset_of(config: str, preset: str) -> str:
    """The preset of a cell's config: `fcn` has no modifier, it is from scratch as it is."""
    return "camvid" if config == "fcn" else preset


def flags_of(cell: str, seed: int, overrides: list[str], preset: str = SCRATCH) -> list[str]:
    """Returns the flags of one run, without --workdir."""
    config, own = CELLS[preset][cell]
    # Evaluate only at the end. One device, because images are mixed within a device's batch.
    shared = ["--config.train.eval_every=0", "--config.train.devices=1"]
    return [
        f"--config=configs/{config}.py:{preset_of(config, preset)}",
        f"--config.seed={seed}",
        *shared,
        *own,
        *overrides,
    ]


def evaluate_scales(folder: Path, seed: int, overrides: list[str], preset: str = SCRATCH) -> None:
    """Evaluates the baseline's last network over scales and flips, unless done before."""
    trained, workdir = folder / f"{BASELINE}_{seed}", folder / f"{MULTI_SCALE}_{seed}"
    done = workdir / streets.REPORT
    if done.exists() or not (trained / streets.REPORT).exists():
        return
    workdir.mkdir(parents=True, exist_ok=True)
    flags = [
        *flags_of(BASELINE, seed, overrides, preset),
        *PROTOCOL,
        "--mode=evaluate",
        f"--ensemble={trained.resolve()}@last",
        f"--workdir={workdir.resolve()}",
    ]
    with open(workdir / "log.txt", "a") as log:
        command = [sys.executable, "launch.py", *flags]
        finished = subprocess.run(
            command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, check=False
        )
    if finished.returncode == 0:
        done.write_text("another protocol of the baseline: see results.json\n")
    else:
        print(f"{workdir.name}: FAILED, see {workdir}/log.txt", flush=True)


def scores(folder: Path, cell: str, seeds: list[int]) -> dict[int, float]:
    """Returns {seed: mIoU of the last step} of the finished runs."""
    if cell != MULTI_SCALE:
        return {seed: last for seed, (last, _) in streets.scores(folder, cell, seeds).items()}
    found = {}
    for seed in seeds:
        workdir = folder / f"{cell}_{seed}"
        if (workdir / streets.REPORT).exists():
            found[seed] = json.loads((workdir / "results.json").read_text())["miou"]
    return found


def seed_noise(found: dict[str, dict[int, float]]) -> float | None:
    """Standard deviation between seeds, pooled over trained cells with at least two seeds."""
    runs = [list(run.values()) for cell, run in found.items() if cell != MULTI_SCALE]
    squares = sum((len(run) - 1) * statistics.variance(run) for run in runs if len(run) > 1)
    freedom = sum(len(run) - 1 for run in runs if len(run) > 1)
    return math.sqrt(squares / freedom) if freedom else None


def table(folder: Path, cells: list[str], seeds: list[int]) -> str:
    """Returns the Markdown table of finished runs, and which differences exceed the noise.

    A cell is compared with the baseline over the seeds that both have finished. A difference counts
    if it is more than twice its standard error, which is `seed_noise` times sqrt(2 / seeds).
    """
    found = {cell: scores(folder, cell, seeds) for cell in cells}
    noise = seed_noise(found)
    lines = [
        "| cell | val mIoU %, last step | against the baseline | exceeds the seed noise | seeds |",
        "|---|---|---|---|---|",
    ]
    for cell, runs in found.items():
        both = sorted(runs.keys() & found.get(BASELINE, {}).keys())
        gain, verdict = "–", "–"
        if both and cell != BASELINE:
            difference = statistics.mean(runs[seed] - found[BASELINE][seed] for seed in both)
            gain = f"{100 * difference:+.1f}"
            if noise is not None:
                verdict = "yes" if abs(difference) > 2 * noise * math.sqrt(2 / len(both)) else "no"
        singles = " ".join(f"{100 * value:.1f}" for value in runs.values())
        mean = streets.spread(list(runs.values()))
        lines.append(f"| {cell} | {mean} | {gain} | {verdict} | {singles} |")
    if noise is not None:
        lines += ["", f"One run's standard deviation between seeds, pooled: {100 * noise:.2f}"]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default=SCRATCH, choices=CELLS)
    parser.add_argument("--cells", default="", help="of the preset's table; all by default")
    parser.add_argument("--seeds", default="0,1")
    parser.add_argument("--jobs", default=2, type=int, help="runs in parallel")
    parser.add_argument("--folder", default="", help="by default one of the preset's own")
    parser.add_argument("--table", action="store_true", help="print finished runs; run nothing")
    parser.add_argument("overrides", nargs="*", help="after --: flags for every run")
    arguments = parser.parse_args()
    known, preset = CELLS[arguments.preset], arguments.preset
    cells = arguments.cells.split(",") if arguments.cells else list(known)
    # The folder of the first table keeps its name, so that its runs are found.
    usual = "benchmark_camvid" if preset == SCRATCH else f"benchmark_{preset}_pretrained"
    folder = Path(arguments.folder or f"runs/{usual}")
    seeds = [int(seed) for seed in arguments.seeds.split(",")]
    if unknown := [cell for cell in cells if cell not in known]:
        parser.error(f"unknown cell {unknown[0]}; choose from {', '.join(known)}")
    todo = {
        folder / f"{cell}_{seed}": flags_of(cell, seed, arguments.overrides, preset)
        for seed in seeds
        for cell in cells
    }
    trained = list(todo)
    shown = [*cells, MULTI_SCALE] if BASELINE in cells else cells
    if not arguments.table:
        for workdir, flags in todo.items():
            if wrong := streets.clash(workdir, flags):
                parser.error(f"{wrong}; give another --folder")
        streets.run_all(todo, max(arguments.jobs, 1))
        for seed in seeds if BASELINE in cells else ():
            evaluate_scales(folder, seed, arguments.overrides, preset)
    if BASELINE in cells:
        trained += [folder / f"{MULTI_SCALE}_{seed}" for seed in seeds]
    print("\n" + table(folder, shown, seeds))
    return 0 if all((workdir / streets.REPORT).exists() for workdir in trained) else 1


if __name__ == "__main__":
    sys.exit(main())
