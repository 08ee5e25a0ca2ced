"""The report's table of classes: IoU before and after, and how many pixels each class has."""

import html
from collections.abc import Mapping
from typing import Any

from jaxseg.report import confusion
from jaxseg.report.parts import bare, points


def section(
    before: Mapping[str, Any],
    best: Mapping[str, Any],
    last: Mapping[str, Any],
    palette: Mapping[str, Any],
) -> str:
    """The body of the section as HTML; empty without target labels.

    Args:
      before, best, last: evaluations; `before` and `last` may be the same, then nothing is
        compared.
      palette: class -> colour, of those that have one.
    """
    if last.get("miou") is None:
        return ""
    two, more = before["step"] != last["step"], best["step"] != last["step"]
    shares, predicted = last.get("pixels") or {}, confusion.predicted(last)
    rows = []
    for name, value in [*last["iou"].items(), ("mean", last["miou"])]:
        mean = name == "mean"
        old, top = ((e["miou"] if mean else e["iou"].get(name)) for e in (before, best))
        colour = f"rgb{tuple(palette[name])}" if name in palette else "transparent"
        bars = f'<div class="bar now" style="width:{100 * (value or 0):.2f}%"></div>'
        cells = f"<td>{bare(value)}</td>"
        if two:
            bars = f'<div class="bar old" style="width:{100 * (old or 0):.2f}%"></div>{bars}'
            cells = f"<td class=faint>{bare(old)}</td>{cells}{points(old, value)}"
        if more:
            cells += f"<td class=faint>{bare(top)}</td>"
        for kind in (shares, predicted):
            if kind:
                cells += f"<td class=faint>{'' if mean else _share(kind.get(name))}</td>"
        swatch = "" if mean else f'<i style="background:{colour}"></i>'
        rows.append(
            f"<tr{' class=mean' if mean else ''}><th>{swatch}{html.escape(name)}</th>"
            f"<td class=bars>{bars}</td>{cells}</tr>"
        )
    return (
        "<div class=scroll tabindex=0><table class=classes><thead>"
        f"{_heads(before, best, last, two, more)}"
        f"{'<th>pixels</th>' if shares else ''}{'<th>predicted</th>' if predicted else ''}"
        "</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div>"
        f"<p class=note>IoU{_shares_told(shares, predicted)} in percent; – where a class is "
        "neither in the ground truth nor predicted.</p>"
    )


def _heads(before, best, last, two: bool, more: bool) -> str:
    heads, key = f"<th>step {last['step']}</th>", ""
    if two:
        heads = f"<th>step {before['step']}</th>{heads}<th>change</th>"
        key = (
            f"<span class=chip><i class=old></i>step {before['step']}</span>"
            f"<span class=chip><i class=now></i>step {last['step']}</span>"
        )
    if more:
        heads += f"<th>best, step {best['step']}</th>"
    return f"<tr><th></th><th class=chips>{key}</th>{heads}"


def _shares_told(shares: Mapping[str, Any], predicted: Mapping[str, Any]) -> str:
    if not shares:
        return ""
    more = " and of those predicted as it" if predicted else ""
    return f" and share of the labelled pixels{more},"


def _share(value: float | None) -> str:
    """A share of pixels in percent, of a rare class with two digits."""
    return bare(value) if value is None or value >= 0.01 else f"{100 * value:.2f}"
