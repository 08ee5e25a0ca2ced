"""`index.html` of a prediction: every picture on one page, for a browser without a network."""

import html
import urllib.parse
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxseg.data.labels import LabelSet
from jaxseg.evaluation.results import percent
from jaxseg.report import paint
from jaxseg.report.parts import ramp_chip

KINDS = {"overlay": "overlay", "color": "classes", "entropy": "entropy"}
LISTED = 5  # classes named below an image

_STYLE = """
:root{color-scheme:light dark;--line:#8885;--faint:#666;--page:#fff}
@media (prefers-color-scheme:dark){:root{--faint:#aaa;--page:#121212}}
html{background:var(--page)}
body{overflow-wrap:anywhere;font:16px/1.45 system-ui,sans-serif;
margin:1.5rem auto;max-width:110rem;padding:0 1rem}
main{display:grid;gap:1.2rem;grid-template-columns:repeat(auto-fill,minmax(min(24rem,100%),1fr))}
figure{margin:0;border:1px solid var(--line);border-radius:.5rem;padding:.6rem;min-width:0}
img,video{width:100%;height:auto;display:block;border-radius:.25rem}
.small{display:grid;grid-template-columns:1fr 1fr;gap:.4rem;margin-top:.4rem}
figcaption{margin-bottom:.4rem}
.faint{color:var(--faint);font-size:.9rem}
.chip{display:inline-block;margin:.1rem .8rem .1rem 0;white-space:nowrap}
.chip i{display:inline-block;width:.9em;height:.9em;border:1px solid var(--line);
margin-right:.35em;vertical-align:-.1em}
.chip .ramp{width:6em}
ul{margin:.3rem 0}
"""


class Shown(NamedTuple):
    """A predicted image or video.

    Attributes:
      name: path of its outputs in the folder, without suffixes.
      entropy: mean over its pixels, 0..1.
      shares: share of each class's pixels.
      frames: number of frames of a video, 0 for an image.
    """

    name: str
    entropy: float
    shares: tuple[float, ...]
    frames: int = 0


def write(
    folder: str | Path, shown: Sequence[Shown], label_set: LabelSet, broken: Sequence[str] = ()
) -> Path:
    """Writes <folder>/index.html, the most uncertain pictures last.

    Args:
      folder: that holds <name>_overlay.png, _color.png and _entropy.png of each image.
      shown: the images.
      label_set: names and colours of the classes.
      broken: messages about files that could not be segmented.
    """
    shares = np.mean([each.shares for each in shown], 0) if shown else ()
    chips = "".join(
        f'<span class=chip><i style="background:rgb{tuple(colour)}"></i>{html.escape(name)} '
        f"<span class=faint>{percent(float(share), 1)}</span></span>"
        for name, colour, share in zip(label_set.classes, label_set.palette, shares, strict=False)
    )
    chips += ramp_chip(paint.heat_palette()[::51], "certain", "uncertain")
    listed = "".join(f"<li>{html.escape(line)}</li>" for line in broken)
    failed = f"<h2>Could not be segmented</h2><ul>{listed}</ul>" if broken else ""
    cards = "".join(_card(each, label_set) for each in sorted(shown, key=lambda s: s.entropy))
    page = (
        '<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content="width='
        f'device-width"><title>Predictions</title><style>{_STYLE}</style><h1>Predictions</h1>'
        f"<p>{len(shown)} pictures, the most uncertain last. A click enlarges one. Shares are of "
        f"all pixels.</p><p>{chips}</p>{failed}<main>{cards}</main></html>\n"
    )
    path = Path(folder, "index.html")
    path.write_text(page, encoding="utf-8")
    return path


def _card(each: Shown, label_set: LabelSet) -> str:
    order = np.argsort(each.shares)[::-1][:LISTED]
    named = ", ".join(
        f"{html.escape(label_set.classes[i])} {percent(each.shares[i], 0)}"
        for i in order
        if each.shares[i] >= 0.005
    )
    title = f"<figcaption><b>{html.escape(each.name)}</b></figcaption>"
    if each.frames:
        source = urllib.parse.quote(f"{each.name}_overlay.mp4")
        pictures = f'<video controls preload=metadata src="{source}"></video>'
        named = f"{each.frames} frames; {named}"
    else:
        large, *small = (_picture(each.name, kind, word) for kind, word in KINDS.items())
        pictures = f"{large}<div class=small>{''.join(small)}</div>"
    return (
        f"<figure>{title}{pictures}<div class=faint>mean entropy {percent(each.entropy, 1)}; "
        f"{named}</div></figure>"
    )


def _picture(name: str, kind: str, word: str) -> str:
    source = urllib.parse.quote(f"{name}_{kind}.png")
    described = html.escape(f"{word} of {name}", quote=True)
    return f'<a href="{source}"><img loading=lazy alt="{described}" src="{source}"></a>'
