"""`report.html`: one file that shows what a run did, readable in any browser without a network.

Reads what the run left in its work folder (`metrics.jsonl`, `pictures/`, `config.json`,
`method.json`, `results.json`, `selection.json`); whatever is missing is left out.
"""

import html
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flax.traverse_util import flatten_dict

from jaxseg.engine.method import Tile
from jaxseg.evaluation.results import percent
from jaxseg.report import brought, charts, depth, paint, pictures, selection
from jaxseg.report import curves as report_curves
from jaxseg.report import source as report_source
from jaxseg.report import views as report_views
from jaxseg.report.parts import bare, change, read_json, section
from jaxseg.storage import logs

WARNINGS = 12  # shown at most


def write_report(workdir: str | Path) -> Path:
    """Writes <workdir>/report.html.

    Args:
      workdir: of a run with at least one line in `metrics.jsonl`.

    Returns:
      The path of the report.
    """
    workdir = Path(workdir)
    lines = logs.read(workdir)
    train = [line for line in lines if line.get("kind") == "train"]
    evaluations = [line for line in lines if line.get("kind") == "eval"]
    config = read_json(workdir / "config.json") or {}
    warmup = _warmup_steps(config)
    before = before_adaptation(evaluations, warmup)
    best, last = logs.best_and_last(workdir)
    words = brought.read(workdir)
    name = str(config.get("name") or workdir.resolve().name)

    sections = [f"<header><h1>{html.escape(name)}</h1>{_summary(config, last)}</header>"]
    if last:
        tiles = _tiles(before, best, last, warmup) + _metric_tiles(train, words.tiles)
        tiles += _blind_tile(read_json(workdir / "blind.json"))
        sections.append(f"<div class=tiles>{''.join(tiles)}</div>")
    sections.append(_warnings(lines))
    if last:
        steps = [e["step"] for e in evaluations]
        shown = pictures.section(workdir, before, last)
        sections.append(section("Predictions on target images", shown))
        shown = depth.section(workdir, before, last)
        sections.append(section("Depth on target images", shown))
        shown = report_source.section(workdir, before, last, steps)
        sections.append(section("Source images as the method changes them", shown))
        shown = report_views.section(workdir, before, last)
        sections.append(section("What else the method shows", shown))
        sections.append(section("IoU of each class", _classes(workdir, before, best, last)))
    span = (0, max((line["step"] for line in [*train, *evaluations]), default=0))
    comparison = read_json(workdir / "selection.json") or {}
    sections.append(
        section(
            "Choosing a snapshot without target labels",
            selection.section(comparison, evaluations, span, warmup),
        )
    )
    curves = report_curves.section(train, evaluations, span, warmup, words.titles)
    sections.append(section("Curves", curves))
    results = read_json(workdir / "results.json")
    if results and last and results.get("step") != last["step"]:
        sections.append(
            f"<p class=note>results.json holds the evaluation of step {results.get('step')}: "
            f"mIoU {percent(results.get('miou'), 1)}.</p>"
        )
    if config:
        sections.append(_config(config))
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{html.escape(name)}</title><style>{charts.STYLE}</style></head>"
        f"<body><main>{''.join(sections)}</main></body></html>\n"
    )
    path = workdir / "report.html"
    path.write_text(page, encoding="utf-8")
    return path


def before_adaptation(evaluations: Sequence[Mapping[str, Any]], warmup: int) -> dict | None:
    """The evaluation to compare with: the end of the warm-up on the source alone, or the first."""
    within = [e for e in evaluations if e["step"] <= warmup]
    return (within[-1] if within else evaluations[0]) if evaluations else None


def _summary(config: Mapping[str, Any], last: Mapping[str, Any] | None) -> str:
    data = config.get("data") or {}
    parts = []
    source, target = (data.get(side) or {} for side in ("source", "target"))
    if source and target:
        names = (_data_name(source), _data_name(target))
        parts.append(f"{names[0]} → {names[1]}")
    if last:
        parts.append(f"evaluated on {last['images']} images of {last.get('split', 'val')}")
        parts.append(f"step {last['step']}")
    if "seed" in config:
        parts.append(f"seed {config['seed']}")
    return f"<p class=note>{html.escape(' · '.join(parts))}</p>"


def _data_name(side: Mapping[str, Any]) -> str:
    domain = (side.get("options") or {}).get("domain")
    return f"{side.get('name')} ({domain})" if domain else str(side.get("name"))


def _tiles(before, best, last, warmup: int) -> list[str]:
    stage = "source only" if before["step"] <= warmup else "first evaluation"
    tiles = [("mIoU at the last step", last, f"step {last['step']}", True)]
    two = before["step"] != last["step"]
    if two:
        tiles.insert(0, ("mIoU before", before, f"{stage}, step {before['step']}", False))
    if best["step"] != last["step"]:
        text = f"step {best['step']}, chosen with target labels"
        tiles.append(("mIoU of the best step", best, text, False))
    cells = [
        f'<div class="tile{" main" if main else ""}"><b>{bare(result["miou"])}'
        f"<small> %</small></b><span>{title}</span><em>{note}</em></div>"
        for title, result, note, main in tiles
    ]
    for title, key in (("pixel accuracy", "pixel_accuracy"), ("mean entropy", "entropy")):
        change = f"before: {percent(before.get(key), 1)}" if two else ""
        cells.append(
            f"<div class=tile><b>{bare(last.get(key))}<small> %</small></b>"
            f"<span>{title}</span><em>{change}</em></div>"
        )
    cells += _depth_tile(before, last, two)
    return cells


