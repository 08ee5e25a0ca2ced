"""The report's section on predicted depth: its errors before and after, and depth maps."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxseg.report import paint, paint_depth
from jaxseg.report.parts import change, head, image, pictures, ramp_chip, read_json
from jaxseg.report.pictures import compared

# Key, name, digits, unit factor, and whether more (1) or less (-1) of it is better.
METRICS = (
    ("abs_rel", "absolute relative error", 3, 1, -1),
    ("sq_rel", "squared relative error, m", 2, 1, -1),
    ("rmse", "RMSE, m", 2, 1, -1),
    ("rmse_log", "RMSE of the logarithm", 3, 1, -1),
    ("delta1", "within a factor of 1.25, %", 1, 100, 1),
    ("delta2", "within 1.25², %", 1, 100, 1),
    ("delta3", "within 1.25³, %", 1, 100, 1),
)


def section(workdir: Path, before: Mapping[str, Any], last: Mapping[str, Any]) -> str:
    """The body of the section as HTML; empty if the run predicts no depth.

    Args:
      workdir: of the run.
      before, last: the evaluations that are compared.
    """
    return _table(before, last) + _maps(workdir / "pictures", before, last)


def scale_chip() -> str:
    """What the colours of a depth map mean."""
    palette = paint_depth.depth_palette()[255:0:-42]
    near, far = paint_depth.SCALE
    return ramp_chip(palette, f"depth: {near}", far)


def _table(before: Mapping[str, Any], last: Mapping[str, Any]) -> str:
    new = last.get("depth")
    if not new:
        return ""
    two = before["step"] != last["step"]
    old = before.get("depth") or {}
    rows = []
    for key, name, digits, factor, better in METRICS:
        if key not in new:
            continue
        was, now = (None if d.get(key) is None else factor * d[key] for d in (old, new))
        cells = f"<td>{_number(now, digits)}</td>"
        if two:
            cells = f"<td class=faint>{_number(was, digits)}</td>{cells}"
            cells += change(was, now, digits, better)
        rows.append(f"<tr><th>{name}</th>{cells}</tr>")
    heads = f"<th>step {last['step']}</th>"
    if two:
        heads = f"<th>step {before['step']}</th>{heads}<th>change</th>"
    parts = [f"means over {new['images']} images with depth"] if "images" in new else []
    if "cap" in new:
        parts.append(f"true depth up to {new['cap']:g} m")
    note = f"<p class=note>{', '.join(parts).capitalize()}.</p>" if parts else ""
    return (
        "<div class=scroll tabindex=0><table class='classes depth'><thead><tr><th></th>"
        f"{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>{note}"
    )


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _maps(folder: Path, before: Mapping[str, Any], last: Mapping[str, Any]) -> str:
    index = read_json(folder / paint.INDEX) or {}
    if not index.get("depth"):
        return ""
    steps, truths = compared(folder, before, last), index["depth"]["truth"]
    heads = ["image", *(["true depth"] if any(truths) else [])]
    heads += [f"predicted, step {step}" for step in steps]

    def row(i: int, name: str) -> list[str]:
        files = [folder / f"{i}_image.jpg", *([folder / f"{i}_depth.png"] if any(truths) else [])]
        files += [folder / f"{step:08d}" / f"{i}_depth.png" for step in steps]
        return [image(path, f"{name}, {text}") for path, text in zip(files, heads, strict=True)]

    rows = [row(i, name) for i, name in enumerate(index["ids"])]
    middle = -(-len(rows) // 2)
    blocks = [
        pictures([head(text) for text in heads] + sum(half, []), len(heads))
        for half in (rows[:middle], rows[middle:])
        if half
    ]
    return f"<div class=chips>{scale_chip()}</div><div class=blocks>{''.join(blocks)}</div>"
