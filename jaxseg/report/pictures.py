"""The report's target images: ground truth, prediction and entropy, before and after."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxseg.report import paint
from jaxseg.report.parts import class_chips, head, image, pictures, ramp_chip, read_json


def section(workdir: Path, before: Mapping[str, Any], last: Mapping[str, Any]) -> str:
    """The body of the section as HTML; empty if no pictures were saved.

    Args:
      workdir: of the run.
      before, last: the evaluations that are compared.
    """
    folder = workdir / "pictures"
    index = read_json(folder / paint.INDEX)
    if not index or not index["ids"]:
        return ""
    shown = compared(folder, before, last)
    heads = ["image", "ground truth"]
    for step in shown:
        heads += [f"prediction, step {step}", f"entropy, step {step}"]
    cells = [head(text) for text in heads]
    for i, name in enumerate(index["ids"]):
        files = [folder / f"{i}_image.jpg", folder / f"{i}_truth.png"]
        for step in shown:
            files += [
                folder / f"{step:08d}" / f"{i}_{kind}.png" for kind in ("prediction", "entropy")
            ]
        cells += [image(path, f"{name}, {text}") for path, text in zip(files, heads, strict=True)]
    scale = ramp_chip(paint.heat_palette()[::51], "entropy: certain", "uniform")
    return f"<div class=chips>{class_chips(index)}<br>{scale}</div>" + pictures(cells, len(heads))


def compared(folder: Path, before: Mapping[str, Any], last: Mapping[str, Any]) -> list[int]:
    """The steps of the two evaluations, as far as their pictures are there."""
    steps = [before["step"]] if before["step"] != last["step"] else []
    return [s for s in [*steps, last["step"]] if (folder / f"{s:08d}").is_dir()]
