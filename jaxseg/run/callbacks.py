"""Callbacks of the training loop, which log, score and save all members."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, NoReturn

import jax
import numpy as np

from jaxseg.engine.method import State
from jaxseg.evaluation import selection
from jaxseg.experiment import optimisers
from jaxseg.run import bad_steps, collapse, progress, sweep, sweep_tables
from jaxseg.run.trained import Trained
from jaxseg.storage import logs
from jaxseg.storage.checkpoints import checkpoint


class Callbacks(NamedTuple):
    """The functions that the training loop calls between steps.

    Attributes:
      record: (step, metrics of the steps since the last log, on the host, speed) -> None: logs.
      score: (state, step) -> result of the snapshot.
      save: (state, result) -> None; the result is None if the step was not evaluated.
      stop: (state, step, member, metrics) -> never returns: ends at a step that is not finite.
    """

    record: Callable[[int, list[Any], dict[str, float]], None]
    score: Callable[[State, int], Any]
    save: Callable[[State, Any], None]
    stop: Callable[[State, int, int, Any], NoReturn]


@contextlib.contextmanager
def open_logs(trained: Trained, start: int, bar: progress.Progress) -> Iterator[list[logs.Log]]:
    """Opens the members' logs."""
    with contextlib.ExitStack() as opened:
        log = []
        for member, folder in zip(trained.members, trained.folders, strict=True):
            name = f"{member.name}: " if member.name else ""
            each = logs.open_logs(
                folder,
                resume_step=start,
                enabled=jax.process_index() == 0,
                announce=lambda text, name=name: bar.log(name + text),
                sinks=member.config.log.sinks,
                also=member.config.log.also,
                settings=member.config.to_dict(),
            )
            log.append(opened.enter_context(each))
        yield log


def make_record(
    trained: Trained, moved: Sequence[str], log: Sequence[logs.Log], bar: progress.Progress
) -> Callable:
    """Makes `Callbacks.record`, which writes the logs and warns of collapse (see `collapse`)."""
    watches, allowed = [], trained.config.train.skip_bad_steps
    for folder in trained.folders:
        lines = logs.read(folder)  # lines of steps that will be repeated are already removed
        watches.append(collapse.recall(line for line in lines if line["kind"] == "train"))

    def record(step: int, metrics: list[Any], speed: dict[str, float]) -> None:
        told = []
        for i, players in enumerate(trained.players):
            own = [sweep.one(each, i) for each in metrics]
            values = means(bad_steps.warn(log[i], step, own, allowed))
            values |= learning_rates(players, step, trained.last_warm, moved)
            told.append(values | speed)
        bar.update(step, means(told) if trained.swept else told[0])
        for i, values in enumerate(told):
            log[i].train(step, values)
            watches[i], warnings = collapse.follow(watches[i], values)
            for text in warnings:
                log[i].warning(step, text)

    return record


def make_score(
    trained: Trained,
    scores: Sequence[Callable[..., dict[str, Any]]],
    log: Sequence[logs.Log],
    bar: progress.Progress,
    tabulate: Callable[[], Any],
) -> Callable:
    """Makes `Callbacks.score`, which evaluates the members one after the other."""

    def score(state: Any, step: int) -> list[dict[str, Any]]:
        if not isinstance(state, list):
            state = jax.device_get(state)
        shown = _Muted if trained.swept else bar
        results = [each(sweep.one(state, i), step, log[i], shown) for i, each in enumerate(scores)]
        for i, each in enumerate(log):
            each.histograms(step, sweep.one(state, i).params)
        if trained.swept:
            bar.log(sweep_tables.line(step, results))
        tabulate()
        return results

    return score


def make_save(trained: Trained, managers: Sequence[checkpoint.Manager]) -> Callable:
    """Makes `Callbacks.save`, which writes a checkpoint of each member."""

    def save(state: Any, results: list[dict[str, Any]] | None) -> None:
        host = jax.device_get(state)
        for manager in managers:  # every member has this step before any saves the next
            manager.wait_until_finished()
        for i, (manager, member) in enumerate(zip(managers, trained.members, strict=True)):
            own = member.config.to_dict()
            result = results[i] if results and selection.alive(results[i]) else None
            checkpoint.save(manager, sweep.one(host, i), own, result)

    return save


def means(kept: list[dict]) -> dict[str, float]:
    """Means over several steps of the metrics that the last of them has."""
    return {name: float(np.mean([m[name] for m in kept if name in m])) for name in kept[-1]}


def learning_rates(
    players: optimisers.Players, step: int, last_warm: int, moved: Iterable[str]
) -> dict[str, float]:
    """Learning rates of the `moved` players in the update that leads to `step`; all schedules but
    that of gen start after the warm-up.
    """
    done = {player: step - 1 - (0 if player == "gen" else last_warm) for player in moved}
    return {
        f"lr/{player}": float(players.schedules[player](before))
        for player, before in done.items()
        if before >= 0
    }


class _Muted:
    """Replaces a member's progress bar when one line reports all members."""

    log = staticmethod(lambda message: None)
