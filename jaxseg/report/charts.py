"""Line charts as inline SVG; `script` shows their values under the pointer."""

import html
import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from jaxseg.report import style

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
    log: float = 0,
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
      log: logarithmic scale if all values are positive and span more than this factor; 0 for never.
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
        colour = f"var(--line{number % style.LINES})"
        parts += _line(axes, name, line, colour, dots, ring)
        names.append(
            f'<span class=chip><i style="background:{colour}"></i>{html.escape(name)} '
            f"<b>{line[-1][1]:.3g}</b></span>"
        )
    return (
        f"<figure><figcaption><b>{html.escape(title)}</b><span class=chips>{''.join(names)}</span>"
        f'</figcaption><svg data-chart viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{html.escape(title)}">{"".join(parts)}</svg></figure>'
    )


class _Axes(NamedTuple):
    """Where steps and values lie on the drawing, and the values that have a line and a number."""

    x: Callable[[float], float]
    y: Callable[[float], float]
    ticks: list[float]


def _axes(values: Sequence[float], span: tuple[float, float], factor: float) -> _Axes:
    log = bool(factor) and min(values) > 0 and max(values) > factor * min(values)
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
        parts.append(
            f'<text x="{LEFT - 6}" y="{y + 3.5:.1f}" text-anchor="end">{_short(tick)}</text>'
        )
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
    shown = thin(line, POINTS)
    points = [(axes.x(x), axes.y(y)) for x, y in shown]
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    values = " ".join(f"{round(x, 1):g},{y:.4g}" for x, y in shown)
    named = f"{html.escape(name)}: " if name else ""
    tip = f"<title>{named}{line[-1][1]:.4g} at step {line[-1][0]:g}</title>"
    parts = [
        f'<path d="{path}" data-name="{html.escape(name)}" data-values="{values}" '
        f'style="stroke:{colour}">{tip}</path>'
    ]
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


def _short(value: float) -> str:
    """A value that fits beside its tick, as '0.002' or '2.4e-4'."""
    text = f"{value:.4g}"
    return text if len(text) < 8 else f"{value:.1e}".replace("e-0", "e-").replace("e+0", "e")


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
    """Powers of ten within low..high; with 2 and 5 times them, or all of their digits, where there
    are too few."""
    first, last = math.floor(math.log10(low) - 1e-9), math.ceil(math.log10(high) + 1e-9)
    for digits in ((1,), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 6, 8)):
        ticks = [digit * 10.0**power for power in range(first, last + 1) for digit in digits]
        ticks = [t for t in ticks if low * (1 - 1e-9) <= t <= high * (1 + 1e-9)]
        if len(ticks) > 2:
            return ticks
    return ticks or [low, high]
