"""`report.html`: one file that shows what a run did, readable in any browser without a network.

Reads what the run left in its work folder (`metrics.jsonl`, `pictures/`, `config.json`,
`results.json`, `selection.json`); whatever is missing is left out.
"""

import base64
import functools
import html
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxseg import logs, report_charts, report_selection, visualize
from jaxseg.evaluate import percent

TITLES = {
    "loss/gen": "Loss of the segmenter",
    "loss/disc": "Loss of the discriminator",
    "segmentation": "Cross-entropy on the source",
    "adversarial": "Adversarial loss on the target",
    "target": "Losses on the target",
    "accuracy": "Accuracy of the discriminator",
    "lr": "Learning rates",
    "images_per_second": "Images per second",
    "input_wait": "Seconds a step waits for its input",
}
# Where the page itself has the sign, small or once for a table.
_bare = functools.partial(percent, digits=1, unit="")
LAST_CHARTS = ("lr", "images_per_second", "input_wait")


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
    config = _read_json(workdir / "config.json") or {}
    warmup = _warmup_steps(config)
    before = before_adaptation(evaluations, warmup)
    best, last = logs.best_and_last(workdir)
    name = str(config.get("name") or workdir.resolve().name)

    sections = [f"<header><h1>{html.escape(name)}</h1>{_summary(config, last)}</header>"]
    if last:
        sections.append(_tiles(before, best, last, warmup))
        sections.append(_section("Predictions on target images", _pictures(workdir, before, last)))
        sections.append(_section("IoU of each class", _classes(workdir, before, best, last)))
    span = (0, max((line["step"] for line in [*train, *evaluations]), default=0))
    comparison = _read_json(workdir / "selection.json") or {}
    sections.append(
        _section(
            "Choosing a snapshot without target labels",
            report_selection.section(comparison, evaluations, span, warmup),
        )
    )
    sections.append(_section("Curves", _curves(train, evaluations, span, warmup)))
    results = _read_json(workdir / "results.json")
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
        f"<title>{html.escape(name)}</title><style>{report_charts.STYLE}</style></head>"
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


def _tiles(before, best, last, warmup: int) -> str:
    stage = "source only" if before["step"] <= warmup else "first evaluation"
    tiles = [("mIoU at the last step", last, f"step {last['step']}", True)]
    if before["step"] != last["step"]:
        tiles.insert(0, ("mIoU before", before, f"{stage}, step {before['step']}", False))
    if best["step"] != last["step"]:
        text = f"step {best['step']}, chosen with target labels"
        tiles.append(("mIoU of the best step", best, text, False))
    cells = [
        f'<div class="tile{" main" if main else ""}"><b>{_bare(result["miou"])}'
        f"<small> %</small></b><span>{title}</span><em>{note}</em></div>"
        for title, result, note, main in tiles
    ]
    for title, key in (("pixel accuracy", "pixel_accuracy"), ("mean entropy", "entropy")):
        change = "" if before is last else f"before: {percent(before.get(key), 1)}"
        cells.append(
            f"<div class=tile><b>{_bare(last.get(key))}<small> %</small></b>"
            f"<span>{title}</span><em>{change}</em></div>"
        )
    return f"<div class=tiles>{''.join(cells)}</div>"


def _pictures(workdir: Path, before, last) -> str:
    folder = workdir / "pictures"
    index = _read_json(folder / visualize.INDEX)
    if not index or not index["ids"]:
        return ""
    steps = [before["step"]] if before["step"] != last["step"] else []
    steps = [s for s in [*steps, last["step"]] if (folder / f"{s:08d}").is_dir()]
    heads = ["image", "ground truth"]
    for step in steps:
        heads += [f"prediction, step {step}", f"entropy, step {step}"]
    cells = [f"<span class=head>{head}</span>" for head in heads]
    for i, name in enumerate(index["ids"]):
        files = [folder / f"{i}_image.jpg", folder / f"{i}_truth.png"]
        for step in steps:
            files += [
                folder / f"{step:08d}" / f"{i}_{kind}.png" for kind in ("prediction", "entropy")
            ]
        cells += [_image(path, f"{name}, {head}") for path, head in zip(files, heads, strict=True)]
    chips = "".join(
        f'<span class=chip><i style="background:rgb{tuple(colour)}"></i>{html.escape(name)}</span>'
        for name, colour in zip(index["classes"], index["palette"], strict=True)
    )
    ramp = ",".join(f"rgb{tuple(map(int, c))}" for c in visualize.heat_palette()[::51])
    scale = (
        f'<span class=chip>entropy: certain <i class=ramp style="background:linear-gradient('
        f'90deg,{ramp})"></i> uniform</span>'
    )
    return (
        f"<div class=chips>{chips}<br>{scale}</div>"
        f'<div class=scroll><div class=pictures style="--columns:{len(heads)}">'
        f"{''.join(cells)}</div></div>"
    )


