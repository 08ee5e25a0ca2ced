"""Which checkpoints of a run stay, and which one the name of a criterion stands for.

Orbax's own policy for the best step wants every step that has metrics to have the one it looks at.
A snapshot need not: the first one agrees with none before it, and of unlabelled images there is no
mIoU. Nor does it know of a warm-up.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jaxseg.errors import UserError
from jaxseg.evaluation.selection import Criterion

Rankings = Mapping[str, tuple[Criterion, int]]  # by name; the step that it counts from
Metrics = Mapping[int, Mapping[str, float] | None]  # of each step; None if it was not evaluated


def ranked(metrics: Metrics, criterion: Criterion, since: int = 0) -> list[int]:
    """The steps that have a criterion, the best first, and of equals the later.

    Args:
      metrics: of each step, as saved with it.
      criterion: names the metric, and whether higher is better.
      since: steps before it do not count.
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
    """The steps that may stand for a wanted one, in the order in which to try them.

    Args:
      wanted: a step, 'last', or a name of `rankings`, of which 'best' is always there: it falls
        back on steps that were not evaluated.
      metrics: of each step there is, at least one.
      rankings: what the names stand for.
      folder: of the checkpoints, for messages.
      announce: called with a line when nothing was evaluated that could be the best.

    Raises:
      UserError: no such step, or none that the criterion could choose.
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
                announce(f"no checkpoint in {folder} was evaluated: using the last, {steps[0]}")
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
    """An Orbax preservation policy: the last steps and the first of each ranking.

    It is asked after each save, with all steps there are: what is best so far always stays, so what
    is best of all is there at the end.

    Args:
      keep: how many of the last steps stay.
      rankings: (criterion, since) as `ranked` takes them.
    """

    def __init__(self, keep: int, rankings: Sequence[tuple[Criterion, int]]):
        self._keep, self._rankings = keep, tuple(rankings)

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        """Whether each of the checkpoints, which have `step` and `metrics`, is to stay."""
        metrics = {info.step: info.metrics for info in checkpoints}
        kept = set(sorted(metrics)[-self._keep :])
        for criterion, since in self._rankings:
            kept.update(ranked(metrics, criterion, since)[:1])
        return [info.step in kept for info in checkpoints]
