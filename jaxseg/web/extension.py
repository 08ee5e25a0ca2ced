"""Training a run for longer than it was planned: a copy of it with a longer schedule."""

import copy
import shutil
from pathlib import Path
from typing import Any

from jaxseg.errors import UserError
from jaxseg.web import runs
from jaxseg.web.places import write_json

_LEFT_OUT = shutil.ignore_patterns("tensorboard", "report.html", "results.*", "selection.json")


def too_short(config: dict[str, Any], steps: int) -> bool:
    """Whether a learning rate would be 0 before `steps`.

    A schedule that is shorter than the training by its warm-up begins after it.
    """
    train = config.get("train") or {}
    planned, warm = train.get("steps", steps), train.get("warmup_steps", 0)

    def ends(player: dict[str, Any]) -> int:
        length = player.get("schedule_steps", steps)
        return length + warm if length == planned - warm else length

    return any(
        player.get("schedule") != "constant" and ends(player) < steps
        for player in (config.get("optim") or {}).values()
    )


def prolonged_copy(folder: Path, new: Path, config: dict[str, Any], steps: int) -> Path:
    """Copies a run with its last checkpoint, and makes all its schedules as much longer.

    Args:
      folder: of the run.
      new: of the copy.
      config: of the run.
      steps: where the copy is to end.

    Returns:
      `new`.

    Raises:
      UserError: `new` exists, or there is no checkpoint to go on from.
    """
    kept = runs.checkpoints(folder)
    if not kept:
        raise UserError(f"{folder} holds no checkpoint to go on from")
    if new.exists():
        raise UserError(f"there is a folder {new.name} already: give another name")
    more = steps - config["train"]["steps"]
    longer = copy.deepcopy(config)
    longer["train"]["steps"] = steps
    for player in longer["optim"].values():
        if player.get("schedule_steps"):
            player["schedule_steps"] += more
    shutil.copytree(folder, new, ignore=_ignored(folder, kept[-1]))
    write_json(new / "config.json", longer)
    return new


def _ignored(folder: Path, last: int):
    """What is not copied: what is made anew at the end, and earlier checkpoints."""

    def ignored(path: str, names: list[str]) -> set[str]:
        left_out = set(_LEFT_OUT(path, names)) if Path(path) == folder else set()
        if Path(path) == folder / "checkpoints":
            left_out |= {n for n in names if n.isdigit() and int(n) != last}
        return left_out

    return ignored
