"""Decides which checkpoints of a run are kept, and which one a criterion chooses.

Orbax's own policy for the best step requires every step with metrics to have the metric that it
ranks by. Here a snapshot may lack it: the first one has no agreement with an earlier one, and
without labels there is no mIoU. Orbax's policy cannot ignore the warm-up either.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jaxseg.errors import UserError
from jaxseg.evaluation.selection import Criterion

Rankings = Mapping[str, tuple[Criterion, int]]  # name -> (criterion, first step considered)
Metrics = Mapping[int, Mapping[str, float] | None]  # by step; None if it was not evaluated


def ranked(metrics: Metrics, criterion: Criterion, since: int = 0) -> list[int]:
    """The steps that have a criterion, best first; among equal steps the later is first.

    Args:
      metrics: of each step, as saved with it.
      criterion: names the metric, and whether higher is better.
      since: earlier steps are ignored.
    """
    scores = []
    for step, values in metrics.items():
        value = (values or {}).get(criterion.key)
        if step >= since and value is not None and math.isfinite(value):
            scores.append((value if criterion.higher else -value, step))
    return [step for _, step in sorted(scores, reverse=True)]


def standing_for(
    wanted: str | int,
    metrics: Metrics,
    rankings: Rankings,
    folder: str,
    announce: Callable[[str], None],
) -> list[int]:
    """The candidate steps for a wanted one, in the order in which to try them.

    Args:
      wanted: a step, 'last', or a name in `rankings`. 'best' is always allowed; without evaluated
        steps it falls back to the others.
      metrics: of each existing step, at least one.
      rankings: the criteria by name.
      folder: of the checkpoints, for messages.
      announce: called with one line if 'best' finds no evaluated step.

    Raises:
      UserError: no such step, or none that has the criterion.
    """
    steps = sorted(metrics, reverse=True)
    listed = ", ".join(map(str, reversed(steps)))
    if wanted == "last":
        return steps
    if wanted in rankings:
        criterion, since = rankings[wanted]
        best = ranked(metrics, criterion, since)
        if wanted == "best":
            if not best:
                unlabelled = [name for name in rankings if ranked(metrics, *rankings[name])]
                others = f"; --step={'|'.join(unlabelled)} choose without" if unlabelled else ""
                announce(
                    f"no checkpoint in {folder} was scored with target labels: using the last, "
                    f"{steps[0]}{others}"
                )
            return best + [step for step in steps if step not in best]
        if best:
            return best
        place = f" from step {since}, the end of the warm-up, on" if since else ""
        raise UserError(
            f"no checkpoint in {folder} has {wanted}{place}: choose best, last or one of {listed}"
        )
    if wanted in steps:
        return [int(wanted)]
    raise UserError(f"no checkpoint of step {wanted} in {folder}: it holds {listed}")


class Preservation:
    """An Orbax preservation policy: keeps the last steps, and the best step of each ranking.

    Orbax asks it after each save about all existing steps. The best step so far is always kept, so
    that the best of all exists at the end.

    Args:
      keep: number of last steps to keep.
      rankings: (criterion, since) for `ranked`.
    """

    def __init__(self, keep: int, rankings: Sequence[tuple[Criterion, int]]):
        self._keep, self._rankings = keep, tuple(rankings)

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        """Whether to keep each of the checkpoints, which have `step` and `metrics`."""
        metrics = {info.step: info.metrics for info in checkpoints}
        kept = set(sorted(metrics)[-self._keep :])
        for criterion, since in self._rankings:
            kept.update(ranked(metrics, criterion, since)[:1])
        return [info.step in kept for info in checkpoints]
