"""The real loop, shrunk: resume, evaluation of checkpoints, refusals."""

import json

import jax
import numpy as np
import pytest
from small import shrink_networks, small_config

from jaxseg import apply, checkpoint, logs, train
from jaxseg.errors import UserError


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return tmp_path_factory.mktemp("records")


@pytest.fixture
def config(records, monkeypatch):
    shrink_networks(monkeypatch)
    return small_config("advent", records)


def leaves(workdir, step):
    with checkpoint.open_manager(workdir / "checkpoints", read_only=True) as manager:
        _, model, _ = checkpoint.restore_model(manager, step)
    return jax.tree.leaves(model)


def test_a_run_leaves_what_it_promises_and_is_resumed_bit_for_bit(config, tmp_path, capsys):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert train.run(config, str(whole)) == 0
    printed = capsys.readouterr().out
    assert "target mIoU" in printed and "best" in printed and "target labels" in printed
    for name in ("config.json", "metrics.jsonl", "results.json", "report.html", "tensorboard"):
        assert (whole / name).exists(), name
    lines = logs.read(whole)
    assert [line["step"] for line in lines if line["kind"] == "train"] == [1, 2, 3, 4]
    assert [line["step"] for line in lines if line["kind"] == "eval"] == [2, 4]
    first, last = lines[0], [line for line in lines if line["kind"] == "train"][-1]
    assert "adversarial/main" not in first and "lr/disc" not in first  # the warm-up
    assert {"adversarial/main", "lr/disc", "loss/disc", "input_wait"} <= set(last)

    # The same in two goes, the second with another number of reader threads.
    config.train.steps = 3
    train.run(config, str(parts))
    config.train.steps, config.data.threads = 4, 2
    train.run(config, str(parts))
    assert "resuming from step 3" in capsys.readouterr().out
    for a, b in zip(leaves(whole, 4), leaves(parts, 4), strict=True):
        np.testing.assert_array_equal(a, b)

    # A finished run given again only reports.
    assert train.run(config, str(parts)) == 0

    # Evaluating the checkpoint gives the number that training logged, exactly.
    logged = [line for line in lines if line["kind"] == "eval"][-1]
    result = apply.evaluate(config, str(whole), "last")
    assert {k: logged[k] for k in ("miou", "pixel_accuracy", "iou")} == {
        k: result[k] for k in ("miou", "pixel_accuracy", "iou")
    }
    written = json.loads((whole / "results.json").read_text())
    assert written["miou"] == result["miou"] and written["step"] == 4

    # And other settings are refused, by name.
    config.optim.gen.lr = 0.5
    with pytest.raises(UserError, match=r"config.optim.gen.lr=0.02.* now it is 0.5.*--workdir"):
        train.run(config, str(whole))


def test_an_interrupt_saves_the_step_in_hand(config, tmp_path, monkeypatch):
    original = train.pmapped_update

    def interrupted_at_step_one(*args, **kwargs):
        update = original(*args, **kwargs)

        def wrapped(state, batch):
            import os
            import signal

            if int(state.step) == 0:
                os.kill(os.getpid(), signal.SIGTERM)
            return update(state, batch)

        return wrapped

    monkeypatch.setattr(train, "pmapped_update", interrupted_at_step_one)
    assert train.run(config, str(tmp_path)) == 130
    assert len(leaves(tmp_path, 1)) > 10


def test_batch_must_suit_the_devices(config, tmp_path):
    config.train.batch = 3
    with pytest.raises(UserError, match=r"config.train.batch=3 .* multiple of 2"):
        train.run(config, str(tmp_path))


def test_wrong_choices_are_named(config, tmp_path):
    config.net.dtype = "float8"
    with pytest.raises(UserError, match=r"config.net.dtype='float8'; choose one of float32"):
        train.run(config, str(tmp_path))


def test_evaluate_without_a_checkpoint_says_so(config, tmp_path):
    with pytest.raises(UserError, match="no checkpoint in .*--workdir"):
        apply.evaluate(config, str(tmp_path), "best")