def _classes(workdir: Path, before, best, last) -> str:
    index = _read_json(workdir / "pictures" / visualize.INDEX) or {}
    colours = dict(zip(index.get("classes", ()), index.get("palette", ()), strict=True))
    two, more = before["step"] != last["step"], best["step"] != last["step"]
    rows = []
    for name, value in [*last["iou"].items(), ("mean", last["miou"])]:
        old = before["miou"] if name == "mean" else before["iou"].get(name)
        top = best["miou"] if name == "mean" else best["iou"].get(name)
        colour = f"rgb{tuple(colours[name])}" if name in colours else "transparent"
        bars = f'<div class="bar now" style="width:{100 * (value or 0):.2f}%"></div>'
        numbers = f"<td>{_bare(value)}</td>"
        if two:
            bars = f'<div class="bar old" style="width:{100 * (old or 0):.2f}%"></div>{bars}'
            numbers = f"<td class=faint>{_bare(old)}</td>{numbers}{_change(old, value)}"
        if more:
            numbers += f"<td class=faint>{_bare(top)}</td>"
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


def _change(old: float | None, new: float | None) -> str:
    if old is None or new is None:
        return "<td class=faint>–</td>"
    change = round(100 * (new - old), 1)
    kind = "up" if change > 0 else "down" if change < 0 else "faint"
    return f"<td class={kind}>{change:+.1f}</td>"


def _curves(train, evaluations, span, warmup: int) -> str:
    charts = []
    if len(evaluations) > 1:
        lines = {
            title: [(e["step"], 100 * e[key]) for e in evaluations if e.get(key) is not None]
            for title, key in (
                ("mIoU", "miou"),
                ("pixel accuracy", "pixel_accuracy"),
                ("entropy", "entropy"),
            )
        }
        charts.append(
            report_charts.chart("Target validation, %", lines, span, mark=warmup, dots=True)
        )
    groups: dict[str, dict[str, list]] = {}
    for line in train:
        for name, value in line.items():
            if name in ("kind", "step") or not isinstance(value, (int, float)):
                continue
            group, _, rest = name.rpartition("/")
            # Each player's loss has its own scale, so its own chart.
            if group in ("", "loss"):
                group, rest = name, ""
            groups.setdefault(group, {}).setdefault(rest, []).append((line["step"], value))
    ordered = [g for g in groups if g not in LAST_CHARTS] + [g for g in LAST_CHARTS if g in groups]
    ordered.sort(key=lambda group: not group.startswith("loss/"))
    for group in ordered:
        title = TITLES.get(group, group.replace("_", " ").replace("/", " of "))
        charts.append(
            report_charts.chart(title, groups[group], span, mark=warmup, log=group == "lr")
        )
    note = (
        f"<p class=note>The dashed line is the end of the warm-up on the source, step {warmup}.</p>"
        if warmup
        else ""
    )
    return f"<div class=charts>{''.join(charts)}</div>{note}" if charts else ""


def _config(config: Mapping[str, Any]) -> str:
    rows = "".join(
        f"<tr><th>{html.escape(key)}</th><td>{html.escape(value)}</td></tr>"
        for key, value in _flat(config)
    )
    return (
        f"<details><summary>Settings</summary><table class=config><tbody>{rows}</tbody></table>"
        "</details>"
    )


def _flat(tree: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows = []
    for key, value in tree.items():
        if isinstance(value, Mapping):
            rows += _flat(value, f"{prefix}{key}.")
        else:
            rows.append((prefix + key, json.dumps(value)))
    return rows


def _warmup_steps(config: Mapping[str, Any]) -> int:
    return int((config.get("train") or {}).get("warmup_steps") or 0)


def _section(title: str, body: str) -> str:
    return f"<section><h2>{title}</h2>{body}</section>" if body else ""


def _image(path: Path, description: str) -> str:
    if not path.exists():
        return "<span></span>"
    kind = "jpeg" if path.suffix == ".jpg" else "png"
    data = base64.b64encode(path.read_bytes()).decode()
    return f'<img alt="{html.escape(description)}" src="data:image/{kind};base64,{data}">'


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError):
        return None
