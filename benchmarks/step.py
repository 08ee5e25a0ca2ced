"""The AdvEnt multi-level training step: jaxseg against eager PyTorch, same work.

    python benchmarks/step.py                              # the small network of `streets+scratch`
    python benchmarks/step.py --size=resnet101             # ResNet-101 at 128x256, batch 1 + 1
    python benchmarks/step.py --size=lite0 --channels_last # EfficientNet-Lite0 with a pyramid
    python benchmarks/step.py --torch_python=venv/bin/python --threads=1
    python benchmarks/step.py --size=paper --gpu --batch=4 --dtype=bfloat16 --compile

A step is the forward and backward pass of source and target, both discriminators and all
optimisers. Two processes on the same cores take turns, one step each; both start from the same
parameters and the same batch, and the first losses are compared before anything is timed. Prints
medians, memory, the time to the first step and, last, PyTorch's time divided by ours.

The exit code is 1 when the losses of the two differ, 2 when PyTorch is missing.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.turns import Worker, available
from jaxseg.engine import pages

# Preset, (source size, target size), batch per domain.
SIZES = {
    "streets": ("streets+scratch", ((96, 192), (96, 192)), 4),
    "resnet101": ("gta5_cityscapes", ((128, 256), (128, 256)), 1),
    "paper": ("gta5_cityscapes", ((720, 1280), (512, 1024)), 1),
    "lite0": ("streets+scratch", ((128, 256), (128, 256)), 4),
}
BACKBONES = {
    "lite0": "efficientnet_lite0"
}  # with a feature pyramid, instead of the preset's network
FIRST_LOSS = 2e-3  # largest relative difference of the first step's losses in float32
MISSING = (
    "{python} has no PyTorch: pip install -e '.[bench]', or --torch_python=FILE of an environment "
    "that has it"
)


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--size", choices=SIZES, default="streets")
    parser.add_argument("--batch", type=int, default=0, help="per domain; 0: default of --size")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--steps", type=int, default=15, help="steps timed on each side")
    parser.add_argument("--turn", type=int, default=1, help="steps per turn")
    parser.add_argument("--threads", type=int, default=len(available()))
    parser.add_argument("--gpu", action="store_true", help="on the first GPU instead of the CPU")
    parser.add_argument("--compile", action="store_true", help="torch.compile")
    parser.add_argument("--channels_last", action="store_true", help="PyTorch's memory format")
    parser.add_argument(
        "--torch_pages", action="store_true", help="PyTorch's process gets large pages as well"
    )
    parser.add_argument("--remat", action="store_true", help="config.net.remat of jaxseg")
    parser.add_argument("--torch_python", default=sys.executable, metavar="FILE")
    parser.add_argument("--warm", action="store_true", help="time jaxseg's first step with a cache")
    return parser.parse_args(argv)


def has_torch(python: str) -> bool:
    """Whether this interpreter can import PyTorch."""
    command = [
        python,
        "-c",
        "import importlib.util as u; raise SystemExit(not u.find_spec('torch'))",
    ]
    try:
        return subprocess.run(command, capture_output=True).returncode == 0
    except OSError:
        return False


def largest_difference(ours: dict[str, float], theirs: dict[str, float]) -> float:
    """Largest relative difference of the losses that both sides report."""
    names = ours.keys() & theirs.keys()
    return max(abs(ours[n] - theirs[n]) / max(abs(theirs[n]), 1e-12) for n in names)


def start(script: str, python: str, job: dict) -> Worker:
    """Starts a worker with the number of threads in the job. Ours has large pages, as launch.py
    asks for them; PyTorch's if the job says so.
    """
    environment = {} if job["gpu"] else dict(OMP_NUM_THREADS=str(job["threads"]))
    if pages.wanted() and (script.startswith("jax") or job.get("pages")):
        environment |= pages.TUNABLES
    return Worker([python, str(ROOT / "benchmarks" / script), json.dumps(job)], environment)


def main(argv: list[str] | None = None) -> int:
    """Measures and prints; returns the exit code."""
    args = arguments(argv)
    if not has_torch(args.torch_python):
        print(MISSING.format(python=args.torch_python), file=sys.stderr)
        return 2
    preset, size, batch = SIZES[args.size]
    folder = Path(tempfile.mkdtemp(prefix="jaxseg-step-"))
    job = dict(
        preset=preset, backbone=BACKBONES.get(args.size, ""), size=size,
        batch=args.batch or batch, dtype=args.dtype, gpu=args.gpu,
        threads=args.threads, cores=available()[: args.threads], warmup=3, remat=args.remat,
        cache=str(folder / "compiled"), arrays=str(folder / "arrays.npz"),
        compile=args.compile, channels_last=args.channels_last, pages=args.torch_pages,
    )  # fmt: skip
    workers = []
    try:
        workers.append(start("jax_step.py", sys.executable, job))
        ours = workers[0].hear()
        job |= ours.pop("facts")
        workers.append(start("torch_step.py", args.torch_python, job))
        theirs = workers[1].hear()
        same = report_work(args, job, ours, theirs)
        times = {0: [], 1: []}
        for _ in range(max(1, args.steps // args.turn)):
            for index, worker in enumerate(workers):
                times[index].append(worker.ask(f"step {args.turn}"))
        peaks = [worker.ask("peak")["bytes"] for worker in workers]
        warm = None
        if args.warm:
            workers.append(start("jax_step.py", sys.executable, job | dict(arrays="")))
            warm = workers[2].hear()["first_step"]
    finally:
        for worker in workers:
            worker.close()
        shutil.rmtree(folder, ignore_errors=True)
    report_times([ours, theirs], times, peaks, warm)
    return 0 if same else 1


def report_work(args, job: dict, ours: dict, theirs: dict) -> bool:
    """Prints what both sides compute; returns whether their results agree."""
    (h, w), (th, tw) = job["size"]
    where = "GPU" if args.gpu else f"{args.threads} thread(s)"
    print(f"AdvEnt, {args.size}: {job['batch']} x {h}x{w} + {job['batch']} x {th}x{tw}, "
          f"{args.dtype}, {where}")  # fmt: skip
    apart = [
        largest_difference(a, b) for a, b in zip(ours["losses"], theirs["losses"], strict=True)
    ]
    equal = ours["parameters"] == theirs["parameters"]
    close = apart[0] <= FIRST_LOSS or args.dtype != "float32"
    counts = f"{ours['parameters']:,}" + ("" if equal else f", PyTorch {theirs['parameters']:,}")
    steps = ", ".join(f"{value:.1e}" for value in apart)
    print(f"parameters of both: {counts}; losses of the first steps differ by {steps}", flush=True)
    if not (equal and close):
        print("NOT THE SAME WORK: the ratio means nothing", file=sys.stderr)
    return equal and close


def report_times(sides: list[dict], times: dict, peaks: list[int], warm: float | None) -> None:
    """Prints a line for each side and, last, the ratio."""
    flops, rate = sides[1]["flops"], max(side["rate"] for side in sides)
    counted = f"; PyTorch counts {flops / 1e9:,.1f} GFLOP a step" if flops else ""
    print(f"measured matrix products: {rate / 1e9:,.0f} GFLOP/s{counted}")
    medians = []
    for index, side in enumerate(sides):
        wall = [turn["seconds"] for turn in times[index]]
        cores = statistics.median(turn["core_seconds"] for turn in times[index])
        median = statistics.median(wall)
        medians.append((median, cores))
        achieved = ""
        if flops:
            achieved = f", {flops / median / 1e9:,.0f} GFLOP/s ({flops / median / rate:.0%})"
        print(f"{side['name']}: median {1000 * median:.1f} ms a step (fastest "
              f"{1000 * min(wall):.1f}, {len(wall)} turns), {1000 * cores:.0f} ms of all cores"
              f"{achieved}, peak {peaks[index] / 2**20:,.0f} MiB, "
              f"first step after {side['first_step']:.1f} s")  # fmt: skip
    if warm is not None:
        print(f"first step of jaxseg with a warm compilation cache after {warm:.1f} s")
    (ours, our_cores), (theirs, their_cores) = medians
    print(f"by the time of all cores {their_cores / our_cores:.2f}x")
    print(f"{theirs / ours:.2f}x")


if __name__ == "__main__":
    sys.exit(main())
