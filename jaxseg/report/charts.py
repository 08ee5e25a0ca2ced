"""Line charts as inline SVG, and the style sheet of the report (light and dark)."""

import html
import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

WIDTH, HEIGHT = 420, 210
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 8, 24
POINTS = 240  # most points of a line; more could not be seen

Point = tuple[float, float]


def chart(
    title: str,
    lines: Mapping[str, Sequence[Point]],
    span: tuple[float, float],
    *,
    mark: float = 0,
    log: bool = False,
    dots: bool = False,
    ring: float | None = None,
    levels: Sequence[float] = (),
) -> str:
    """Draws lines over steps.

    Args:
      title: above the chart.
      lines: name -> (step, value) in order of steps; values that are not finite are left out.
      span: first and last step of the axis, the same for all charts of a run.
      mark: a step to mark with a dashed line; 0 for none.
      log: logarithmic scale, if all values are positive and span more than a factor of 20.
      dots: draws each point.
      ring: a step whose points get a ring; None for none.
      levels: values to mark with dashed lines; the axis reaches them.

    Returns:
      An HTML figure with inline SVG; empty if there is nothing to draw.
    """
    lines = {name: [p for p in line if math.isfinite(p[1])] for name, line in lines.items()}
    lines = {name: line for name, line in lines.items() if line}
    if not lines:
        return ""
    values = [*levels, *(y for line in lines.values() for _, y in line)]
    axes = _axes(values, span, log)
    parts = [*_grid(axes, span), *_marks(axes, span, mark, levels)]
    names = []
    for number, (name, line) in enumerate(lines.items()):
        colour = f"var(--line{number % 6})"
        parts += _line(axes, name, line, colour, dots, ring)
        names.append(
            f'<span class=chip><i style="background:{colour}"></i>{html.escape(name)} '
            f"<b>{line[-1][1]:.3g}</b></span>"
        )
    return (
        f"<figure><figcaption><b>{html.escape(title)}</b><span class=chips>{''.join(names)}</span>"
        f'</figcaption><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{html.escape(title)}">{"".join(parts)}</svg></figure>'
    )


class _Axes(NamedTuple):
    """Where steps and values lie on the drawing, and the values that have a line and a number."""

    x: Callable[[float], float]
    y: Callable[[float], float]
    ticks: list[float]


def _axes(values: Sequence[float], span: tuple[float, float], log: bool) -> _Axes:
    log = log and min(values) > 0 and max(values) > 20 * min(values)
    ticks = _log_ticks(min(values), max(values)) if log else nice_ticks(min(values), max(values))
    low, high = (min(ticks), max(ticks)) if not log else (min(values), max(values))
    low, high = min(low, *values), max(high, *values)
    first, last = span

    def x(step: float) -> float:
        return LEFT + (step - first) / ((last - first) or 1) * (WIDTH - LEFT - RIGHT)

    def y(value: float) -> float:
        a, b, v = (math.log(x) if log else x for x in (low, high, value))
        return HEIGHT - BOTTOM - (v - a) / ((b - a) or 1) * (HEIGHT - TOP - BOTTOM)

    return _Axes(x, y, ticks)


