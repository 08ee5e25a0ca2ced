"""The numbers at the top of a report, and the table of what they are to be compared with."""

import html
from collections.abc import Mapping, Sequence
from typing import Any

from jaxseg.engine.method import Tile
from jaxseg.evaluation.results import percent
from jaxseg.report import beside
from jaxseg.report.parts import bare, points

LEAST = 0.001  # share of the pixels that a class is predicted for
PARTS = {1 / 2: "half the training", 1 / 3: "a third of the training", 1 / 4: "a quarter of it"}


def stage(before: Mapping[str, Any], last: Mapping[str, Any], warmup: int) -> str:
    """What the first of two evaluations is, and how much less training it has had."""
    if not warmup or before["step"] > warmup:
        return "first evaluation"
    share = before["step"] / last["step"]
    told = next((text for part, text in PARTS.items() if abs(part - share) < 0.01), "")
    told = told or f"{100 * share:.0f} % of the training"
    name = "end of the warm-up" if before["step"] == warmup else "within the warm-up"
    return f"{name}, {told}"


def tiles(
    before: Mapping[str, Any],
    best: Mapping[str, Any],
    last: Mapping[str, Any],
    warmup: int,
    found: Sequence[beside.Found],
) -> str:
    """The scores as tiles of HTML.

    What the last step is compared with has had the same number of steps: runs on the source alone
    where there are any (`found`). Otherwise it is the end of the warm-up, and says so.
    """
    cells, labelled = [], last.get("miou") is not None
    two = before["step"] != last["step"]
    if labelled:
        equal = beside.equal_source(found, last["step"])
        note = f"step {last['step']}"
        if equal:
            seeds = f", {len(equal.scores)} seeds" if len(equal.scores) > 1 else ""
            cells.append(
                tile(equal.mean, "mIoU of source only", f"the same {equal.steps} steps{seeds}")
            )
            note += f": {100 * (last['miou'] - equal.mean):+.1f} points"
        elif two and warmup:
            cells.append(tile(before["miou"], "mIoU before", stage(before, last, warmup)))
        cells.append(tile(last["miou"], "mIoU at the last step", note, main=True))
        if best["step"] != last["step"]:
            text = f"step {best['step']}, chosen with target labels"
            cells.append(tile(best["miou"], "mIoU of the best step", text))
        text = f"step {before['step']}: {percent(before.get('pixel_accuracy'), 1)}" if two else ""
        cells.append(tile(last.get("pixel_accuracy"), "pixel accuracy", text))
    text = f"step {before['step']}: {percent(before.get('entropy'), 1)}" if two else ""
    cells.append(tile(last.get("entropy"), "mean entropy", text, main=not labelled))
    if not labelled:
        cells += _without_labels(before, last, two)
    return "".join(cells) + depth(before, last, two)


def _without_labels(before: Mapping[str, Any], last: Mapping[str, Any], two: bool) -> list[str]:
    """Tiles of what can be told of a run whose target has no labels."""
    cells = []
    for key, title in (
        ("source_miou", "mIoU on the source's validation images"),
        ("agreement", "of the pixels as at the evaluation before"),
    ):
        if last.get(key) is not None:
            told = two and before.get(key) is not None
            note = f"step {before['step']}: {percent(before[key], 1)}" if told else ""
            cells.append(tile(last[key], title, note))
    if predicted := last.get("predicted"):
        shown = sum(share >= LEAST for share in predicted.values())
        cells.append(
            f"<div class=tile><b>{shown}<small> of {len(predicted)}</small></b><span>classes are "
            f"predicted</span><em>for {bare(LEAST)} % of the pixels or more</em></div>"
        )
    return cells


def tile(value: float | None, title: str, note: str, main: bool = False) -> str:
    """A fraction in percent over its name and a note."""
    return (
        f'<div class="tile{" main" if main else ""}"><b>{bare(value)}<small> %</small></b>'
        f"<span>{html.escape(title)}</span><em>{html.escape(note)}</em></div>"
    )


def depth(before: Mapping[str, Any], last: Mapping[str, Any], two: bool) -> str:
    """How wrong depth is, of a run that predicts it."""
    old, new = ((e.get("depth") or {}).get("abs_rel") for e in (before, last))
    if new is None:
        return ""
    note = f"step {before['step']}: {old:.3f}" if two and old is not None else ""
    return (
        f"<div class=tile><b>{new:.3f}</b><span>relative error of depth</span><em>{note}</em></div>"
    )


def blind(found: Mapping[str, Any] | None) -> str:
    """What predictors reach that hardly look: a network should be well above them."""
    if not found or found.get("position") is None:
        return ""
    title, note = "mIoU by colour and position alone", f"by position: {bare(found['position'])} %"
    return tile(found["colour_and_position"], title, note)


def metrics(train: Sequence[Mapping[str, Any]], wanted: Mapping[str, Tile]) -> str:
    """The training metrics that the method wants shown: the last value and the largest."""
    cells = []
    for name, each in wanted.items():
        values = [line[name] for line in train if line.get(name) is not None]
        if values:
            unit = f"<small> {html.escape(each.unit)}</small>" if each.unit else ""
            cells.append(
                f"<div class=tile><b>{values[-1]:.1f}{unit}</b><span>{html.escape(each.title)}"
                f"</span><em>mean, at most {max(values):.1f}</em></div>"
            )
    return "".join(cells)


def table(
    before: Mapping[str, Any],
    best: Mapping[str, Any],
    last: Mapping[str, Any],
    warmup: int,
    found: Sequence[beside.Found],
    yardsticks: Mapping[str, Any] | None,
) -> str:
    """Rows of this run and of what it can be compared with; empty without target labels or if
    there is nothing to compare with."""
    if last.get("miou") is None:
        return ""
    rows = [("this run", last["step"], last["miou"], "at the last step", None)]
    if best["step"] != last["step"]:
        text = "its best step, chosen with target labels"
        rows.append(("this run", best["step"], best["miou"], text, None))
    if warmup and before["step"] != last["step"]:
        text = stage(before, last, warmup)
        rows.append(("this run before adaptation", before["step"], before["miou"], text, None))
    for each in found:
        names = ", ".join(each.folders[:4]) + (", ..." if len(each.folders) > 4 else "")
        length = "" if each.steps == last["step"] else "; not the same number of steps"
        rows.append((each.role, each.steps, each.mean, names + length, each.deviation))
    if yardsticks and yardsticks.get("position") is not None:
        for key, name, seen in (
            ("colour_and_position", "commonest class of each colour and position", "one pixel"),
            ("position", "commonest class of each position", "no image"),
        ):
            rows.append((name, "", yardsticks[key], f"sees {seen}", None))
    if len(rows) < 2:
        return ""
    cells = []
    for i, (name, steps, miou, note, deviation) in enumerate(rows):
        spread = "" if deviation is None else f" ± {bare(deviation)}"
        change = points(last["miou"], miou) if i else "<td></td>"
        cells.append(
            f"<tr><th>{html.escape(name)}</th><td>{steps}</td><td>{bare(miou)}{spread}</td>{change}"
            f"<td class='text faint'>{html.escape(note)}</td></tr>"
        )
    return (
        "<div class=scroll tabindex=0><table class='classes beside'><thead><tr><th></th>"
        "<th>steps</th><th>mIoU, %</th><th>to this run</th><th></th></tr></thead>"
        f"<tbody>{''.join(cells)}</tbody></table></div>"
        "<p class=note>Other runs are those in the folders beside this one with the same target, "
        "classes, network and batch, at their last step.</p>"
    )
