"""Ends a run at its first step that is not finite, with a folder that repeats this step.

`engine/guard` keeps the state as it was before that step. Here the host notices it, late by a few
steps where waiting for each step would cost time: what is computed meanwhile moves nothing.
"""

import json
import os
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import jax
import numpy as np

from jaxseg.data import pipeline
from jaxseg.engine import guard, processes
from jaxseg.errors import UserError
from jaxseg.experiment import batches
from jaxseg.run import sweep
from jaxseg.run.trained import Trained, open_manager
from jaxseg.storage import logs, results, run_folder
from jaxseg.storage.checkpoints import checkpoint, tree

FILE = "bad_step.json"
LATE = 2  # steps; a device that computes one of them has the next in its queue
NAMED = 12  # terms in a message; the file has all


class Pending:
    """The latest steps, of which the host does not know yet whether they were finite.

    Args:
      skips: updates that may be passed over, `train.skip_bad_steps`.
      late: how many steps may be unknown.
    """

    def __init__(self, skips: int, late: int = LATE) -> None:
        self._skips, self._late = skips, late
        self._steps: list[tuple[int, Any]] = []

    def add(self, step: int, metrics: Any) -> None:
        """Takes in the metrics of a step, which are on the devices."""
        self._steps.append((step, metrics))

    def found(self, *, wait: bool) -> tuple[int, int, Any] | None:
        """Looks at the oldest steps; with `wait` at all of them, which waits for the devices.

        Returns:
          (step, member, metrics) of the first update too many that was not finite; else None. All
          processes look after the same steps, so they find the same.
        """
        while len(self._steps) > (0 if wait else self._late):
            step, metrics = self._steps.pop(0)
            for member, count in enumerate(guard.skipped(metrics)):
                if count > self._skips:
                    return step, member, metrics
        return None


def allowed(states: Sequence[Any], skips: int) -> list[Any]:
    """The states a run begins with: those that it resumes may have passed over more updates than
    are allowed now.
    """
    return [s._replace(skipped=np.minimum(np.int32(s.skipped), np.int32(skips))) for s in states]


def make_stop(trained: Trained, log: Sequence[logs.Log]) -> Callable[..., NoReturn]:
    """Makes (state, step, member, metrics) -> never returns: dumps the step and raises UserError.

    The folder `bad_step_<step>` in the run's folder is itself one of a run: its only checkpoint is
    the state before the step, so that training on from it repeats the step. bad_step.json there
    has the step's metrics and the ids of its images.
    """

    def stop(state: Any, step: int, member: int, metrics: Any) -> NoReturn:
        values = jax.device_get(sweep.one(metrics, member))
        names = guard.wrong(values)
        before = jax.device_get(sweep.one(state, member))
        who = f"{trained.members[member].name}: " if trained.swept else ""
        text = f"{who}{_listed(names)} not finite"
        log[member].warning(step, text)
        if path := tree.not_finite(tree.by_path({"params": before.params, "opt": before.opt})[0]):
            raise UserError(
                f"step {step}: {text}, because {path} was not before: the initial weights are not "
                "finite, or the optimiser made that of finite gradients (its rate, eps, settings)"
            )
        folder = os.path.join(trained.folders[member], f"bad_step_{step:08d}")
        images = _images(trained, member, step)
        own = trained.members[member].config
        before = before._replace(skipped=np.int32(own.train.skip_bad_steps))
        with open_manager(own, folder, trained.last_warm) as manager:
            checkpoint.save(manager, before, own.to_dict())
        if jax.process_index() == 0:
            run_folder.write_config(own, folder)
            listed = {name: str(value) for name, value in guard.plain(values).items()}
            results.write_json(
                os.path.join(folder, FILE),
                {"step": step, "not_finite": names, "metrics": listed, "images": images},
            )
        processes.gather("dump", "written")  # a process that ends, ends the others
        raise UserError(
            f"step {step}: {text}; nothing of this step was kept. --workdir={folder} repeats it, "
            f"{FILE} there names its images. Lower the learning rates, set config.optim.*.clip, or "
            "pass over such updates with --config.train.skip_bad_steps=N"
        )

    return stop


def warn(log: logs.Log, step: int, metrics: Sequence[dict[str, Any]], skips: int) -> list[dict]:
    """Logs the updates that were passed over; returns the metrics of the others, or all if there
    is no other.

    Args:
      log: of the member.
      step: the last one of `metrics`.
      metrics: of consecutive steps, on the host.
      skips: how many are allowed.
    """
    sound = []
    for number, values in enumerate(metrics, step - len(metrics) + 1):
        if names := guard.wrong(values):
            count = int(values[guard.SKIPPED])
            text = f"{_listed(names)} not finite: this update was passed over"
            log.warning(number, f"{text} ({count} of {skips} allowed)")
        else:
            sound.append(values)
    return [guard.plain(values) for values in sound or metrics]


def _images(trained: Trained, member: int, step: int) -> dict[str, list[str]]:
    """{'source': ids, 'target': ids} of the images of a step, those of all processes."""
    config, reads = trained.members[member].config, trained.method.reads
    sides = [side for side in pipeline.SIDES if pipeline.keys_of(side, reads)]
    keys = {side: pipeline.batch_key(side, "id") for side in sides}
    stream = batches.train_batches(config, (*reads, *keys.values()), step - 1)
    try:
        batch = next(stream)
    finally:
        stream.close()
    own = json.dumps({side: [str(each) for each in batch[key]] for side, key in keys.items()})
    shares = [json.loads(share) for share in processes.gather("images", own)]
    return {side: [each for share in shares for each in share[side]] for side in shares[0]}


def _listed(names: Sequence[str]) -> str:
    """'loss/gen, loss/disc are'"""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more + (" is" if len(names) == 1 else " are")
