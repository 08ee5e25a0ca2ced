"""The report's section on source images that the method changes before it learns from them."""

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxseg.report import paint_source
from jaxseg.report.depth import scale_chip
from jaxseg.report.parts import bare, class_chips, head, image, pictures, read_json
from jaxseg.report.pictures import compared

TIMES = 6  # evaluations at most at which the first image is shown
CHANGED = "changed"  # what a column is called if the run does not say
KINDS = {  # what is shown of an image at a step: how its file ends, and the heading of its column
    "transformed.jpg": CHANGED,
    "difference.jpg": f"difference × {paint_source.AMPLIFIED}",
    "prediction.png": "segmentation",
    "depth.png": "depth",
}


def section(
    workdir: Path, before: Mapping[str, Any], last: Mapping[str, Any], steps: Sequence[int]
) -> str:
    """The body of the section as HTML; empty if the method changes none.

    Args:
      workdir: of the run.
      before, last: the evaluations that are compared.
      steps: of all evaluations.
    """
    folder = workdir / "pictures"
    index = read_json(folder / paint_source.INDEX)
    numbers = {s: read_json(_at(folder, s) / paint_source.INDEX) for s in sorted(set(steps))}
    numbers = {step: found for step, found in numbers.items() if found}
    if not index or not index["ids"] or not numbers:
        return ""
    both = [step for step in compared(folder, before, last) if step in numbers]
    times = _spread(list(numbers))
    depth = any((_at(folder, s) / "source_0_depth.png").exists() for s in numbers)
    kinds = KINDS | {"transformed.jpg": html.escape(index.get("title") or CHANGED)}
    kinds = {name: text for name, text in kinds.items() if depth or name != "depth.png"}
    blocks = [_block(folder, i, name, both, numbers, kinds) for i, name in enumerate(index["ids"])]
    over_time = ""
    if len(times) > len(both):
        over_time = "<h3>The first image over time</h3>" + _over_time(folder, times, numbers, kinds)
    legend = "difference: grey is unchanged"
    chips = f"{class_chips(index)}<br>{scale_chip() if depth else ''}"
    return (
        f"<p class=note>{_told(both, numbers)}</p>"
        f"<div class=chips>{chips}<span class=chip>{legend}</span></div>"
        f"<div class=blocks>{''.join(blocks)}</div>{over_time}"
    )


def _told(both: Sequence[int], numbers: Mapping[int, Mapping[str, Any]]) -> str:
    """How far the images moved, in words."""
    parts = []
    for step in both:
        text = f"{_grey(_mean(numbers[step]['change']))} of 255 grey levels at step {step}"
        right = _mean(numbers[step]["right"])
        if right is not None:
            text += f" ({bare(right)} % of the labelled pixels are then predicted right)"
        parts.append(text)
    return (
        f"The method changes these images by {', '.join(parts)}: mean absolute difference. "
        "Segmentation and depth are predicted of the changed image."
    )


def _block(folder: Path, i: int, name: str, steps, numbers, kinds) -> str:
    """One image: the source and its truth, then a row for each step."""
    truths = {
        "transformed.jpg": "image.jpg",
        "prediction.png": "truth.png",
        "depth.png": "depth.png",
    }
    cells = [head(text) for text in ("image", *list(kinds.values())[1:])]
    cells.append(_row(f"source image {html.escape(name)} and ground truth"))
    for kind in kinds:
        path = folder / f"source_{i}_{truths[kind]}" if kind in truths else None
        cells.append(image(path, f"source {name}") if path else "<span></span>")
    for step in steps:
        cells.append(_row(_caption(step, numbers[step], i)))
        cells += [
            image(_at(folder, step) / f"source_{i}_{kind}", f"{name}, {text}, step {step}")
            for kind, text in kinds.items()
        ]
    return pictures(cells, len(kinds))


def _over_time(folder: Path, steps: Sequence[int], numbers, kinds) -> str:
    """The first image at several steps, one after the other as in the charts."""
    cells = [head(_caption(step, numbers[step], 0)) for step in steps]
    for kind, text in kinds.items():
        cells += [
            image(_at(folder, step) / f"source_0_{kind}", f"{text}, step {step}") for step in steps
        ]
    return f"<div class=times>{pictures(cells, len(steps))}</div>"


def _caption(step: int, numbers: Mapping[str, Any], i: int) -> str:
    if i >= len(numbers["change"]):  # fewer were shown before the run was resumed
        return f"step {step}"
    text = f"step {step}: changed by {_grey(numbers['change'][i])} grey levels"
    right = numbers["right"][i]
    return text if right is None else f"{text}, {bare(right)} % right"


def _row(text: str) -> str:
    return f"<span class='head row'>{text}</span>"


def _at(folder: Path, step: int) -> Path:
    return folder / f"{step:08d}"


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _grey(level: float | None) -> str:
    return "not a number" if level is None else f"{level:.1f}"


def _spread(steps: Sequence[int]) -> list[int]:
    """At most TIMES of the steps, evenly, with the first and the last."""
    if len(steps) <= TIMES:
        return list(steps)
    return [steps[round(i * (len(steps) - 1) / (TIMES - 1))] for i in range(TIMES)]
