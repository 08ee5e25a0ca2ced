"""`report.html`: one file that shows what a run did, readable in any browser without a network.

Reads what the run left in its work folder (`metrics.jsonl`, `pictures/`, `config.json`,
`method.json`, `results.json`, `selection.json`); whatever is missing is left out.
"""

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxseg.evaluation.results import percent
from jaxseg.report import (
    beside,
    brought,
    classes,
    confusion,
    depth,
    headline,
    paint,
    pictures,
    provenance,
    script,
    selection,
    shares,
    style,
)
from jaxseg.report import curves as report_curves
from jaxseg.report import source as report_source
from jaxseg.report import views as report_views
from jaxseg.report.parts import read_json, section
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
    last = evaluations[-1] if evaluations else None
    name = str(config.get("name") or workdir.resolve().name)
    words = brought.read(workdir)
    sections = [f"<header><h1>{html.escape(name)}</h1>{_summary(config, last)}</header>"]
    if last:
        sections += _results(workdir, config, train, evaluations, words)
    else:
        sections.append(_warnings(lines))
    warmup = warmup_steps(config, words)
    span = (0, max((line["step"] for line in [*train, *evaluations]), default=0))
    if not beside.supervised(config):
        shown = selection.section(
            read_json(workdir / "selection.json") or {}, evaluations, span, warmup
        )
        sections.append(section("Choosing a snapshot without target labels", shown))
    curves = report_curves.section(train, evaluations, span, warmup, words.titles)
    sections.append(section("Curves", curves))
    results = read_json(workdir / "results.json")
    if results and last and results.get("step") != last["step"]:
        sections.append(
            f"<p class=note>results.json holds the evaluation of step {results.get('step')}: "
            f"mIoU {percent(results.get('miou'), 1)}.</p>"
        )
    if config:
        sections.append(section("Where it comes from", provenance.section(workdir, config)))
        sections.append(provenance.settings(config))
    path = workdir / "report.html"
    path.write_text(whole(name, sections), encoding="utf-8")
    return path


def whole(title: str, sections: Sequence[str]) -> str:
    """A page of its own: nothing in it is fetched from elsewhere."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{style.STYLE}</style></head>"
        f"<body><main>{''.join(sections)}</main><script>{script.SCRIPT}</script></body></html>\n"
    )


def before_adaptation(evaluations: Sequence[Mapping[str, Any]], warmup: int) -> dict | None:
    """The evaluation to compare with: the end of the warm-up on the source alone, or the first."""
    within = [e for e in evaluations if e["step"] <= warmup]
    return (within[-1] if within else evaluations[0]) if evaluations else None


def warmup_steps(config: Mapping[str, Any], words: brought.Brought) -> int:
    """The last step of the warm-up; 0 without one."""
    if not words.warms_up:
        return 0
    return int((config.get("train") or {}).get("warmup_steps") or 0)


def _results(workdir: Path, config, train, evaluations, words) -> list[str]:
    """The sections on scores and pictures, of a run with an evaluation."""
    warmup = warmup_steps(config, words)
    best, last = logs.best_and_last(workdir)
    adapts = not beside.supervised(config)
    before = before_adaptation(evaluations, warmup) if adapts else last
    found = [f for f in beside.find(workdir, config) if f.role != beside.role_of(config)]
    yardsticks = read_json(workdir / "blind.json")
    tiles = headline.tiles(before, best, last, warmup, found)
    tiles += headline.metrics(train, words.tiles) + headline.blind(yardsticks)
    index = read_json(workdir / "pictures" / paint.INDEX) or {}
    palette = dict(zip(index.get("classes", ()), index.get("palette", ()), strict=True))
    steps = [e["step"] for e in evaluations]
    changed = report_source.section(workdir, before, last, steps)
    data = config.get("data") or {}
    told = f"Images of {data_name(data.get('source') or {})} with their labels, which are learnt."
    parts = (
        (
            "To compare with",
            headline.table(before, best, last, warmup, found, yardsticks),
        ),
        (
            "Predictions on target images" if adapts else "Predictions on validation images",
            pictures.section(workdir, before, last),
        ),
        ("What is predicted", shares.section(workdir, before, last)),
        ("Worst and best images", pictures.extremes(workdir, last)),
        ("Depth on target images", depth.section(workdir, before, last)),
        ("Source images as the method changes them", changed),
        ("Source images" if adapts else "Training images", pictures.source(workdir, told)),
        ("What else the method shows", report_views.section(workdir, before, last)),
        ("IoU of each class", classes.section(before, best, last, palette)),
        ("Confusion matrix", confusion.section(last, palette)),
    )
    return [
        f"<div class=tiles>{tiles}</div>",
        _warnings(logs.read(workdir)),
        *(section(title, body) for title, body in parts),
    ]


def _summary(config: Mapping[str, Any], last: Mapping[str, Any] | None) -> str:
    data = config.get("data") or {}
    parts = []
    source, target = (data.get(side) or {} for side in ("source", "target"))
    if source and target:
        names = (data_name(source), data_name(target))
        if beside.supervised(config):
            parts.append(f"{names[1]}, with its labels")
        else:
            parts.append(f"{names[0]} → {names[1]}")
    if last and last.get("miou") is None:
        parts.append("no target labels, so nothing is scored")
    if last:
        verb = "looked at" if last.get("miou") is None else "evaluated on"
        parts.append(f"{verb} {last['images']} images of {last.get('split', 'val')}")
        parts.append(f"step {last['step']}")
    if "seed" in config:
        parts.append(f"seed {config['seed']}")
    return f"<p class=note>{html.escape(' · '.join(parts))}</p>"


def data_name(side: Mapping[str, Any]) -> str:
    """A data set's name, with its domain if it has several, or the folder of own images."""
    options = side.get("options") or {}
    which = options.get("domain") or (side.get("name") == "folder" and options.get("images"))
    return f"{side.get('name')} ({which})" if which else str(side.get("name"))


def _warnings(lines: Sequence[Mapping[str, Any]]) -> str:
    """What the run warned of, as `logs.Log.warning` wrote it."""
    texts = [(line["step"], line["text"]) for line in lines if line.get("kind") == "warning"]
    rows = [f"<li><b>step {step}</b> {html.escape(text)}</li>" for step, text in texts[:WARNINGS]]
    if len(texts) > WARNINGS:
        rows.append(f"<li class=faint>and {len(texts) - WARNINGS} more in {logs.FILE}</li>")
    return section("Warnings", f"<ul class=warnings>{''.join(rows)}</ul>" if rows else "")
