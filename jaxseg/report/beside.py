"""Finished runs that a run can be compared with: on the same target, with the same network.

They are looked for in the folders beside its own: what the source alone comes to in the same number
of steps, what a few labels of the target would have brought, and all of them.
"""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxseg.report.parts import read_json
from jaxseg.storage import logs, run_folder

SOURCE, STATISTICS, FEW, ORACLE = (
    "source only",
    "source only, the target's BatchNorm statistics",
    "a few labels of the target",
    "all labels of the target",
)
ROLES = (SOURCE, STATISTICS, FEW, ORACLE)
MOST = 400  # folders that are looked into


class Found(NamedTuple):
    """Runs of one role and length that differ in the seed only.

    Attributes:
      role: one of ROLES.
      folders: names of the runs' folders.
      steps: that each was trained.
      scores: mIoU of each at its last step.
    """

    role: str
    folders: list[str]
    steps: int
    scores: list[float]

    @property
    def mean(self) -> float:
        """Mean mIoU."""
        return statistics.fmean(self.scores)

    @property
    def deviation(self) -> float | None:
        """Sample standard deviation of mIoU; None for a single run."""
        return statistics.stdev(self.scores) if len(self.scores) > 1 else None


def find(workdir: Path, config: Mapping[str, Any]) -> list[Found]:
    """The runs beside `workdir`, in the order of ROLES, those of the run's own length first.

    Args:
      workdir: of the run itself, which is left out.
      config: of the run.
    """
    workdir = workdir.resolve()
    groups: dict[tuple[str, int], list[tuple[str, float]]] = {}
    for path in _configs(workdir):
        if path.parent == workdir:
            continue
        other = read_json(path)
        if not isinstance(other, dict) or not same_task(config, other):
            continue
        role = role_of(other)
        _, last = logs.best_and_last(path.parent) if role else (None, None)
        steps = (other.get("train") or {}).get("steps")
        # A run that was interrupted has not been as long as it says.
        if last and last.get("miou") is not None and last["step"] == steps:
            name = str(path.parent.relative_to(workdir.parent))
            groups.setdefault((role, steps), []).append((name, last["miou"]))
    own = (config.get("train") or {}).get("steps")
    order = sorted(groups, key=lambda g: (ROLES.index(g[0]), g[1] != own, g[1]))
    return [
        Found(role, [name for name, _ in groups[role, steps]], steps,
              [score for _, score in groups[role, steps]])
        for role, steps in order
    ]  # fmt: skip


def _configs(workdir: Path) -> list[Path]:
    """The config files of runs beside the folder, and of sweeps' members."""
    try:
        folders = sorted(path for path in workdir.parent.iterdir() if path.is_dir())[:MOST]
    except OSError:
        return []
    found = []
    for folder in folders:
        found += [folder / run_folder.CONFIG, *sorted(folder.glob(f"member_*/{run_folder.CONFIG}"))]
    return [path for path in found if path.is_file()]


def same_task(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two runs are scored on the same images and classes with the same network."""
    return _task(one) == _task(other)


def _task(config: Mapping[str, Any]) -> Any:
    data, net = config.get("data") or {}, config.get("net") or {}
    target, score = data.get("target") or {}, config.get("eval") or {}
    return (
        [target.get(key) for key in ("name", "val_split", "size", "options")],
        [data.get("classes"), score.get("classes")],
        [score.get(key) for key in ("flip", "scales", "window", "full_resolution")],
        [net.get(key) for key in ("architecture", "backbone", "norm")],
        [(config.get("init") or {}).get("backbone")],
        (config.get("train") or {}).get("batch"),
    )


def role_of(config: Mapping[str, Any]) -> str:
    """What a run is beside others, one of ROLES; '' if it is none of them."""
    if supervised(config):
        share = (config.get("data") or {}).get("source_share", 0)
        return FEW if share and share < 1 else ORACLE
    if (config.get("method") or {}).get("name") == "source_only":
        own = (config.get("net") or {}).get("statistics") == "source"
        return SOURCE if own else STATISTICS
    return ""


def supervised(config: Mapping[str, Any]) -> bool:
    """Whether the run learns the target's own labels, so that nothing is adapted."""
    data = config.get("data") or {}
    source, target = data.get("source") or {}, data.get("target") or {}
    if (source.get("options") or {}).get("only_labelled"):  # of the target of an own pair
        return True
    same = [source.get(key) == target.get(key) for key in ("name", "options")]
    return bool(source) and all(same)


def equal_source(found: Sequence[Found], steps: int) -> Found | None:
    """The runs on the source alone with that number of steps, if there are any."""
    return next((f for f in found if f.role == SOURCE and f.steps == steps), None)
