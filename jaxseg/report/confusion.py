"""The report's confusion matrix: what each class of the ground truth is predicted as."""

import html
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxseg.report.parts import bare

MOST = 6  # of the largest confusions are told in words
LEAST = 0.005  # share of the labelled pixels that a class must have for that


def section(last: Mapping[str, Any], palette: Mapping[str, Sequence[int]]) -> str:
    """The body of the section as HTML; empty if the evaluation kept no confusion matrix.

    Args:
      last: the evaluation; its `confusion` has the truth in rows, in the order of `classes`.
      palette: class -> colour, of those that have one.
    """
    kept = last.get("confusion")
    if not kept or not np.any(kept["pixels"]):
        return ""
    names, counts = kept["classes"], np.asarray(kept["pixels"], np.float64)
    totals = counts.sum(1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros_like(counts), where=totals > 0)
    rows = []
    for i, name in enumerate(names):
        cells = [
            _cell(name, names[j], shares[i, j], counts[i, j], i == j) for j in range(len(names))
        ]
        if not totals[i]:
            cells = [f"<td class=faint colspan={len(names)}>not in the ground truth</td>"]
        rows.append(f"<tr><th>{_named(name, palette)}</th>{''.join(cells)}</tr>")
    heads = "".join(f"<th><span>{html.escape(name)}</span></th>" for name in names)
    return (
        f"{_told(names, shares, totals[:, 0] / counts.sum())}<div class=scroll tabindex=0>"
        f"<table class=matrix><thead><tr><th></th>{heads}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div>"
        "<p class=note>Rows: the ground truth. Columns: the prediction, in percent of the row's "
        "pixels; less than 0.5 % is left empty.</p>"
    )


def predicted(last: Mapping[str, Any]) -> dict[str, float]:
    """Class -> share of the labelled pixels that are predicted as it; {} without the matrix."""
    kept = last.get("confusion")
    if not kept or not np.any(kept["pixels"]):
        return {}
    columns = np.asarray(kept["pixels"], np.float64).sum(0)
    return dict(zip(kept["classes"], (columns / columns.sum()).tolist(), strict=True))


def _named(name: str, palette: Mapping[str, Sequence[int]]) -> str:
    colour = f"rgb{tuple(palette[name])}" if name in palette else "transparent"
    return f'{html.escape(name)}<i style="background:{colour}"></i>'


def _cell(truth: str, call: str, share: float, pixels: float, right: bool) -> str:
    """Shaded by the share; the text is black or white, whichever stands out."""
    colour = (35, 137, 95) if right else (200, 60, 40)
    shade = [round(255 + (part - 255) * share**0.6) for part in colour]
    # Of black and white the better has a contrast of at least 4.58 on any colour (AA asks for 4.5).
    ink = "#fff" if luminance(shade) < 0.179 else "#000"
    text = f"{100 * share:.0f}" if share >= LEAST else ""
    tip = f"{truth} predicted as {call}: {bare(share)} %, {int(pixels)} pixels"
    return (
        f'<td style="background:rgb{tuple(shade)};color:{ink}" title="{html.escape(tip)}">'
        f"{text}</td>"
    )


def luminance(colour: Sequence[int]) -> float:
    """Relative luminance of an sRGB colour 0..255, as WCAG 2 defines it."""
    parts = np.asarray(colour) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


def _told(names: Sequence[str], shares: np.ndarray, sizes: np.ndarray) -> str:
    """The largest confusions of classes that are not tiny, in words."""
    wrong = shares * (1 - np.eye(len(names))) * (sizes >= LEAST)[:, None]
    order = np.argsort(wrong, axis=None)[::-1][:MOST]
    parts = []
    for i, j in zip(*np.unravel_index(order, wrong.shape), strict=True):
        if wrong[i, j] >= 0.05:
            pair = f"<b>{html.escape(names[i])}</b> is predicted as {html.escape(names[j])}"
            parts.append(f"<li>{pair}: {bare(wrong[i, j])} %</li>")
    return f"<ul class=note>{''.join(parts)}</ul>" if parts else ""
