"""Reads finished runs for a comparison: single runs and the members of sweeps, grouped by settings.

Runs whose settings differ in the seed only are one group; its scores are means over them.
"""

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from flax.traverse_util import flatten_dict

from jaxseg.errors import UserError
from jaxseg.report.parts import read_json
from jaxseg.report.provenance import KEY
from jaxseg.storage import logs, run_folder

# Settings that do not change what is learnt.
ASIDE = (
    *("seed", "name", "sweep", "compile_cache", KEY),
    *("data.root", "data.records", "data.threads", "init.excused"),
    *("train.log_every", "train.save_every", "train.keep", "train.keep_criteria"),
    *("train.pictures", "train.devices", "train.eval_every"),
)


class Run(NamedTuple):
    """A finished run, or one that has been evaluated at least once.

    Attributes:
      folder: where it is.
      config: its settings, as in config.json.
      evaluations: in order; at least one.
      train: the logged lines of its training.
    """

    folder: Path
    config: Mapping[str, Any]
    evaluations: list[dict[str, Any]]
    train: list[dict[str, Any]]

    @property
    def last(self) -> dict[str, Any]:
        """Its last evaluation."""
        return self.evaluations[-1]

    @property
    def best(self) -> dict[str, Any]:
        """The evaluation with the highest mIoU, or the last without target labels."""
        scored = [e for e in self.evaluations if e.get("miou") is not None]
        return max(scored, key=lambda e: (e["miou"], e["step"])) if scored else self.last


class Group(NamedTuple):
    """Runs that differ in the seed only.

    Attributes:
      name: the config's name, and what distinguishes the group from others of that name.
      runs: at least one.
      own: setting -> value, of those that differ between the groups.
    """

    name: str
    runs: list[Run]
    own: dict[str, Any]

    def values(self, of: Callable[[Run], float | None]) -> list[float]:
        """A number of each run, where it is known."""
        return [value for run in self.runs if (value := of(run)) is not None]


def read(folders: Iterable[str | Path]) -> list[Run]:
    """The runs in folders of runs and of sweeps.

    Raises:
      UserError: a folder that holds neither, or no run that was evaluated.
    """
    found, seen = [], set()
    for folder in map(Path, folders):
        folder = folder.expanduser()
        if not folder.is_dir():
            raise UserError(f"{folder}: there is no such folder; give folders of runs")
        here = [folder] if (folder / run_folder.CONFIG).is_file() else []
        here += sorted(path.parent for path in folder.glob(f"member_*/{run_folder.CONFIG}"))
        if not here:
            raise UserError(
                f"{folder} holds no run ({run_folder.CONFIG}) and no sweep (member_00, ...)"
            )
        runs = [_run(path) for path in here if path.resolve() not in seen]
        seen |= {path.resolve() for path in here}
        found += [run for run in runs if run]
        if runs and not any(runs):
            raise UserError(f"{folder} holds no evaluation yet")
    if not found:
        raise UserError("no runs to compare: give folders of runs, as runs/a runs/b")
    return found


def _run(folder: Path) -> Run | None:
    lines = logs.read(folder)
    evaluations = logs.evaluations(folder)
    if not evaluations:
        return None
    train = [line for line in lines if line.get("kind") == "train"]
    return Run(folder, read_json(folder / run_folder.CONFIG) or {}, evaluations, train)


def grouped(runs: Sequence[Run]) -> list[Group]:
    """The runs in groups that differ in the seed only, in the order of their first runs."""
    flat = [_settings(run.config) for run in runs]
    names = dict.fromkeys(name for each in flat for name in each)
    differing = [name for name in names if len({repr(each.get(name)) for each in flat}) > 1]
    groups: dict[str, list[int]] = {}
    for i, each in enumerate(flat):
        key = repr([(name, each.get(name)) for name in differing])
        groups.setdefault(key, []).append(i)
    made = [
        Group(
            _title(runs[members[0]]),
            [runs[i] for i in members],
            {name: flat[members[0]].get(name) for name in differing},
        )
        for members in groups.values()
    ]
    return _told_apart(made)


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    flat = flatten_dict(dict(config), sep=".")
    return {
        name: value
        for name, value in flat.items()
        if not any(name == aside or name.startswith(aside + ".") for aside in ASIDE)
    }


def _title(run: Run) -> str:
    return str(run.config.get("name") or run.folder.resolve().name)


def _told_apart(groups: Sequence[Group]) -> list[Group]:
    """Groups of the same name get the settings in which they differ, or their folder, added."""
    named = []
    for group in groups:
        others = [other for other in groups if other is not group and other.name == group.name]
        own = {
            name: value
            for name, value in group.own.items()
            if any(repr(other.own.get(name)) != repr(value) for other in others)
            and not (name.endswith(".schedule_steps") and value == group.own.get("train.steps"))
        }
        text = ", ".join(f"{name.rpartition('.')[2]}={value}" for name, value in own.items())
        if len(own) > 3 or len(text) > 60:
            text = str(group.runs[0].folder.name)
        named.append(group._replace(name=f"{group.name} ({text})" if text else group.name))
    return named


def mean(values: Sequence[float]) -> float | None:
    """The mean; None of nothing."""
    return statistics.fmean(values) if values else None


def deviation(values: Sequence[float]) -> float | None:
    """The sample standard deviation; None of fewer than two values."""
    return statistics.stdev(values) if len(values) > 1 else None


def over_steps(group: Group, of: Callable[[Mapping[str, Any]], float | None], train: bool = False):
    """(step, mean over the runs) at the steps that all runs of a group have.

    Args:
      group: of runs.
      of: the number of a logged line.
      train: the lines of training instead of those of evaluations.
    """
    lines = []
    for run in group.runs:
        logged = run.train if train else run.evaluations
        lines.append({line["step"]: of(line) for line in logged if of(line) is not None})
    steps = sorted(set.intersection(*(set(line) for line in lines))) if lines else []
    return [(step, statistics.fmean(line[step] for line in lines)) for step in steps]
