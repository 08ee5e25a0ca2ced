"""The report's section on a method's further views, such as pseudo labels and mixed images."""

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxseg.report import paint, paint_views
from jaxseg.report.parts import head, image, pictures, ramp_chip, read_json

HALF = 5  # pictures in a row that fit half of the page


def section(workdir: Path, before: Mapping[str, Any], last: Mapping[str, Any]) -> str:
    """The body of the section as HTML; empty if the method has no such view.

    Args:
      workdir: of the run.
      before, last: the evaluations that are compared.
    """
    folder = workdir / "pictures"
    found = {}
    for step in dict.fromkeys((before["step"], last["step"])):
        index = read_json(folder / f"{step:08d}" / paint_views.INDEX)
        if index and index["count"]:
            found[step] = index
    if not found:
        return ""
    index = list(found.values())[-1]
    blocks = [_block(folder, i, index, found) for i in range(index["count"])]
    chip = ""
    if any(view["kind"] in ("probability", "scalar") for view in index["views"].values()):
        chip = ramp_chip(paint.heat_palette()[::51], "low", "high; probabilities: 0 to 1")
    across = len(index["inputs"]) + len(index["views"])
    kind = "blocks" if across <= HALF else '"blocks whole"'
    return f"<div class=chips>{chip}</div><div class={kind}>{''.join(blocks)}</div>"


def _block(folder: Path, i: int, index: Mapping[str, Any], found: Mapping[int, Any]) -> str:
    """One image, or a pair: what is looked at, then a row of the views for each step."""
    views, inputs = index["views"], index["inputs"]
    cells = [head(text) for text in (*inputs, *(html.escape(v["title"]) for v in views.values()))]
    for number, (step, own) in enumerate(found.items()):
        caption = html.escape(_caption(step, own["views"], i))
        cells.append(f"<span class='head row'>{caption}</span>")
        for side in inputs:
            path = folder / f"views_{i}_{side}.jpg"
            cells.append("<span></span>" if number else image(path, f"{side} image {i}"))
        for name, view in views.items():
            end = "jpg" if view["kind"] == "image" else "png"
            path = folder / f"{step:08d}" / f"views_{i}_{name}.{end}"
            cells.append(image(path, f"image {i}, {view['title']}, step {step}"))
    return pictures(cells, len(inputs) + len(views))


def _caption(step: int, views: Mapping[str, Any], i: int) -> str:
    """The step, and between which values the maps of scalars are painted."""
    parts = [f"step {step}"]
    for view in views.values():
        ranges: Sequence[Any] = view["ranges"]
        if i < len(ranges) and ranges[i]:
            parts.append("{} from {:.3g} to {:.3g}".format(view["title"], *ranges[i]))
    return ", ".join(parts)
