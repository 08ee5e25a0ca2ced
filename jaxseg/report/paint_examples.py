"""Saves the worst and best images of an evaluation, and labelled images of the source."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from jaxseg.data.labels import LabelSet
from jaxseg.evaluation.evaluator import Example
from jaxseg.report import paint

EXTREMES, SOURCE = "extremes", "source"  # subfolders of the pictures


def save_extremes(
    folder: str | Path,
    step: int,
    ranked: Sequence[tuple[float, Example]],
    label_set: LabelSet,
    width: int = paint.LARGE,
) -> None:
    """Saves the worst and the best images of the last evaluation, in place of an earlier one's.

    Writes <folder>/extremes/<i>_image.jpg, _truth.png, _prediction.png and _entropy.png, and
    index.json: the step, and id, score and kind ('worst' or 'best') of each.

    Args:
      folder: usually <workdir>/pictures.
      step: of the evaluation.
      ranked: (mean IoU of the image, example), the worst first; the first half are the worst.
      label_set: gives names and colours.
      width: pictures that are wider are saved at this width.
    """
    here, listed = Path(folder) / EXTREMES, []
    here.mkdir(parents=True, exist_ok=True)
    half = len(ranked) // 2
    ordered = [*ranked[:half], *ranked[half:][::-1]]  # the best of all before the second best
    for i, (score, example) in enumerate(ordered):
        paint.save_example(here, here, i, example, paint.palette_of(label_set), width)
        kind = "worst" if i < half else "best"
        listed.append({"id": example.id, "score": score, "kind": kind})
    index = {"step": step, "images": listed, **paint.described(label_set)}
    (here / paint.INDEX).write_text(json.dumps(index))


def save_source(folder: str | Path, samples: Iterable[Mapping], label_set: LabelSet) -> None:
    """Saves labelled source images as <folder>/source/<i>_image.jpg and <i>_truth.png, and
    index.json with their ids.

    Args:
      folder: usually <workdir>/pictures.
      samples: dicts of 'id', 'image' uint8 [H,W,3] and 'label' uint8 [H,W].
      label_set: gives names and colours.
    """
    here, ids = Path(folder) / SOURCE, []
    here.mkdir(parents=True, exist_ok=True)
    for i, sample in enumerate(samples):
        size = paint.saved_size(sample["image"], paint.LARGE)
        paint.save_photograph(here / f"{i}_image.jpg", sample["image"], size)
        paint.save_indexed(
            here / f"{i}_truth.png", sample["label"], paint.palette_of(label_set), size
        )
        ids.append(str(sample["id"]))
    (here / paint.INDEX).write_text(json.dumps({"ids": ids, **paint.described(label_set)}))
