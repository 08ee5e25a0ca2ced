"""One page that compares runs and sweeps: scores over seeds, curves on one chart, pictures."""

import html
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxseg.report import charts, page, paint
from jaxseg.report import runs as report_runs
from jaxseg.report.errors import error_map
from jaxseg.report.parts import Layer, bare, cell, class_chips, points, read_json, section, shot
from jaxseg.report.runs import Group, Run, deviation, mean

SCORES = {"mIoU, %": "miou", "pixel accuracy, %": "pixel_accuracy", "entropy, %": "entropy"}
PICTURES = 4  # images that are shown of every group


def write(folders: Sequence[str | Path], path: str | Path) -> tuple[Path, list[Group]]:
    """Writes the page.

    Args:
      folders: of runs and of sweeps.
      path: of the page.

    Returns:
      Its path, and the groups of runs that it compares.

    Raises:
      UserError: see `runs.read`.
    """
    runs = report_runs.read(folders)
    groups = report_runs.grouped(runs)
    path = Path(path)
    title = (
        f"{len(groups)} groups of runs"
        if len(groups) < len(runs)
        else f"{len(runs)} run{'s' * (len(runs) > 1)}"
    )
    span = (0, max(run.last["step"] for run in runs))
    sections = [
        f"<header><h1>{title} compared</h1>{_summary(groups, runs)}</header>",
        section("Scores at the last step", _table(groups, path.parent)),
        section("Curves", _curves(groups, span)),
        section("IoU of each class", _classes(groups)),
        section("Predictions", _pictures(groups)),
        section("Settings that differ", _settings(groups)),
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page.whole(f"{title} compared", sections), encoding="utf-8")
    return path, groups


def _summary(groups: Sequence[Group], runs: Sequence[Run]) -> str:
    targets = dict.fromkeys(
        page.data_name((run.config.get("data") or {}).get("target") or {}) for run in runs
    )
    told = [f"target {', '.join(targets)}"]
    if len(groups) < len(runs):
        told.append("runs that differ in the seed only are one row")
    warning = ""
    if len({(run.last["images"], tuple(run.last["iou"])) for run in runs}) > 1:
        warning = (
            "<p class='note down'>Not all runs are scored on the same images and classes: their "
            "numbers cannot be compared.</p>"
        )
    return f"<p class=note>{html.escape(' · '.join(told))}</p>{warning}"


def _table(groups: Sequence[Group], here: Path) -> str:
    first = mean(groups[0].values(lambda run: run.last.get("miou")))
    rows = []
    for group in groups:
        last = group.values(lambda run: run.last.get("miou"))
        best = group.values(lambda run: run.best.get("miou"))
        steps = dict.fromkeys(str(run.last["step"]) for run in group.runs)
        others = [
            mean(group.values(lambda run, key=key: run.last.get(key)))
            for key in ("pixel_accuracy", "entropy")
        ]
        rows.append(
            f"<tr><th>{html.escape(group.name)}</th><td>{len(group.runs)}</td>"
            f"<td>{', '.join(steps)}</td><td><b>{_spread(last)}</b></td>"
            f"{points(first, mean(last)) if group is not groups[0] else '<td></td>'}"
            f"<td class=faint>{_spread(best)}</td>"
            f"{''.join(f'<td class=faint>{bare(value)}</td>' for value in others)}"
            f"<td class=text>{_links(group, here)}</td></tr>"
        )
    heads = ("runs", "steps", "mIoU, %", "to the first", "best step's", "pixels", "entropy", "")
    return (
        "<div class=scroll tabindex=0><table class='classes runs'><thead><tr><th></th>"
        f"{''.join(f'<th>{head}</th>' for head in heads)}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div>"
        "<p class=note>Mean ± sample standard deviation over the runs of a row. The best step is "
        "chosen with target labels; pixels: pixel accuracy in percent.</p>"
    )


def _spread(values: Sequence[float]) -> str:
    spread = deviation(values)
    return bare(mean(values)) + ("" if spread is None else f" ± {bare(spread)}")


def _links(group: Group, here: Path) -> str:
    """The runs' folders, with their reports where they have one."""
    parts = []
    for run in group.runs:
        name, report = html.escape(run.folder.name), run.folder / "report.html"
        if report.is_file():
            place = html.escape(os.path.relpath(report, here).replace(os.sep, "/"))
            name = f'<a href="{place}">{name}</a>'
        parts.append(name)
    return ", ".join(parts)


