"""Pieces of HTML that the report's sections share, and reading the files of a run."""

import base64
import functools
import html
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxseg.evaluation.results import percent

# For places where the page itself writes the percent sign, such as the head of a table.
bare = functools.partial(percent, digits=1, unit="")


def section(title: str, body: str) -> str:
    """A section under its title; nothing if its body is empty."""
    return f"<section><h2>{title}</h2>{body}</section>" if body else ""


def image(path: Path, description: str) -> str:
    """The picture itself within the page; an empty cell if there is no such file."""
    if not path.exists():
        return "<span></span>"
    kind = "jpeg" if path.suffix == ".jpg" else "png"
    data = base64.b64encode(path.read_bytes()).decode()
    return f'<img alt="{html.escape(description)}" src="data:image/{kind};base64,{data}">'


class Layer(NamedTuple):
    """A picture that can be laid over others of the same image: its name, and its file, or the
    bytes of a PNG or JPEG."""

    name: str
    path: Path | None
    data: bytes | None = None

    @property
    def there(self) -> bool:
        """Whether there is anything to show."""
        return self.data is not None or (self.path is not None and self.path.exists())


def cell(title: str, layers: Sequence[Layer], note: str = "") -> str:
    """A picture under its title that opens large; of two layers a pair with a line between them.

    Args:
      title: below the picture.
      layers: one, or before and after; those without a file are left out.
      note: beside the title.

    Returns:
      HTML; empty without any layer.
    """
    layers = [layer for layer in layers if layer.there]
    if not layers:
        return ""
    images = "".join(map(_layer, layers))
    pair = " pair" if len(layers) > 1 else ""
    return (
        f"<button class=cell type=button><span class='frame{pair}'>{images}</span>"
        f"<span class=cap><span>{html.escape(title)}</span><span>{html.escape(note)}</span></span>"
        "</button>"
    )


def _layer(layer: Layer) -> str:
    data = layer.data if layer.data is not None else layer.path.read_bytes()
    photo = data.startswith(b"\xff\xd8")  # a JPEG
    text, kind = html.escape(layer.name), "jpeg" if photo else "png"
    smooth = "" if photo or "entropy" in layer.name else " class=map"
    return (
        f'<img{smooth} alt="{text}" data-layer="{text}" decoding="async" '
        f'src="data:image/{kind};base64,{base64.b64encode(data).decode()}">'
    )


def shot(name: str, cells: Sequence[str], note: str = "") -> str:
    """All pictures of one image, under its name; they can be laid over each other."""
    escaped = html.escape(name)
    told = f" <span class=faint>{html.escape(note)}</span>" if note else ""
    return (
        f'<div class=shot data-name="{escaped}"><div class=name>{escaped}{told}</div>'
        f"<div class=cells>{''.join(cells)}</div></div>"
    )


def cut_control(left: str, right: str) -> str:
    """The slider that moves the line between the two pictures of every pair in the section."""
    return (
        f"<label class=cut><span>◂ {left}</span>"
        '<input type="range" min="0" max="100" value="50" aria-label="line between the two">'
        f"<span>{right} ▸</span></label>"
    )


def pictures(cells: Sequence[str], columns: int) -> str:
    """Cells row by row in a grid that scrolls where the page is too narrow."""
    return (
        f'<div class=scroll tabindex=0><div class=pictures style="--columns:{columns}">'
        f"{''.join(cells)}</div></div>"
    )


def head(text: str) -> str:
    """The heading of a column of pictures."""
    return f"<span class=head>{text}</span>"


def class_chips(index: Mapping[str, Any]) -> str:
    """Names and colours of the classes, from the index of saved pictures."""
    return "".join(
        f'<span class=chip><i style="background:rgb{tuple(colour)}"></i>{html.escape(name)}</span>'
        for name, colour in zip(index["classes"], index["palette"], strict=True)
    )


def ramp_chip(palette, low: str, high: str) -> str:
    """A strip of colours, uint8 [n,3], between the words for its ends."""
    ramp = ",".join(f"rgb{tuple(map(int, colour))}" for colour in palette)
    return (
        f'<span class=chip>{low} <i class=ramp style="background:linear-gradient('
        f'90deg,{ramp})"></i> {high}</span>'
    )


def change(old: float | None, new: float | None, digits: int = 1, better: int = 1) -> str:
    """A cell with the change, green where it is for the better; `better` is 1 or -1."""
    if old is None or new is None:
        return "<td class=faint>–</td>"
    by = round(new - old, digits)
    kind = "up" if by * better > 0 else "down" if by * better < 0 else "faint"
    return f"<td class={kind}>{by:+.{digits}f}</td>"


def points(old: float | None, new: float | None) -> str:
    """A cell with the change of a fraction in percentage points."""
    return change(*(None if value is None else 100 * value for value in (old, new)))


def read_json(path: Path) -> Any:
    """The content of a JSON file; None if it is missing or incomplete."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError):
        return None
