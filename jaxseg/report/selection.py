"""The report's section on choosing a snapshot without target labels."""

import html
from collections.abc import Mapping, Sequence
from typing import Any

from jaxseg.evaluation.results import percent
from jaxseg.evaluation.selection import (
    CRITERIA,
    FEWEST,
    LABELS,
    LAST,
    Criterion,
    choices,
    correlation_text,
    title,
)
from jaxseg.report import charts as report_charts

_BY_LABELS = "<th>target mIoU there, %</th><th>below the best</th><th>rank correlation</th>"
_NOTE = (
    "Only target mIoU sees target labels. Spearman's rank correlation with it over these "
    "evaluations: +1 orders the snapshots as labels would; – with fewer than "
    f"{FEWEST}. "
)


def section(
    comparison: Mapping[str, Any],
    evaluations: Sequence[Mapping[str, Any]],
    span: tuple[float, float],
    warmup: int,
) -> str:
    """The body of the section as HTML; empty with fewer than two evaluations to choose from.

    Args:
      comparison: from `selection.compare`.
      evaluations: of the run, in order.
      span: first and last step of the charts.
      warmup: a step that the charts mark, 0 for none.
    """
    if comparison.get("evaluations", 0) < 2:
        return ""
    return _table(comparison) + _charts(comparison, evaluations, span, warmup)


def _table(comparison: Mapping[str, Any]) -> str:
    rows, chosen = [], choices(comparison)
    labelled = any(choice["miou"] is not None for _, choice in chosen)
    for criterion, choice in chosen:
        labels, below = criterion is LABELS, choice["below_best"]
        kind = "down" if below and below >= 5e-4 else "faint"
        value = "" if criterion in (LAST, LABELS) else _shown(criterion, choice["value"])
        cells = [f"<td>{choice['step']}</td><td>{value}</td>"]
        cells[0] += f"<td>{percent(choice['miou'], 1, '')}</td>" if labelled else ""
        cells += [
            f"<td class={kind}>{percent(below, 1, '')}</td>",
            f"<td>{correlation_text(choice['rank_correlation'])}</td>",
        ] * labelled
        rows.append(
            f"<tr{' class=mean' if labels else ''}><th>{html.escape(title(criterion))}</th>"
            f"{cells[0] + '<td></td><td></td>' if labels else ''.join(cells)}</tr>"
        )
    since, count = comparison["since"], comparison["evaluations"]
    place = f" from the end of the warm-up on, step {since}" if since else ""
    return (
        "<div class=scroll tabindex=0><table class='classes choices'><thead><tr><th>criterion</th>"
        f"<th>step it chooses</th><th>its value</th>{_BY_LABELS if labelled else ''}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div>"
        f"<p class=note>Of the {count} evaluations{place}. {_NOTE if labelled else ''}"
        f"{_names(comparison)}</p>"
    )


def _names(comparison: Mapping[str, Any]) -> str:
    """The commands that use the step a criterion chose."""
    names = [c.key for c in CRITERIA if c.key in comparison["criteria"]]
    codes = ", ".join(f"<code>--step={name}</code>" for name in names)
    return f"{codes}: evaluates or predicts with the criterion's choice." if names else ""


def _charts(comparison, evaluations, span, warmup: int) -> str:
    charts = []
    for criterion in (LABELS._replace(title="target mIoU"), *CRITERIA):
        key, scale = criterion.key, _scale(criterion)
        line = [(e["step"], scale * e[key]) for e in evaluations if e.get(key) is not None]
        choice = comparison["criteria"].get(key)
        unit = "%" if scale > 1 else "nats"
        charts.append(
            report_charts.chart(
                f"{criterion.title[0].upper()}{criterion.title[1:]}, {unit}",
                {"": line},
                span,
                mark=warmup,
                dots=True,
                ring=choice["step"] if choice else None,
            )
        )
    return (
        f"<div class='charts choices'>{''.join(charts)}</div>"
        "<p class=note>The ring is the snapshot that each would choose.</p>"
    )


def _scale(criterion: Criterion) -> float:
    """Fractions are shown in percent, the density as it is."""
    return 1 if criterion.key == "neighbourhood_density" else 100


def _shown(criterion: Criterion, value: float) -> str:
    return f"{value:.3f}" if _scale(criterion) == 1 else percent(value, 1)