def _depth_tile(before, last, two: bool) -> list[str]:
    """How wrong depth is, of a run that predicts it."""
    old, new = ((e.get("depth") or {}).get("abs_rel") for e in (before, last))
    if new is None:
        return []
    note = f"before: {old:.3f}" if two and old is not None else ""
    return [
        f"<div class=tile><b>{new:.3f}</b><span>relative error of depth</span><em>{note}</em></div>"
    ]


def _blind_tile(found: Mapping[str, Any] | None) -> list[str]:
    """What predictors reach that hardly look: a network should be well above them."""
    if not found or found.get("position") is None:
        return []
    return [
        f"<div class=tile><b>{bare(found['colour_and_position'])}<small> %</small></b>"
        "<span>mIoU by colour and position alone</span>"
        f"<em>by position: {bare(found['position'])} %</em></div>"
    ]


def _metric_tiles(train: Sequence[Mapping[str, Any]], tiles: Mapping[str, Tile]) -> list[str]:
    """The training metrics that the method wants shown: the last value and the largest."""
    cells = []
    for name, tile in tiles.items():
        values = [line[name] for line in train if line.get(name) is not None]
        if values:
            unit = f"<small> {html.escape(tile.unit)}</small>" if tile.unit else ""
            cells.append(
                f"<div class=tile><b>{values[-1]:.1f}{unit}</b><span>{html.escape(tile.title)}"
                f"</span><em>mean, at most {max(values):.1f}</em></div>"
            )
    return cells


def _classes(workdir: Path, before, best, last) -> str:
    index = read_json(workdir / "pictures" / paint.INDEX) or {}
    colours = dict(zip(index.get("classes", ()), index.get("palette", ()), strict=True))
    two, more = before["step"] != last["step"], best["step"] != last["step"]
    rows = []
    for name, value in [*last["iou"].items(), ("mean", last["miou"])]:
        old = before["miou"] if name == "mean" else before["iou"].get(name)
        top = best["miou"] if name == "mean" else best["iou"].get(name)
        colour = f"rgb{tuple(colours[name])}" if name in colours else "transparent"
        bars = f'<div class="bar now" style="width:{100 * (value or 0):.2f}%"></div>'
        numbers = f"<td>{bare(value)}</td>"
        if two:
            bars = f'<div class="bar old" style="width:{100 * (old or 0):.2f}%"></div>{bars}'
            numbers = f"<td class=faint>{bare(old)}</td>{numbers}{_points(old, value)}"
        if more:
            numbers += f"<td class=faint>{bare(top)}</td>"
        rows.append(
            f'<tr{" class=mean" if name == "mean" else ""}><th><i style="background:{colour}"></i>'
            f"{html.escape(name)}</th><td class=bars>{bars}</td>{numbers}</tr>"
        )
    heads = f"<th>step {last['step']}</th>"
    key = ""
    if two:
        heads = f"<th>step {before['step']}</th>{heads}<th>change</th>"
        key = (
            f"<span class=chip><i class=old></i>step {before['step']}</span>"
            f"<span class=chip><i class=now></i>step {last['step']}</span>"
        )
    if more:
        heads += f"<th>best, step {best['step']}</th>"
    return (
        f"<div class=scroll><table class=classes><thead><tr><th></th><th class=chips>{key}</th>"
        f"{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
        "<p class=note>In percent; – where a class is neither in the ground truth nor called.</p>"
    )


def _points(old: float | None, new: float | None) -> str:
    """The change of a fraction in percentage points."""
    return change(*(None if value is None else 100 * value for value in (old, new)))


def _warnings(lines: Sequence[Mapping[str, Any]]) -> str:
    """What the run warned of, as `logs.Log.warning` wrote it."""
    texts = [(line["step"], line["text"]) for line in lines if line.get("kind") == "warning"]
    rows = [f"<li><b>step {step}</b> {html.escape(text)}</li>" for step, text in texts[:WARNINGS]]
    if len(texts) > WARNINGS:
        rows.append(f"<li class=faint>and {len(texts) - WARNINGS} more in {logs.FILE}</li>")
    return section("Warnings", f"<ul class=warnings>{''.join(rows)}</ul>" if rows else "")


def _config(config: Mapping[str, Any]) -> str:
    rows = "".join(
        f"<tr><th>{html.escape(key)}</th><td>{html.escape(json.dumps(value))}</td></tr>"
        for key, value in flatten_dict(dict(config), sep=".").items()
    )
    return (
        f"<details><summary>Settings</summary><table class=config><tbody>{rows}</tbody></table>"
        "</details>"
    )


def _warmup_steps(config: Mapping[str, Any]) -> int:
    return int((config.get("train") or {}).get("warmup_steps") or 0)
