"""Evaluation and prediction, jaxseg against eager PyTorch, same work: DeepLabV2 ResNet-101.

    python benchmarks/evaluation.py                          # evaluation, 512x1024 to 1024x2048
    python benchmarks/evaluation.py --size=lite0 --channels_last    # the default network
    python benchmarks/evaluation.py --size=full              # the network sees 1024x2048
    python benchmarks/evaluation.py --mode=scales            # scales 0.5 and 1, mirrored too
    python benchmarks/evaluation.py --mode=scales --size=quarter --scales=recipe
    python benchmarks/evaluation.py --mode=predict --torch_python=venv/bin/python --threads=1
    python benchmarks/evaluation.py --gpu                    # both in TF32

The time of an image includes normalisation, the network, resizing of the logits to the label's
size, the class map and, in evaluation, the confusion matrix. jaxseg always computes the entropy of
every pixel too, and in evaluation the criteria of snapshot selection; PyTorch computes entropy in
prediction, and in evaluation only with --entropy. Two processes on the same cores take turns, one
image each. Before timing, their class maps, confusion matrices and entropy maps are compared.
Prints medians, memory and, last, PyTorch's time divided by ours.

The exit code is 1 when the results of the two differ, 2 when PyTorch is missing.
"""

import argparse
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.step import MISSING, has_torch, start
from benchmarks.turns import available

# Backbone, (height, width) of the network's input, (height, width) of the label.
SIZES = {
    "paper": ("resnet101", (512, 1024), (1024, 2048)),
    "full": ("resnet101", (1024, 2048), (1024, 2048)),
    "half": ("resnet101", (256, 512), (1024, 2048)),
    "lite0": ("efficientnet_lite0", (128, 256), (512, 1024)),  # with a feature pyramid
    "quarter": ("resnet101", (128, 256), (512, 1024)),
    "tiny": ("small", (64, 128), (128, 256)),
}
RECIPE = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.2)  # scales of the MiniCity baselines
# Differences allowed for rounding: share of pixels in class map and counts, pixel entropy.
ALLOWED = dict(pixels=1e-4, counts=1e-4, entropy=1e-3)
TF32 = 200  # how much larger they are on a GPU, whose products have 10 bits


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--mode", choices=("single", "scales", "predict"), default="single")
    parser.add_argument("--size", choices=SIZES, default="paper")
    parser.add_argument(
        "--scales", type=scales, default="0.5,1.0", help="for --mode=scales; or 'recipe'"
    )
    parser.add_argument("--no_flip", action="store_true", help="no mirror images in --mode=scales")
    parser.add_argument("--entropy", action="store_true", help="in PyTorch's evaluation too")
    parser.add_argument("--images", type=int, default=5, help="images timed on each side")
    parser.add_argument("--threads", type=int, default=len(available()))
    parser.add_argument("--gpu", action="store_true", help="on the first GPU instead of the CPU")
    parser.add_argument("--channels_last", action="store_true", help="PyTorch's memory format")
    parser.add_argument("--torch_python", default=sys.executable, metavar="FILE")
    args = parser.parse_args(argv)
    for name in ("images", "threads"):
        if getattr(args, name) < 1:
            parser.error(f"--{name}={getattr(args, name)}: give 1 or more")
    return args


def scales(text: str) -> tuple[float, ...]:
    """Parses '0.5,1.0' to numbers, and 'recipe' to RECIPE."""
    values = RECIPE if text == "recipe" else tuple(float(part) for part in text.split(","))
    if not all(0 < value < float("inf") for value in values):
        raise argparse.ArgumentTypeError(f"{text!r}: expected factors above 0")
    return values


def job_of(args: argparse.Namespace, folder: str) -> dict:
    """Returns the job that both workers are started with."""
    backbone, size, label_size = SIZES[args.size]
    several = args.mode == "scales"
    return dict(
        mode="predict" if args.mode == "predict" else "evaluate",
        backbone=backbone, size=size, label_size=label_size,
        scales=args.scales if several else (1.0,), flip=several and not args.no_flip,
        entropy=args.entropy or args.mode == "predict", channels_last=args.channels_last,
        arrays=str(Path(folder, "arrays.npz")), warmup=1, gpu=args.gpu,
        threads=args.threads, cores=available()[: args.threads],
    )  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    """Measures and prints; returns the exit code."""
    args = arguments(argv)
    if not has_torch(args.torch_python):
        print(MISSING.format(python=args.torch_python), file=sys.stderr)
        return 2
    folder = tempfile.mkdtemp(prefix="jaxseg-evaluation-")
    job, workers = job_of(args, folder), []
    try:
        workers.append(start("jax_evaluation.py", sys.executable, job))
        ours = workers[0].hear()
        job |= ours.pop("facts")
        workers.append(start("torch_evaluation.py", args.torch_python, job))
        theirs = workers[1].hear()
        same = report_work(args, job, ours, theirs)
        times = ([], [])
        for _ in range(args.images):
            for worker, own in zip(workers, times, strict=True):
                own.append(worker.ask("step 1"))
        peaks = [worker.ask("peak")["bytes"] for worker in workers]
    finally:
        for worker in workers:
            worker.close()
        shutil.rmtree(folder, ignore_errors=True)
    report_times([ours, theirs], times, peaks)
    return 0 if same else 1


def report_work(args: argparse.Namespace, job: dict, ours: dict, theirs: dict) -> bool:
    """Prints what both sides compute; returns whether their results agree."""
    (h, w), (label_h, label_w) = job["size"], job["label_size"]
    protocol = ""
    if args.mode == "scales":
        protocol = (
            ", scales " + " ".join(f"{s:g}" for s in job["scales"]) + ", mirrored" * job["flip"]
        )
    print(f"{job['mode']}, {job['backbone']}: image {h}x{w}, maps {label_h}x{label_w}{protocol}, "
          f"float32, {'GPU' if args.gpu else f'{args.threads} thread(s)'}")  # fmt: skip
    apart = theirs["apart"]
    told = ", ".join(f"{name} {value:.1e}" for name, value in apart.items())
    print(f"differences: {told}; {ours['classes_seen']} classes are predicted", flush=True)
    same = agree(apart, TF32 if args.gpu else 1)
    if not same:
        print("NOT THE SAME WORK: the ratio means nothing", file=sys.stderr)
    return same


def agree(apart: dict[str, float], factor: float = 1) -> bool:
    """Whether all differences are within rounding, times `factor`; NaN is not."""
    return all(value <= factor * ALLOWED[name] for name, value in apart.items())


def report_times(sides: list[dict], times: tuple[list, list], peaks: list[int]) -> None:
    """Prints a line for each side and, last, the ratio."""
    medians = []
    for side, turns, peak in zip(sides, times, peaks, strict=True):
        wall = [turn["seconds"] for turn in turns]
        cores = statistics.median(turn["core_seconds"] for turn in turns)
        median = statistics.median(wall)
        medians.append((median, cores))
        print(
            f"{side['name']}: median {1000 * median:.0f} ms an image (fastest "
            f"{1000 * min(wall):.0f}, {len(wall)} turns), {1000 * cores:.0f} ms of all cores, "
            f"peak {peak / 2**20:,.0f} MiB, first image after {side['first_step']:.1f} s"
        )
    (ours, our_cores), (theirs, their_cores) = medians
    print(f"by the time of all cores {their_cores / our_cores:.2f}x")
    print(f"{theirs / ours:.2f}x")


if __name__ == "__main__":
    sys.exit(main())
