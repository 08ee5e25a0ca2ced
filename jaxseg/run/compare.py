"""Compares finished runs and sweeps on one page: `jaxseg compare DIR...`."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from jaxseg.evaluation.results import percent
from jaxseg.report import compare as report_compare
from jaxseg.report.runs import Group, deviation, mean

PAGE = "comparison.html"


def compare(folders: Sequence[str], output: str = PAGE, console: Console | None = None) -> str:
    """Writes the page and prints its table; returns the path of the page.

    Args:
      folders: of runs and of sweeps.
      output: path of the page.
      console: where to print; standard output by default.

    Raises:
      UserError: a folder without a run that was evaluated.
    """
    path, groups = report_compare.write(folders, output)
    console = console or Console()
    console.print(_table(groups))
    console.print(f"comparison: {path}", markup=False, highlight=False, soft_wrap=True)
    return str(path)


def _table(groups: Sequence[Group]) -> Table:
    table = Table(title="target mIoU %", title_justify="left")
    table.add_column("runs", overflow="fold")
    for heading in ("seeds", "steps", "last step", "best step (target labels)"):
        table.add_column(heading, justify="right")
    for group in groups:
        scores = [
            group.values(lambda run: run.last.get("miou")),
            group.values(lambda run: run.best.get("miou")),
        ]
        steps = ", ".join(dict.fromkeys(str(run.last["step"]) for run in group.runs))
        table.add_row(group.name, str(len(group.runs)), steps, *map(_spread, scores))
    return table


def _spread(values: Sequence[float]) -> str:
    spread = deviation(values)
    text = percent(mean(values), 2, "")
    return text if spread is None else f"{text} ± {percent(spread, 2, '')}"
