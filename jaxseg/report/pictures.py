"""The report's target images: ground truth, prediction, errors and entropy, before and after."""

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxseg.report import paint, paint_examples
from jaxseg.report.errors import error_map, overlaid
from jaxseg.report.parts import (
    Layer,
    cell,
    class_chips,
    cut_control,
    ramp_chip,
    read_json,
    shot,
)

KINDS = ("prediction", "errors", "entropy")
UNLABELLED = ("overlay", "prediction", "entropy")  # where there is no ground truth


def section(workdir: Path, before: Mapping[str, Any], last: Mapping[str, Any]) -> str:
    """The body of the section as HTML; empty if no pictures were saved.

    Args:
      workdir: of the run.
      before, last: the evaluations that are compared; equal for the last alone.
    """
    folder = workdir / "pictures"
    index = read_json(folder / paint.INDEX)
    if not index or not index["ids"]:
        return ""
    shown = compared(folder, before, last)
    labelled = last.get("miou") is not None
    rows = []
    for i, name in enumerate(index["ids"]):
        image = Layer("image", folder / f"{i}_image.jpg")
        cells = [cell("image", [image])]
        if labelled:
            cells.append(cell("ground truth", [Layer("ground truth", folder / f"{i}_truth.png")]))
        for kind in KINDS if labelled else UNLABELLED:
            layers, notes = _layers(folder, i, kind, shown)
            cells.append(cell(kind, layers, notes))
        rows.append(shot(name, cells))
    control = ""
    if len(shown) > 1:
        control = cut_control(f"step {shown[0]}", f"step {shown[-1]}")
    return (
        f"<div class=chips>{class_chips(index)}<br>{_scale()}{_legend() if labelled else ''}</div>"
        f"{control}<div class=shots>{''.join(rows)}</div>"
        "<p class=note>A click opens a picture large: zoom, and any two of a row beside a line "
        "that can be dragged.</p>"
    )


def _layers(folder: Path, i: int, kind: str, steps: Sequence[int]) -> tuple[list[Layer], str]:
    """The pictures of a kind at the steps, and in words what they come to."""
    layers, shares = [], []
    for step in steps:
        name, here = f"{kind}, step {step}", folder / f"{step:08d}"
        if kind == "overlay":
            data = overlaid(folder / f"{i}_image.jpg", here / f"{i}_prediction.png")
            layers.append(Layer(name, None, data))
            continue
        if kind != "errors":
            layers.append(Layer(name, here / f"{i}_{kind}.png"))
            continue
        data, share = error_map(folder / f"{i}_truth.png", here / f"{i}_prediction.png")
        layers.append(Layer(name, None, data))
        if share is not None:
            shares.append(f"{100 * share:.1f} %")
    return layers, " → ".join(shares)


def extremes(workdir: Path, last: Mapping[str, Any]) -> str:
    """The images of the last evaluation with the lowest and the highest mIoU of their own; empty if
    the run saved none."""
    folder = workdir / "pictures" / paint_examples.EXTREMES
    index = read_json(folder / paint.INDEX)
    if not index or index.get("step") != last["step"] or len(index["images"]) < 2:
        return ""
    blocks = {"worst": [], "best": []}
    for i, each in enumerate(index["images"]):
        data, share = error_map(folder / f"{i}_truth.png", folder / f"{i}_prediction.png")
        cells = [
            cell("image", [Layer("image", folder / f"{i}_image.jpg")]),
            cell("ground truth", [Layer("ground truth", folder / f"{i}_truth.png")]),
            cell("prediction", [Layer("prediction", folder / f"{i}_prediction.png")]),
            cell(
                "errors",
                [Layer("errors", None, data)],
                "" if share is None else f"{100 * share:.1f} %",
            ),
        ]
        note = f"mIoU of this image {100 * each['score']:.1f} %"
        blocks[each["kind"]].append(shot(each["id"], cells, note))
    parts = [
        f"<h3>{title}</h3><div class='shots two'>{''.join(blocks[kind])}</div>"
        for kind, title in (("worst", "Worst"), ("best", "Best"))
        if blocks[kind]
    ]
    return (
        f"{''.join(parts)}<p class=note>Of all {last['images']} images at step {last['step']}, by "
        "the mean IoU of the classes that an image shows or that are predicted in it.</p>"
    )


def source(workdir: Path, title: str) -> str:
    """Labelled images of the source; empty if the run saved none."""
    folder = workdir / "pictures" / paint_examples.SOURCE
    index = read_json(folder / paint.INDEX)
    if not index or not index["ids"]:
        return ""
    rows = [
        shot(
            name,
            [
                cell("image", [Layer("image", folder / f"{i}_image.jpg")]),
                cell("label", [Layer("label", folder / f"{i}_truth.png")]),
            ],
        )
        for i, name in enumerate(index["ids"])
    ]
    return (
        f"<p class=note>{html.escape(title)}</p><div class=chips>{class_chips(index)}</div>"
        f"<div class='shots two'>{''.join(rows)}</div>"
    )


def _scale() -> str:
    return ramp_chip(paint.heat_palette()[::51], "entropy: certain", "uniform")


def _legend() -> str:
    names = ("right", "wrong", "not labelled")
    return "".join(
        f'<span class=chip><i style="background:rgb{colour}"></i>{name}</span>'
        for name, colour in zip(names, paint.ERRORS, strict=True)
    )


def compared(folder: Path, before: Mapping[str, Any], last: Mapping[str, Any]) -> list[int]:
    """The steps of the two evaluations, as far as their pictures are there."""
    steps = [before["step"]] if before["step"] != last["step"] else []
    return [s for s in [*steps, last["step"]] if (folder / f"{s:08d}").is_dir()]
