"""Input rate in images per second: jaxseg's pipeline against a PyTorch DataLoader with Pillow.

    python benchmarks/input.py                             # GTA5 and Cityscapes, all cores
    python benchmarks/input.py --torch_python=venv/bin/python --layouts=gta5
    python benchmarks/input.py --released                  # PyTorch loads as AdaptSegNet does

Generates files in the published layouts, prepares records of them (at published and at training
size), checks that both sides deliver the same labels and images, and times them in turns: one
process per side, on the same cores and files, all in the page cache. PyTorch runs with no worker
and with one worker per core; the better counts. Prints medians and, last, jaxseg's rate divided by
PyTorch's.

The exit code is 1 when the two sides deliver different data, 2 when PyTorch is missing.
"""

import argparse
import contextlib
import io
import json
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks import input_files, step
from benchmarks.turns import Worker, available
from jaxseg.data import (
    labels,
    records,
)
from jaxseg.errors import UserError

FORMS = {"originals": False, "stored": True}  # whether records have training size
CLOSE = 1.0  # largest mean difference of the images, grey levels


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Parses the command line."""
    cores = len(available())
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--layouts", default=",".join(input_files.LAYOUTS), help="comma-separated")
    parser.add_argument("--images", type=int, default=8, help="images generated per layout")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--batches", type=int, default=8, help="per turn; few are imprecise")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--cores", type=int, default=cores, help="also threads and workers")
    parser.add_argument("--released", action="store_true", help="PyTorch loads as AdaptSegNet does")
    parser.add_argument("--folder", default="", help="keeps files and records; default: temporary")
    parser.add_argument("--torch_python", default=sys.executable, metavar="FILE")
    args = parser.parse_args(argv)
    for name in ("images", "batch", "batches", "turns", "cores"):
        if getattr(args, name) < 1:
            raise UserError(f"--{name}={getattr(args, name)}: at least 1")
    if args.cores > cores:
        raise UserError(f"--cores={args.cores}: this process may use {cores}")
    args.layouts = args.layouts.split(",")
    for name in args.layouts:
        if name not in input_files.LAYOUTS:
            known = ", ".join(input_files.LAYOUTS)
            raise UserError(f"--layouts: no layout is called {name!r}; choose from {known}")
    return args


def main(argv: list[str] | None = None) -> int:
    """Measures and prints; returns the exit code."""
    try:
        args = arguments(argv)
        if not step.has_torch(args.torch_python):
            raise UserError(step.MISSING.format(python=args.torch_python))
        folder = Path(args.folder or tempfile.mkdtemp(prefix="jaxseg-input-"))
        try:
            found = [compare(args, name, folder) for name in args.layouts]
        finally:
            if not args.folder:
                shutil.rmtree(folder, ignore_errors=True)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    for title, key in (("by the time of all cores: ", "core_seconds"), ("", "seconds")):
        parts = [f"{name}: {ratios(sides, key)}" for name, (sides, _) in
                 zip(args.layouts, found, strict=True)]  # fmt: skip
        print(title + "; ".join(parts))
    return 0 if all(same for _, same in found) else 1


def prepare(args: argparse.Namespace, name: str, folder: Path) -> dict:
    """Writes the files of a layout and its records; returns the job for all workers."""
    layout = input_files.LAYOUTS[name]
    files = input_files.write(name, folder / "published", args.images, layout)
    job = dict(
        data=name, published=layout.published, files=files, size=layout.training,
        ids=labels.CITYSCAPES.ids,
        raw=str(folder / "published"), records=str(folder / "records"), batch=args.batch,
        cores=available()[: args.cores], threads=args.cores, released=args.released,
    )  # fmt: skip
    for stored in FORMS.values():
        with contextlib.redirect_stdout(io.StringIO()):  # hides the note on missing images
            opened = records.open_split(
                name, "train", records_dir=job["records"], raw_dir=job["raw"],
                size=layout.training if stored else None,
            )  # fmt: skip
        if len(opened) != args.images:
            raise UserError(f"{opened.folder} holds {len(opened)} records: delete {folder}")
    return job


def compare(args: argparse.Namespace, name: str, folder: Path) -> tuple[dict, bool]:
    """Measures one layout and prints it.

    Returns:
      {side: its turns}, PyTorch's sides by number of workers, ours by form of the records; and
      whether both deliver the same data.
    """
    job = prepare(args, name, folder)
    megabytes = [
        statistics.mean(Path(pair[kind]).stat().st_size for pair in job["files"]) / 1e6
        for kind in (0, 1)
    ]
    (h, w), (th, tw) = input_files.LAYOUTS[name].size, job["size"]
    print(f"{name}: {args.images} files of {h}x{w}, {megabytes[0]:.2f} MB an image and "
          f"{megabytes[1]:.2f} MB a label, to {th}x{tw} in batches of {args.batch}, "
          f"{args.cores} core(s)", flush=True)  # fmt: skip
    scripts = {
        **{n: ("torch_input.py", args.torch_python, dict(workers=n)) for n in (0, args.cores)},
        **{form: ("grain_input.py", sys.executable, dict(stored=s)) for form, s in FORMS.items()},
    }
    workers, titles = {}, {}
    try:
        for side, (script, python, more) in scripts.items():
            command = [python, str(ROOT / "benchmarks" / script), json.dumps(job | more)]
            workers[side] = Worker(command, {})
            titles[side] = workers[side].hear()["name"]
        same = report_work(workers, folder)
        turns = {side: [] for side in workers}
        for _ in range(args.turns):
            for side, worker in workers.items():
                turns[side].append(worker.ask(f"turn {args.batches}"))
    finally:
        for worker in workers.values():
            worker.close()
    for side, said in turns.items():
        rates = [args.batch / turn["seconds"] for turn in said]
        cores = [turn["core_seconds"] for turn in said if turn["core_seconds"] is not None]
        used = f", {1000 * statistics.median(cores) / args.batch:.0f} ms of all cores an image"
        print(f"  {titles[side]}: median {statistics.median(rates):.1f} images/s ({min(rates):.1f} "
              f"to {max(rates):.1f}, {len(said)} turns){used if cores else ''}",
              flush=True)  # fmt: skip
    return turns, same


def report_work(workers: dict, folder: Path) -> bool:
    """Prints how much the samples of the two sides differ; returns whether they agree."""
    arrays = {}
    for side in (0, *FORMS):
        file = folder / "delivered.npz"
        workers[side].ask(f"save {file}")
        arrays[side] = dict(np.load(file))
        file.unlink()
    same = True
    for form in FORMS:
        apart = differences(arrays[form], arrays[0])
        if apart is None:
            print(f"NOT THE SAME WORK ({form}): shapes or labels differ", file=sys.stderr)
            same = False
            continue
        most, mean = apart
        print(f"  {form}: labels equal, images differ by {mean:.3f} grey levels on average, "
              f"{most} at most", flush=True)  # fmt: skip
        if mean > CLOSE:
            print(f"NOT THE SAME WORK ({form}): images differ", file=sys.stderr)
            same = False
    return same


def differences(ours: dict, theirs: dict) -> tuple[int, float] | None:
    """Returns the largest and the mean difference of the images, paired by their labels.

    Args:
      ours, theirs: 'image' uint8 [n, H, W, 3] and 'label' uint8 [n, H, W], in any order.

    Returns:
      grey levels; None if shapes or labels differ.
    """
    if any(ours[key].shape != theirs[key].shape for key in ("image", "label")):
        return None
    place = {label.tobytes(): i for i, label in enumerate(ours["label"])}
    pairs = [place.pop(label.tobytes(), None) for label in theirs["label"]]
    if None in pairs:
        return None
    apart = [
        np.abs(ours["image"][i].astype(np.int16) - image)
        for i, image in zip(pairs, theirs["image"], strict=True)
    ]
    return max(int(a.max()) for a in apart), statistics.mean(float(a.mean()) for a in apart)


def ratios(turns: dict, key: str) -> str:
    """Returns PyTorch's better median over ours, as 'originals 1.50x, stored 5.00x'."""
    medians = {}
    for side, said in turns.items():
        values = [turn[key] for turn in said]
        if None in values:
            return "not known"
        medians[side] = statistics.median(values)
    theirs = min(value for side, value in medians.items() if side not in FORMS)
    return ", ".join(f"{form} {theirs / medians[form]:.2f}x" for form in FORMS)


if __name__ == "__main__":
    sys.exit(main())