def _curves(groups: Sequence[Group], span: tuple[float, float]) -> str:
    drawn = [
        charts.chart(
            f"Target {title}",
            {
                g.name: _percent(report_runs.over_steps(g, lambda e, k=key: e.get(k)))
                for g in groups
            },
            span,
            dots=True,
        )
        for title, key in SCORES.items()
    ]
    drawn.append(
        charts.chart(
            "Loss of the segmenter",
            {g.name: report_runs.over_steps(g, lambda e: e.get("loss/gen"), True) for g in groups},
            span,
            log=3,
        )
    )
    many = any(len(group.runs) > 1 for group in groups)
    note = "<p class=note>Means over the runs of a row.</p>" if many else ""
    seeds = ""
    if many:
        lines = {
            f"{group.name}, seed {run.config.get('seed')}": _percent(
                [(e["step"], e["miou"]) for e in run.evaluations if e.get("miou") is not None]
            )
            for group in groups
            for run in group.runs
        }
        seeds = charts.chart("Target mIoU of each run, %", lines, span, dots=True)
    return f"<div class='charts wide'>{''.join(drawn)}{seeds}</div>{note}"


def _percent(line: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    return [(step, 100 * value) for step, value in line]


def _classes(groups: Sequence[Group]) -> str:
    names = dict.fromkeys(name for g in groups for run in g.runs for name in run.last["iou"])
    if all(run.last.get("miou") is None for group in groups for run in group.runs):
        return ""
    rows = []
    for name in names:
        values = [mean(g.values(lambda run, name=name: run.last["iou"].get(name))) for g in groups]
        known = [value for value in values if value is not None]
        top = max(known, default=0)
        cells = "".join(
            f"<td>{'<b>' if value and value == top else ''}{bare(value)}"
            f"{'</b>' if value and value == top else ''}</td>"
            for value in values
        )
        rows.append(f"<tr><th>{html.escape(name)}</th>{cells}</tr>")
    heads = "".join(f"<th>{html.escape(group.name)}</th>" for group in groups)
    return (
        "<div class=scroll tabindex=0><table class='classes runs'>"
        f"<thead><tr><th></th>{heads}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div>"
        "<p class=note>At the last step, in percent, means over the runs; the highest is bold.</p>"
    )


def _pictures(groups: Sequence[Group]) -> str:
    """The images that the first run of every group shows, each with all predictions."""
    firsts = [(group.name, group.runs[0]) for group in groups]
    indices = [read_json(run.folder / "pictures" / paint.INDEX) or {} for _, run in firsts]
    shared = [
        name
        for name in indices[0].get("ids", ())
        if all(name in index.get("ids", ()) for index in indices)
    ]
    rows = []
    for name in shared[:PICTURES]:
        place = indices[0]["ids"].index(name)
        folder = firsts[0][1].folder / "pictures"
        cells = [cell("image", [Layer("image", folder / f"{place}_image.jpg")])]
        truth = folder / f"{place}_truth.png"
        if firsts[0][1].last.get("miou") is not None:
            cells.append(cell("ground truth", [Layer("ground truth", truth)]))
        for (title, run), index in zip(firsts, indices, strict=True):
            own = index["ids"].index(name)
            here = run.folder / "pictures" / f"{run.last['step']:08d}" / f"{own}_prediction.png"
            _, wrong = error_map(truth, here)
            note = "" if wrong is None else f"{100 * wrong:.1f} % wrong"
            cells.append(cell(title, [Layer(title, here)], note))
        rows.append(shot(name, cells))
    if not rows:
        return ""
    return f"<div class=chips>{class_chips(indices[0])}</div><div class=shots>{''.join(rows)}</div>"


def _settings(groups: Sequence[Group]) -> str:
    names = list(groups[0].own)
    if not names:
        return ""
    rows = "".join(
        f"<tr><th>{html.escape(name)}</th>"
        f"{''.join(f'<td>{_value(group.own.get(name))}</td>' for group in groups)}</tr>"
        for name in names
    )
    heads = "".join(f"<th>{html.escape(group.name)}</th>" for group in groups)
    return (
        f"<div class=scroll tabindex=0><table class=config><thead><tr><th></th>{heads}</tr></thead>"
        f"<tbody>{rows}</tbody></table></div>"
    )


def _value(value: Any) -> str:
    return "" if value is None else html.escape(json.dumps(value))
