"""Opens a folder of checkpoints: which steps are kept, and the metrics they are chosen by."""

import json
import math
from collections.abc import Sequence
from pathlib import Path

import orbax.checkpoint as ocp

from jaxseg.errors import UserError, on_files
from jaxseg.evaluation.selection import LABELS, Criterion
from jaxseg.storage import run_folder
from jaxseg.storage.checkpoints.choice import Preservation, Rankings
from jaxseg.storage.checkpoints.orbax import quiet_orbax
from jaxseg.storage.checkpoints.tree import unseal

DIGITS = 8  # of a step in the name of its folder


class Manager(ocp.CheckpointManager):
    """Orbax's manager, which takes a step's metrics from the record under the checksum.

    Attributes:
      rankings: name for `restore_model` -> (criterion, first step that it considers).
      damaged_steps: damaged steps that a restore has found.
    """

    rankings: Rankings
    damaged_steps: set[int]

    def metrics(self, step: int) -> dict[str, float] | None:
        """The metrics of a step, None without any.

        Orbax's own file is read only if the record is damaged: then the step may still be the
        choice of a criterion, and reading it tells of the damage.
        """
        try:
            stored = json.loads((self.folder(step) / "config" / "metadata").read_text())
            return json.loads(unseal(stored))["metrics"] or None
        except (OSError, ValueError, KeyError, TypeError):
            pass
        try:
            metrics = super().metrics(step)
        except ValueError:  # neither JSON nor UTF-8
            return None
        return metrics if isinstance(metrics, dict) else None

    def folder(self, step: int) -> Path:
        """The folder of a step."""
        return Path(self.directory) / f"{step:0{DIGITS}d}"


def open_manager(
    folder: str | Path,
    *,
    keep: int = 2,
    criteria: Sequence[Criterion] = (),
    since: int = 0,
    read_only: bool = False,
) -> Manager:
    """Opens a folder of checkpoints; creates it unless `read_only`.

    Args:
      folder: holds one folder per step.
      keep: number of latest steps to keep; the best step by target labels is kept as well.
      criteria: the best step by each of these is kept too; `restore_model` accepts their keys.
      since: the end of the warm-up; `criteria` ignore earlier steps.
      read_only: never writes or deletes; the folder has to hold a checkpoint.

    Returns:
      The Orbax manager. `manager.latest_step()` is None if there is nothing to resume from. Close
      the manager (it waits for the last save), or use it as a context manager.

    Raises:
      UserError: `read_only` and no checkpoint, or a folder that cannot be used.
    """
    folder = Path(folder).absolute()
    quiet_orbax()

    rankings = {"best": (LABELS, 0), **{c.key: (c, since) for c in criteria}}
    options = ocp.CheckpointManagerOptions(
        preservation_policy=None if read_only else Preservation(keep, rankings.values()),
        best_fn=lambda metrics: metrics.get(LABELS.key, -math.inf),  # or it would save no metrics
        best_mode="max",
        step_format_fixed_length=DIGITS,
        read_only=read_only,
    )
    try:
        if read_only and not run_folder.holds_steps(folder):
            raise UserError(
                f"no checkpoint in {folder}: train first (--mode=train) with the same --workdir, "
                "or point --workdir at the folder of a finished run"
            )
        manager = Manager(folder, options=options)
    except OSError as error:
        told = on_files(error, folder) or error
        raise UserError(f"cannot use the checkpoints in {folder}: {told}") from error
    manager.rankings, manager.damaged_steps = rankings, set()
    return manager
