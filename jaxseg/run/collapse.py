"""Says when adversarial training has come to nothing, from what a run logs anyway.

Everything follows from the lines of the log, one after the other: `follow` takes one more, `recall`
takes those that a run has left behind, so that a resumed run neither repeats nor misses a message.

A discriminator that is always right gives the other side no way down its loss, one that guesses
gives it no direction (Arjovsky and Bottou, "Towards Principled Methods for Training GANs", ICLR
2017). An accuracy just above one half is what a good end looks like, too; it is said all the same,
for only the scores on the target can tell the two apart.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

WINDOW = 10  # lines of the log over which a state must last
WON = 0.98  # a discriminator's accuracy above which it has won
GUESSING = 0.02  # above one half, up to which it tells nothing

WORDS = {
    "won": "{name} has been above {won:g} for {window} log lines: the discriminator has won, and "
    "what it teaches fades. What helps: a lower rate for it, label smoothing, R1, spectral norm",
    "guessing": "{name} has been at most {guess:g} for {window} log lines: the discriminator only "
    "guesses. Either the domains look alike to it, or it has collapsed: see the target's scores",
    "lost": "{name} has not been finite for {window} log lines: nothing is learnt any more. Go "
    "back to an earlier checkpoint with lower rates",
}


class Watch(NamedTuple):
    """What is to be remembered of the lines so far."""

    recent: Mapping[str, tuple[str, ...]]  # name -> the states of its latest `window` values
    told: Mapping[str, str]  # name -> the state that has been told and is not over
    window: int


def start(window: int = WINDOW) -> Watch:
    """Nothing seen yet.

    Raises:
      ValueError: a window without lines.
    """
    if window < 1:
        raise ValueError(f"a window of {window} log lines: give at least 1")
    return Watch({}, {}, window)


def follow(watch: Watch, line: Mapping[str, float | None]) -> tuple[Watch, list[str]]:
    """Takes in one more line of the training log.

    A state is told when all of the latest `window` values are in it, and told again only after it
    was over: after more than half of the latest `window` values were not in it.

    Args:
      watch: from `start`, `recall` or the line before.
      line: {name: value}; looked at are `accuracy/...` (of a discriminator, 0..1) and `loss/...`.
        None stands for a value that is not finite, as in `metrics.jsonl`. A name that is missing
        (during the warm-up, say) stays as it was.

    Returns:
      The watch after it, and one line of text for each state that has just set in.
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
    """The watch after all these lines of a log, `kind: train` of `logs.read` or as logged."""
    watch = start(window)
    for line in lines:
        watch, _ = follow(watch, line)
    return watch


def check(history: Sequence[Mapping[str, float | None]], window: int = WINDOW) -> list[str]:
    """What the last line of a history gives rise to say; see `follow`."""
    if not history:
        return []
    return follow(recall(history[:-1], window), history[-1])[1]


def _state(name: str, value: float | None) -> str:
    """What a value says by itself; empty for nothing."""
    finite = value is not None and math.isfinite(value)
    if name.startswith("loss/"):
        return "" if finite else "lost"
    if not finite:
        return ""  # the loss says so
    return "won" if value > WON else "guessing" if value <= 0.5 + GUESSING else ""


def _message(name: str, state: str, window: int) -> str:
    return WORDS[state].format(name=name, window=window, won=WON, guess=0.5 + GUESSING)
