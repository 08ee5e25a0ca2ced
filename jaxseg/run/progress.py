"""Progress of training in the console: a live bar on a terminal, plain lines elsewhere."""

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bar
from rich.table import Column

WINDOW = 20  # updates that the time left is estimated from
SPEED = {"images_per_second": "images/s", "input_wait": "s/step input wait"}
FIRST = ("loss", "lr", *SPEED.values())  # shown first, because narrow terminals cut the rest off


class Progress:
    """Shows the progress of a run; a context manager. See `console`."""

    def __init__(self, steps: int, enabled: bool, console: Console) -> None:
        self._steps, self._enabled, self._console = steps, enabled, console
        self._recent: list[tuple[float, int]] = []
        self._bar = None
        if enabled and console.is_terminal:
            self._bar = Bar(
                BarColumn(bar_width=20),
                MofNCompleteColumn(),
                TextColumn("{task.fields[left]}"),
                TextColumn(
                    "{task.fields[text]}",
                    table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1),
                ),
                console=console,
                expand=True,
                refresh_per_second=4,
            )
            self._task = self._bar.add_task("", total=steps, left="", text="starting")

    def update(self, step: int, values: Mapping[str, Any]) -> None:
        """Shows that a step is done; without a terminal, prints one line.

        Args:
          step: steps done so far.
          values: scalars to show, grouped by the part of their names before the last "/".
        """
        self._recent = [*self._recent[-WINDOW:], (time.perf_counter(), step)]
        left, text = self._time_left(step), format_values(values)
        if self._bar:
            self._bar.update(self._task, completed=step, left=left, text=escape(text))
        elif self._enabled:
            parts = (f"step {step}/{self._steps}", left, text)
            self._print("  ".join(part for part in parts if part))

    def log(self, message: str) -> None:
        """Prints a line, above the bar if there is one."""
        if self._enabled:
            self._print(message)

    def __enter__(self) -> "Progress":
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar:
            self._bar.stop()

    def _print(self, message: str) -> None:
        # Never wrapped, so that each message stays one line in a log file.
        self._console.print(message, markup=False, highlight=False, soft_wrap=True)
        self._console.file.flush()

    def _time_left(self, step: int) -> str:
        """Estimates the remaining time from the last updates, which include evaluations but not the
        first compilation."""
        (before, first), (now, last) = self._recent[0], self._recent[-1]
        if last <= first:
            return ""
        return f"ETA {format_seconds((self._steps - step) * (now - before) / (last - first))}"


def console(steps: int, *, enabled: bool = True, output: Console | None = None) -> Progress:
    """Opens the progress display of a run; use it in a `with` statement.

    Args:
      steps: the last step of the run.
      enabled: False shows nothing (in all processes but the first).
      output: where to print; standard output by default.
    """
    return Progress(steps, enabled, output or Console())


def format_values(values: Mapping[str, Any]) -> str:
    """Formats scalars compactly.

    Args:
      values: {"loss/gen": 0.41234, "loss/disc": 0.69, "lr/gen": 2.5e-4, "images_per_second": 8.2}.

    Returns:
      "loss gen 0.412 disc 0.69  lr gen 0.00025  8.2 images/s", then all other values.
    """
    groups: dict[str, list[str]] = {}
    for name, value in values.items():
        group, _, rest = name.rpartition("/")
        unit = SPEED.get(name)
        text = f"{float(value):.3g} {unit}" if unit else f"{rest} {float(value):.3g}"
        if name != "input_wait" or value >= 0.005:
            groups.setdefault(unit or group, []).append(text)
    ordered = sorted(groups, key=lambda g: FIRST.index(g) if g in FIRST else len(FIRST))
    return "  ".join(
        " ".join(groups[group] if group in SPEED.values() else [group, *groups[group]]).strip()
        for group in ordered
    )


def format_seconds(seconds: float) -> str:
    """3725 -> '1:02:05', 65 -> '1:05'."""
    minutes, seconds = divmod(int(round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
