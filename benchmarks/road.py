"""What a network takes the road for on photographs it has never seen: is it any good out there?

    python benchmarks/road.py --run=runs/advent_streets --data=DIR/camvid    # CamVid's val images
    python benchmarks/road.py --run=RUN --data=DIR --split=test --label=0 --name=Road

DIR has the folders val/ and valannot/, images and labels of the same file names; `--label` is the
value of the road's pixels in the labels (3 in CamVid's of SegNet's split), `--name` what the
network calls it. The exit code is 0 if at least 60 % of the road's pixels are predicted as road.
"""

import argparse
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

ENOUGH = 0.6


def shares(
    pairs: Iterable[tuple[np.ndarray, np.ndarray]], predict: Callable, classes: int, label: int
) -> np.ndarray:
    """The share of each class among what is predicted for the road's pixels.

    Args:
      pairs: (image uint8 [H,W,3], labels uint8 [H,W]).
      predict: image -> class ids [H,W].
      classes: K.
      label: the road's value in the labels.

    Returns:
      float64 [K], of sum 1; NaN where no label shows the road.
    """
    counts = np.zeros(classes, np.int64)
    for image, labels in pairs:
        counts += np.bincount(predict(image)[labels == label], minlength=classes)
    with np.errstate(invalid="ignore"):
        return counts / counts.sum()


def pairs_of(folder: Path, split: str) -> Iterable[tuple[np.ndarray, np.ndarray]]:
    """(image, labels) of DIR/SPLIT/NAME and DIR/SPLITannot/NAME, in the order of the names."""
    for path in sorted((folder / split).glob("*.png")):
        label = Image.open(folder / f"{split}annot" / path.name)
        yield np.asarray(Image.open(path).convert("RGB")), np.asarray(label)


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", default="runs/advent_streets")
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--split", default="val")
    parser.add_argument("--label", default=3, type=int)
    parser.add_argument("--name", default="road")
    asked = parser.parse_args(argv)
    import jaxseg

    model = jaxseg.load(asked.run)
    pairs = pairs_of(asked.data, asked.split)
    found = shares(pairs, lambda x: model(x).labels, len(model.classes), asked.label)
    if np.isnan(found).any():
        print(f"no road in {asked.data}/{asked.split}annot: no pixel has the value {asked.label}")
        return 2
    for k in np.argsort(-found)[:4]:
        print(f"{model.classes[k]:<15} {100 * found[k]:5.1f} % of the road's pixels")
    return 0 if found[list(model.classes).index(asked.name)] >= ENOUGH else 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
