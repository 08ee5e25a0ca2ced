"""Which histories of a run cause warnings, and how often."""

import math

import numpy as np
import pytest

from jaxseg.run import collapse
from jaxseg.storage import logs


def lines(accuracy, name="accuracy/main"):
    return [{"loss/gen": 1.0, "loss/disc": 0.5, name: float(value)} for value in accuracy]


def said(history, window=5):
    """{line number: warnings} of a whole run, as the training loop gets them."""
    watch, found = collapse.start(window), {}
    for number, line in enumerate(history):
        watch, messages = collapse.follow(watch, line)
        if messages:
            found[number] = messages
    return found


def test_a_discriminator_that_wins_is_told_once():
    found = said(lines([0.7, 0.9, *[0.999] * 40]))
    assert list(found) == [6]  # the fifth line above 0.98
    (message,) = found[6]
    assert "accuracy/main has been above 0.98 for 5 log lines" in message and "won" in message
    assert "\n" not in message


def test_a_discriminator_that_guesses_is_told_once():
    for value in (0.5, 0.51, 0.35, 0.0):
        found = said(lines([0.8, *[value] * 40]))
        assert list(found) == [5] and "at most 0.52" in found[5][0]


def test_healthy_noise_says_nothing():
    draw = np.random.default_rng(0)
    noise = np.clip(draw.normal(0.75, 0.12, 2000), 0, 1)
    assert noise.max() == 1 and noise.min() < 0.5  # it touches both borders
    assert said(lines(noise), collapse.WINDOW) == {}


def test_at_the_border_it_does_not_chatter_and_speaks_again_after_a_recovery():
    # Every seventh line denies it: the state is told once, for it is never over.
    chatter = [0.999 if i % 7 else 0.97 for i in range(100)]
    assert len(said(lines(chatter))) == 1
    recovered = [*[0.999] * 10, *[0.8] * 10, *[0.999] * 10]
    assert list(said(lines(recovered))) == [4, 24]
    changed = said(lines([*[0.999] * 10, *[0.5] * 10]))
    assert ["guess" in changed[i][0] for i in changed] == [False, True]


def test_each_discriminator_is_watched_by_itself():
    both = [
        a | b
        for a, b in zip(lines([0.999] * 9), lines([0.6] * 3 + [0.5] * 6, "accuracy/aux"))  # noqa: B905
    ]
    found = said(both)
    assert list(found) == [4, 7]
    assert "accuracy/main" in found[4][0] and "accuracy/aux" in found[7][0]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, None])
def test_a_loss_that_is_not_finite_is_told_once(value):
    history = [{"loss/gen": 1.0, "accuracy/main": 0.7}] * 3
    history += [{"loss/gen": value, "accuracy/main": value}] * 20
    found = said(history)
    assert list(found) == [7] and len(found[7]) == 1
    assert found[7][0].startswith("loss/gen has not been finite for 5 log lines")
    assert said([{"loss/gen": value}, *[{"loss/gen": 1.0}] * 30]) == {}  # it recovered


def test_a_short_history_and_other_names_say_nothing():
    assert said(lines([0.999] * 4)) == {}
    assert collapse.check([]) == [] and collapse.check(lines([0.999])) == []
    assert said([{"pixel_accuracy": 1.0, "lr/gen": math.nan, "step": 3}] * 30) == {}


def test_a_name_that_is_missing_waits():
    """During a warm-up the discriminator's metrics are missing."""
    warm = [{"loss/gen": 1.0}] * 30
    found = said([*lines([0.999] * 3), *warm, *lines([0.999] * 3)])
    assert list(found) == [34]


def test_the_last_line_alone_gives_rise_to_a_check():
    history = lines([0.7, *[0.999] * 6])
    assert [len(collapse.check(history[: n + 1], 5)) for n in range(7)] == [0] * 5 + [1, 0]


def test_a_resumed_run_says_what_the_uninterrupted_one_says(tmp_path):
    draw = np.random.default_rng(1)
    accuracy = np.repeat(draw.choice([0.5, 0.7, 0.999], 12), 4) + draw.normal(0, 0.005, 48)
    history = lines(accuracy)
    for number in (10, 11, 12, 13, 14, 15, 30):
        history[number]["loss/gen"] = math.nan
    whole = said(history)
    assert len(whole) > 3
    for stop in range(1, len(history)):
        with logs.open_logs(tmp_path / str(stop), announce=lambda text: None) as log:
            for number, line in enumerate(history[:stop]):
                log.train(number + 1, line)
        left = [line for line in logs.read(tmp_path / str(stop)) if line["kind"] == "train"]
        watch, found = collapse.recall(left, 5), {}
        for number in range(stop, len(history)):
            watch, messages = collapse.follow(watch, history[number])
            if messages:
                found[number] = messages
        assert found == {number: text for number, text in whole.items() if number >= stop}


def test_following_changes_nothing_that_was_given():
    before = collapse.recall(lines([0.999] * 4), 5)
    first, second = (collapse.follow(before, lines([0.999])[0]) for _ in range(2))
    assert first == second and len(first[1]) == 1
    assert before == collapse.recall(lines([0.999] * 4), 5)
    with pytest.raises(ValueError, match="a window of 0 log lines"):
        collapse.start(0)