def _grid(axes: _Axes, span: tuple[float, float]) -> list[str]:
    """The horizontal lines with their values, and the steps below."""
    parts = []
    for tick in axes.ticks:
        y = axes.y(tick)
        parts.append(
            f'<line class=grid x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        )
        parts.append(f'<text x="{LEFT - 6}" y="{y + 3.5:.1f}" text-anchor="end">{tick:.4g}</text>')
    for tick in nice_ticks(*span, 5):
        if span[0] <= tick <= span[1]:
            anchor = "end" if axes.x(tick) > WIDTH - RIGHT - 12 else "middle"
            parts.append(
                f'<text x="{axes.x(tick):.1f}" y="{HEIGHT - 6}" text-anchor="{anchor}">'
                f"{tick:g}</text>"
            )
    return parts


def _marks(
    axes: _Axes, span: tuple[float, float], mark: float, levels: Sequence[float]
) -> list[str]:
    """The dashed lines: down at a step, across at values."""
    parts = []
    if span[0] < mark < span[1]:
        x = axes.x(mark)
        parts.append(
            f'<line class=mark x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'
        )
    parts += [
        f'<line class=mark x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        for y in map(axes.y, levels)
    ]
    parts += [
        f'<text x="{WIDTH - RIGHT}" y="{axes.y(level) - 4:.1f}" text-anchor="end">{level:g}</text>'
        for level in levels
        if level not in axes.ticks
    ]
    return parts


def _line(
    axes: _Axes, name: str, line: Sequence[Point], colour: str, dots: bool, ring: float | None
) -> list[str]:
    """One line with its tooltip, its dots and its ring."""
    points = [(axes.x(x), axes.y(y)) for x, y in thin(line, POINTS)]
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    tip = f"<title>{html.escape(name)}: {line[-1][1]:.4g} at step {line[-1][0]:g}</title>"
    parts = [f'<path d="{path}" style="stroke:{colour}">{tip}</path>']
    if dots or len(points) == 1:
        parts += [
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" style="fill:{colour}"/>' for x, y in points
        ]
    parts += [
        f'<circle class=ring cx="{axes.x(x):.1f}" cy="{axes.y(y):.1f}" r="7" '
        f'style="stroke:{colour}"/>'
        for x, y in line
        if x == ring
    ]
    return parts


def nice_ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Round numbers 1, 2, 2.5 or 5 times a power of ten apart that enclose low..high."""
    if high - low <= abs(high) * 1e-9:
        low, high = low - (abs(low) * 0.1 or 1), high + (abs(high) * 0.1 or 1)
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * (1 - 1e-9))
    begin, end = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(begin, end + 1)]


def thin(line: Sequence[Point], points: int) -> list[Point]:
    """At most `points` points: means of equal runs, the last point always kept as it is."""
    if len(line) <= points:
        return list(line)
    size = math.ceil((len(line) - 1) / (points - 1))
    runs = [line[i : min(i + size, len(line) - 1)] for i in range(0, len(line) - 1, size)]
    means = [(sum(x for x, _ in run) / len(run), sum(y for _, y in run) / len(run)) for run in runs]
    return [*means, line[-1]]


def _log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten within low..high."""
    powers = range(math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9) + 1)
    return [10.0**p for p in powers] or [low, high]


