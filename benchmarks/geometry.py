"""GIO-Ada's ablations on `streets`, and remedies against discriminators that win.

    python benchmarks/geometry.py                          # the ablations, three seeds
    python benchmarks/geometry.py --cells=full,r1,spectral,smooth,pool,ramp,ema --seeds=0
    python benchmarks/geometry.py --table                  # table of finished runs only
    python benchmarks/geometry.py -- --config.train.steps=2000

Arguments after `--` go to every run. Finished runs are not repeated, interrupted ones are resumed.
Two runs are made in parallel, each on half of the cores, seed after seed. The exit code is 0 when
all runs are finished.
"""

import argparse
import statistics
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks import streets
from jaxseg.storage import logs

_SET = "--config.method.settings"
ABLATIONS = {  # name in the table -> modifier of the preset, and overrides
    "task": ("+task", ["--config.net.statistics=source"]),
    "task_adabn": ("+task", []),
    "depth": ("+depth", []),
    "input": ("+input", []),
    "output": ("+output", []),
    "full": ("", []),
}
STUDY = {  # the full method with one change
    "painting": ("", [f"{_SET}.task_gradient=True", f"{_SET}.lam_identity=0.0"]),
    "r1": ("", [f"{_SET}.r1=1.0"]),
    "spectral": ("", ["--config.disc.spectral=True"]),
    "smooth": ("", [f"{_SET}.smooth=0.1"]),
    "pool": ("", [f"{_SET}.pool=50"]),
    "ramp": ("", [f"{_SET}.ramp_steps=250"]),
    "ema": ("", [f"{_SET}.ema=0.99"]),
}
CELLS = ABLATIONS | STUDY


def flags_of(cell: str, seed: int, overrides: list[str]) -> list[str]:
    """Returns the flags of one run, without --workdir."""
    modifier, own = CELLS[cell]
    where = f"--config=configs/gio_ada.py:streets+scratch{modifier}"
    # Evaluate at the end of the warm-up and at the end.
    shared = ["--config.train.eval_every=0", "--config.train.devices=1"]
    return [where, f"--config.seed={seed}", *shared, *own, *overrides]


def last_of(workdir: Path) -> dict:
    """Returns a run's last evaluation, and the means over its last ten log lines."""
    result = dict(logs.evaluations(str(workdir))[-1])
    lines = [line for line in logs.read(str(workdir)) if line.get("kind") == "train"][-10:]
    for name in ("transform/change", "accuracy/input", "accuracy/output"):
        values = [line[name] for line in lines if line.get(name) is not None]
        result[name] = statistics.mean(values) if values else None
    return result


def table(folder: Path, cells: list[str], seeds: list[int]) -> str:
    """Returns the Markdown table of finished runs."""
    lines = [
        "| cell | target mIoU %, last step | seeds | abs rel | RMSE m | change | accuracy of D, "
        "input / output |",
        "|---|---|---|---|---|---|---|",
    ]
    for cell in cells:
        done = [folder / f"{cell}_{seed}" for seed in seeds]
        found = [last_of(path) for path in done if (path / streets.REPORT).exists()]
        mious = [result["miou"] for result in found]
        depths = [result["depth"] for result in found if "depth" in result]
        columns = [
            cell,
            streets.spread(mious),
            " ".join(f"{100 * value:.1f}" for value in mious),
            _mean([depth["abs_rel"] for depth in depths], "{:.3f}"),
            _mean([depth["rmse"] for depth in depths], "{:.1f}"),
            _mean([result["transform/change"] for result in found], "{:.1f}"),
            " / ".join(
                _mean([result[f"accuracy/{level}"] for result in found], "{:.2f}")
                for level in ("input", "output")
            ),
        ]
        lines.append(f"| {' | '.join(columns)} |")
    return "\n".join(lines)


def _mean(values: list[float | None], form: str) -> str:
    known = [value for value in values if value is not None]
    return form.format(statistics.mean(known)) if known else "–"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", default=",".join(ABLATIONS))
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--jobs", default=2, type=int, help="runs in parallel")
    parser.add_argument("--folder", default="runs/benchmark_geometry")
    parser.add_argument("--table", action="store_true", help="print finished runs; run nothing")
    parser.add_argument("overrides", nargs="*", help="after --: flags for every run")
    arguments = parser.parse_args()
    cells, folder = arguments.cells.split(","), Path(arguments.folder)
    seeds = [int(seed) for seed in arguments.seeds.split(",")]
    if unknown := [cell for cell in cells if cell not in CELLS]:
        parser.error(f"unknown cell {unknown[0]}; choose from {', '.join(CELLS)}")
    todo = {
        folder / f"{cell}_{seed}": flags_of(cell, seed, arguments.overrides)
        for seed in seeds
        for cell in cells
    }
    if not arguments.table:
        for workdir, flags in todo.items():
            if wrong := streets.clash(workdir, flags):
                parser.error(f"{wrong}; give another --folder")
        streets.run_all(todo, max(arguments.jobs, 1))
    print("\n" + table(folder, cells, seeds))
    return 0 if all((workdir / streets.REPORT).exists() for workdir in todo) else 1


if __name__ == "__main__":
    sys.exit(main())
