"""Warns when adversarial training has collapsed, from the metrics that a run logs.

The warnings depend on the log lines only: `follow` reads one more line, `recall` those of an
interrupted run, so that a resumed run neither repeats nor misses a warning.

A discriminator that is always right leaves the other player with vanishing gradients; one that
guesses gives no useful direction (Arjovsky and Bottou, "Towards Principled Methods for Training
GANs", ICLR 2017). Successful alignment also ends with an accuracy just above one half; the warning
is given all the same, because only scores on the target can tell the two cases apart.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

WINDOW = 10  # lines of the log over which a state must last
WON = 0.98  # a discriminator with an accuracy above this has won
GUESSING = 0.02  # a discriminator with an accuracy up to 0.5 plus this is guessing

WORDS = {
    "won": "{name} has been above {won:g} for {window} log lines: the discriminator has won, and "
    "what it teaches fades. What helps: a lower rate for it, label smoothing, R1, spectral norm",
    "guessing": "{name} has been at most {guess:g} for {window} log lines: the discriminator only "
    "guesses. Either the domains look alike to it, or it has collapsed: see the target's scores",
    "lost": "{name} has not been finite for {window} log lines: nothing is learnt any more. Go "
    "back to an earlier checkpoint with lower rates",
}


class Watch(NamedTuple):
    """The states remembered from the lines so far."""

    recent: Mapping[str, tuple[str, ...]]  # name -> the states of its latest `window` values
    told: Mapping[str, str]  # name -> the state that was reported and is not over
    window: int


def start(window: int = WINDOW) -> Watch:
    """The watch before the first line.

    Raises:
      ValueError: a window of less than one line.
    """
    if window < 1:
        raise ValueError(f"a window of {window} log lines: give at least 1")
    return Watch({}, {}, window)


def follow(watch: Watch, line: Mapping[str, float | None]) -> tuple[Watch, list[str]]:
    """Reads one more line of the training log.

    A state is reported when all of the latest `window` values are in it. It is over, and may be
    reported again, when more than half of the latest `window` values are not in it.

    Args:
      watch: from `start`, `recall` or the previous call.
      line: {name: value}; only `accuracy/...` (of a discriminator, 0..1) and `loss/...` are used.
        None stands for a value that is not finite, as in `metrics.jsonl`. The state of a missing
        name (during the warm-up, say) is kept.

    Returns:
      The new watch, and one line of text for each state that has just begun.
    """
    recent, told, messages = dict(watch.recent), dict(watch.told), []
    for name in sorted(line):
        if not name.startswith(("accuracy/", "loss/")):
            continue
        latest = (*recent.get(name, ()), _state(name, line[name]))[-watch.window :]
        recent[name] = latest
        if name in told and latest.count(told[name]) < len(latest) / 2:
            del told[name]
        state = latest[-1]
        lasts = len(latest) == watch.window and set(latest) == {state}
        if state and lasts and told.get(name) != state:
            told[name] = state
            messages.append(_message(name, state, watch.window))
    return Watch(recent, told, watch.window), messages


def recall(lines: Iterable[Mapping[str, float | None]], window: int = WINDOW) -> Watch:
    """The watch after all these lines of a log (those of `logs.read` with `kind: train`)."""
    watch = start(window)
    for line in lines:
        watch, _ = follow(watch, line)
    return watch


def check(history: Sequence[Mapping[str, float | None]], window: int = WINDOW) -> list[str]:
    """The warnings that the last line of a history causes; see `follow`."""
    if not history:
        return []
    return follow(recall(history[:-1], window), history[-1])[1]


def _state(name: str, value: float | None) -> str:
    """The state that a single value is in; empty if it is normal."""
    finite = value is not None and math.isfinite(value)
    if name.startswith("loss/"):
        return "" if finite else "lost"
    if not finite:
        return ""  # the loss says so
    return "won" if value > WON else "guessing" if value <= 0.5 + GUESSING else ""


def _message(name: str, state: str, window: int) -> str:
    return WORDS[state].format(name=name, window=window, won=WON, guess=0.5 + GUESSING)
