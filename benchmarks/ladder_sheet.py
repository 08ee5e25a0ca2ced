"""One picture of several runs: the same images, what each run predicts for them at its last step.

    python benchmarks/ladder_sheet.py --runs=runs/advent_streets,runs/dacs_streets \
        --captions=AdvEnt,DACS --images=0,2,4 --output=sheet.jpg

The pictures are those that training saved in the run folders, so the runs must have been evaluated
on the same split with the same `train.pictures`. Runs are put beside each other, `--columns` in a
strip, after the image and its ground truth.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from PIL import Image

from jaxseg.data.labels import LabelSet
from jaxseg.report import paint

GAP = 6


def read(path: Path) -> np.ndarray:
    """A picture, uint8 [H,W,3]."""
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


def last_step(run: Path) -> Path:
    """The folder of a run's pictures of its last evaluated step."""
    steps = sorted(p for p in (run / "pictures").glob("[0-9]*") if p.is_dir())
    if not steps:
        raise FileNotFoundError(2, "no pictures; was it trained with train.pictures=0?", str(run))
    return steps[-1]


def columns_of(runs: Sequence[Path], images: Sequence[int]) -> list[list[np.ndarray]]:
    """Image, ground truth and each run's prediction, a list of `images` for each of them."""
    pictures = runs[0] / "pictures"
    same = [f"{i}_image.jpg" for i in images]
    for run in runs[1:]:
        for name in same:
            if (run / "pictures" / name).read_bytes() != (pictures / name).read_bytes():
                raise ValueError(f"{run}: its image {name} is not that of {runs[0]}")
    kinds = ("image.jpg", "truth.png")
    first = [[read(pictures / f"{i}_{kind}") for i in images] for kind in kinds]
    return first + [[read(last_step(run) / f"{i}_prediction.png") for i in images] for run in runs]


def sheet(
    columns: Sequence[Sequence[np.ndarray]], captions: Sequence[str], across: int, width: int
) -> np.ndarray:
    """Strips of `across` columns below each other, uint8 [H,W,3] on white."""
    strips = []
    for start in range(0, len(columns), across):
        part, names = columns[start : start + across], list(captions[start : start + across])
        names += [""] * (across - len(names))
        each = (width - GAP) // across - GAP
        strips.append(paint.grid(list(zip(*part, strict=True)), names, each, GAP))
    return np.concatenate(strips)


def main(argv: list[str] | None = None) -> int:
    """Writes the sheet; 2 where a run lacks a picture or shows another image."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", required=True, help="folders, separated by commas")
    parser.add_argument("--captions", default="", help="one for each run; else the folders' names")
    parser.add_argument("--images", default="0,1,2", help="numbers of the saved pictures")
    parser.add_argument("--columns", type=int, default=6, help="of a strip")
    parser.add_argument("--width", type=int, default=1032, help="of the sheet in pixels")
    parser.add_argument("--quality", type=int, default=60, help="JPEG quality, 1 to 95")
    parser.add_argument("--output", type=Path, default=Path("ladder.jpg"))
    args = parser.parse_args(argv)
    runs = [Path(run) for run in args.runs.split(",")]
    captions = args.captions.split(",") if args.captions else [run.name for run in runs]
    if len(captions) != len(runs):
        parser.error(f"{len(captions)} captions for {len(runs)} runs")
    try:
        columns = columns_of(runs, [int(i) for i in args.images.split(",")])
        known = json.loads((runs[0] / "classes.json").read_text())
        picture = sheet(columns, ["image", "ground truth", *captions], args.columns, args.width)
        names, colours = tuple(known["classes"]), tuple(map(tuple, known["palette"]))
        legend = paint.legend(LabelSet(known["set"], names, colours, {}), picture.shape[1])
        picture = np.concatenate([picture, legend])
        Image.fromarray(picture).save(args.output, "JPEG", quality=args.quality)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{args.output}: {picture.shape[1]} x {picture.shape[0]} pixels")
    return 0


if __name__ == "__main__":
    sys.exit(main())