STYLE = """
:root{color-scheme:light dark;--paper:#fbfbfa;--card:#fff;--ink:#24262b;--faint:#767a83;
--rule:#e4e5e8;
--accent:#1f6feb;--old:#b9c0cc;--up:#1a7f4b;--down:#c23b3b;
--line0:#1f6feb;--line1:#d9701f;--line2:#2a9d6f;--line3:#8957e5;--line4:#c2417c;--line5:#7d8590}
@media(prefers-color-scheme:dark){:root{--paper:#15171a;--card:#1d2024;--ink:#e4e6ea;--faint:#9299a4;
--rule:#30343a;--accent:#58a1ff;--old:#565e6b;--up:#4cc38a;--down:#f07178;
--line0:#58a1ff;--line1:#f0964a;--line2:#4cc38a;--line3:#b18cff;--line4:#ee7fb0;--line5:#9aa3af}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",sans-serif}
main{max-width:1320px;margin:0 auto;padding:28px 24px 48px}
h1{font-size:26px;margin:0;letter-spacing:-.01em}h2{font-size:18px;margin:36px 0 12px}
.note{color:var(--faint);margin:4px 0 0;font-size:14px}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(190px,1fr));gap:12px;margin-top:20px}
.tile{background:var(--card);border:1px solid var(--rule);border-radius:10px;padding:12px 16px}
.tile b{display:block;font-size:30px;line-height:1.2;font-variant-numeric:tabular-nums}
.tile small{font-size:17px;font-weight:500;color:var(--faint)}
.tile span{display:block}.tile em{display:block;font-style:normal;font-size:13px;
color:var(--faint);min-height:1.5em}
.tile.main{border-color:var(--accent);box-shadow:inset 0 0 0 1px var(--accent)}
.tile.main b{color:var(--accent)}
.scroll{overflow-x:auto}
.chips{font-size:13px;color:var(--faint);font-weight:400}
.chip{display:inline-flex;align-items:center;gap:5px;margin:0 12px 3px 0;white-space:nowrap}
.chip b{color:var(--ink);font-variant-numeric:tabular-nums}
.chip i{width:12px;height:12px;border-radius:3px;flex:none}
.chip i.ramp{width:90px}.chip i.old{background:var(--old)}.chip i.now{background:var(--accent)}
.pictures{display:grid;grid-template-columns:repeat(var(--columns),minmax(150px,1fr));gap:6px;margin-top:8px}
.pictures img{width:100%;display:block;border-radius:4px}
.head{font-size:13px;color:var(--faint);align-self:end}
.head.row{grid-column:1/-1;color:var(--ink);margin-top:2px}
.blocks>*{min-width:0}.blocks{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,560px),1fr));
gap:18px 28px;margin-top:8px}
.blocks .pictures{grid-template-columns:repeat(var(--columns),minmax(90px,1fr));gap:4px}
.times .pictures{grid-template-columns:repeat(var(--columns),minmax(150px,280px))}
h3{font-size:15px;margin:22px 0 0}
.warnings{margin:0;padding:10px 16px 10px 34px;background:var(--card);
border:1px solid var(--down);border-radius:10px}
.classes.depth{width:auto;margin-bottom:6px}
.classes.depth th:first-child{width:auto;padding-right:24px}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}
.classes{width:100%}
.classes td,.classes th{padding:3px 10px;text-align:right;font-weight:400;white-space:nowrap;
border-bottom:1px solid var(--rule)}
.classes thead th{font-size:13px;color:var(--faint)}
.classes th:first-child{text-align:left;padding-left:0;width:1%}
.classes thead th.chips{text-align:left}
.classes th i{display:inline-block;width:12px;height:12px;border-radius:3px;margin-right:8px;
vertical-align:-1px}
.classes .bars{width:60%;padding:5px 10px}
.bar{height:7px;border-radius:0 3px 3px 0;margin:1px 0}.bar.old{background:var(--old)}
.bar.now{background:var(--accent)}
.choices td,.choices thead th{padding-left:24px}.charts.choices{margin-top:16px}
.mean th,.mean td{font-weight:650!important;border-bottom:0!important;
border-top:2px solid var(--rule)}
.faint{color:var(--faint)}.up{color:var(--up)}.down{color:var(--down)}
.charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,310px),1fr));gap:12px}
figure{margin:0;background:var(--card);border:1px solid var(--rule);border-radius:10px;
padding:12px 14px 8px}
figcaption b{font-weight:600}figcaption .chips{display:block;margin-top:2px;min-height:22px}
svg{width:100%;height:auto;display:block}
svg text{font-size:11px;fill:var(--faint);font-variant-numeric:tabular-nums}
svg path{fill:none;stroke-width:1.8;stroke-linejoin:round}
svg .ring{fill:none;stroke-width:1.8}
svg .grid{stroke:var(--rule)}svg .mark{stroke:var(--faint);stroke-dasharray:4 4}
details{margin-top:36px}summary{cursor:pointer;font-size:18px;font-weight:600}
.config{margin-top:10px;font-size:13px}
.config td,.config th{text-align:left;font-weight:400;padding:2px 18px 2px 0;vertical-align:top}
.config td{font-family:ui-monospace,Menlo,Consolas,monospace;overflow-wrap:anywhere}
.config th{color:var(--faint)}
@media print{main{max-width:none;padding:0}section{break-inside:avoid}}
""".strip().replace("\n", "")
