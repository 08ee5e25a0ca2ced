"""The report's curves over steps: scores of the evaluations and what training logged."""

from collections.abc import Mapping, Sequence
from typing import Any

from jaxseg.report import charts as report_charts

# Of the metrics that most methods log; a method may bring titles of its own, see `Method.titles`.
TITLES = {
    "loss/gen": "Loss of the segmenter",
    "loss/disc": "Loss of the discriminator",
    "segmentation": "Cross-entropy on the source",
    "adversarial": "Adversarial loss on the target",
    "target": "Losses on the target",
    "accuracy": "Accuracy of the discriminator",
    "lr": "Learning rates",
    "grad_norm": "Norms of the gradients",
    "images_per_second": "Images per second",
    "input_wait": "Seconds a step waits for its input",
    "depth": "Depth loss on the source",
}
LAST_CHARTS = ("grad_norm", "lr", "images_per_second", "input_wait")
# Scales that stay linear; losses and rates are logarithmic where they span more than a factor.
LINEAR, FACTOR = ("accuracy", "images_per_second", "input_wait"), 3.0
GUESSING, SURE = 0.5, 1.0  # accuracy of a discriminator that only guesses, and that is always right

Lines = Sequence[Mapping[str, Any]]


def section(
    train: Lines,
    evaluations: Lines,
    span: tuple[float, float],
    warmup: int,
    titles: Mapping[str, str] | None = None,
) -> str:
    """The body of the section as HTML; empty with nothing to draw.

    Args:
      train, evaluations: the lines of `metrics.jsonl` of these kinds, in order.
      span: first and last step of the charts.
      warmup: a step that the charts mark, 0 for none.
      titles: the method's own, group of metrics -> title.
    """
    charts = []
    if len(evaluations) > 1:
        scores = {
            title: [(e["step"], 100 * e[key]) for e in evaluations if e.get(key) is not None]
            for title, key in (
                ("mIoU", "miou"),
                ("pixel accuracy", "pixel_accuracy"),
                ("entropy", "entropy"),
            )
        }
        charts.append(
            report_charts.chart("Target validation, %", scores, span, mark=warmup, dots=True)
        )
        charts += _depth(evaluations, span, warmup)
    charts += _training(train, span, warmup, TITLES | dict(titles or {}))
    note = (
        f"<p class=note>The dashed line is the end of the warm-up on the source, step {warmup}.</p>"
        if warmup
        else ""
    )
    return f"<div class=charts>{''.join(charts)}</div>{note}" if charts else ""


def _depth(evaluations: Lines, span, warmup: int) -> list[str]:
    charts = []
    for title, keys in (
        ("Depth, absolute relative error", {"target": "abs_rel"}),
        ("Depth, RMSE in metres", {"target": "rmse"}),
        (
            "Depth within a factor, share of pixels",
            {"1.25": "delta1", "1.25²": "delta2", "1.25³": "delta3"},
        ),
    ):
        lines = {
            name: [
                (e["step"], _depth_of(e)[key])
                for e in evaluations
                if _depth_of(e).get(key) is not None
            ]
            for name, key in keys.items()
        }
        charts.append(report_charts.chart(title, lines, span, mark=warmup, dots=True))
    return charts


def _depth_of(evaluation: Mapping[str, Any]) -> Mapping[str, Any]:
    return evaluation.get("depth") or {}


def _training(train: Lines, span, warmup: int, titles: Mapping[str, str]) -> list[str]:
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
    return [
        report_charts.chart(
            titles.get(group, group.replace("_", " ").replace("/", " of ")),
            groups[group],
            span,
            mark=warmup,
            log=0 if group.split("/")[0] in LINEAR else FACTOR,
            levels=(GUESSING, SURE) if group == "accuracy" else (),
        )
        for group in ordered
    ]
