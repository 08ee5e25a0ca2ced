"""What share of the target's pixels each class is predicted for: all there is without labels."""

import html
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxseg.evaluation.results import percent
from jaxseg.report import paint
from jaxseg.report.parts import read_json

KEY = "predicted"  # of an evaluation: {class: share of the pixels}


def section(workdir: Path, before: Mapping[str, Any], last: Mapping[str, Any]) -> str:
    """The body of the section as HTML; empty if the shares are not known.

    Args:
      workdir: of the run.
      before, last: the evaluations that are compared.
    """
    if not (new := last.get(KEY)):
        return ""
    index = read_json(workdir / "pictures" / paint.INDEX) or {}
    colours = dict(zip(index.get("classes", ()), index.get("palette", ()), strict=True))
    old = before.get(KEY, {}) if before["step"] != last["step"] else {}
    heads = [f"<th>step {e['step']}, %</th>" for e in ((before, last) if old else (last,))]
    rows = []
    for name, share in new.items():
        colour = f"rgb{tuple(colours[name])}" if name in colours else "transparent"
        cells = f"<td class=faint>{percent(old.get(name), 1, '')}</td>" if old else ""
        rows.append(
            f'<tr><th><i style="background:{colour}"></i>{html.escape(name)}</th>'
            f'<td class=bars><div class="bar now" style="width:{100 * share:.2f}%"></div></td>'
            f"{cells}<td>{percent(share, 1, '')}</td></tr>"
        )
    return (
        "<div class=scroll tabindex=0><table class=classes><thead><tr><th></th><th class=bars></th>"
        f"{''.join(heads)}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
        "<p class=note>Share of the pixels of all validation images that each class is predicted "
        "for.</p>"
    )
