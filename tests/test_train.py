"""The real loop, shrunk: resume, evaluation of checkpoints, refusals."""

import contextlib
import json
import os
import signal

import jax
import numpy as np
import pytest
from kit.small import small_config

from jaxseg.engine import programs
from jaxseg.errors import UserError
from jaxseg.experiment import batches, restore, settings
from jaxseg.experiment.finished import Wanted
from jaxseg.experiment.method import make_method
from jaxseg.experiment.optimisers import make_optimisers
from jaxseg.experiment.state import abstract_state
from jaxseg.run import evaluate as run_evaluate
from jaxseg.run import made, snapshots, train
from jaxseg.storage import logs, run_folder
from jaxseg.storage.checkpoints import checkpoint


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return tmp_path_factory.mktemp("records")


@pytest.fixture
def config(records):
    config = small_config("advent", records)
    config.data.source.options.counts.val = 3
    return config


def leaves(config, workdir, step):
    """All arrays of a checkpoint: parameters, statistics, both optimisers, key and step."""
    method, players = make_method(config), make_optimisers(config)
    template = abstract_state(config, method, players)
    with checkpoint.open_manager(workdir / "checkpoints", read_only=True) as manager:
        return jax.tree.leaves(checkpoint.restore_state(manager, template, step))


def interrupt_after(step, monkeypatch):
    """SIGTERM arrives while the update of `step` runs."""
    original = programs.pmapped_update

    def interrupted(*args, **kwargs):
        update = original(*args, **kwargs)

        def wrapped(state, batch):
            if int(state.step) == step - 1:
                os.kill(os.getpid(), signal.SIGTERM)
            return update(state, batch)

        return wrapped

    monkeypatch.setattr(programs, "pmapped_update", interrupted)


def test_a_run_leaves_what_it_promises_and_is_resumed_bit_for_bit(
    config, tmp_path, capsys, monkeypatch
):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert train.run(config, str(whole)) == 0
    printed = capsys.readouterr().out
    assert "target mIoU" in printed and "best" in printed and "target labels" in printed
    assert "choosing a snapshot" in printed and "source mIoU" in printed
    for name in ("config.json", "metrics.jsonl", "results.json", "selection.json", "report.html",
                 "tensorboard"):  # fmt: skip
        assert (whole / name).exists(), name
    noted = run_folder.read_made(whole)
    assert noted["versions"]["jax"] == jax.__version__ and noted["at_step"] == 4
    assert noted["started"] <= noted["ended"] and 0 < noted["seconds"] < 600
    assert noted["data"].keys() == {"source train", "target train", "target val"}
    assert noted["data"]["source train"].startswith("6 images, sha256 ")
    assert noted["outcome"] == "finished" and "made" not in run_folder.read_config(whole)
    lines = logs.read(whole)
    assert [line["step"] for line in lines if line["kind"] == "train"] == [1, 2, 3, 4]
    assert [line["step"] for line in lines if line["kind"] == "eval"] == [2, 4]
    first, last = lines[0], [line for line in lines if line["kind"] == "train"][-1]
    assert "adversarial/main" not in first and "lr/disc" not in first  # the warm-up
    assert {"adversarial/main", "lr/disc", "loss/disc", "input_wait"} <= set(last)

    # The same in three goes, the last with another number of reader threads.
    config.train.save_every = 1
    for step in (1, 3):  # within the warm-up, and after the evaluation at its end
        with monkeypatch.context() as patched:
            interrupt_after(step, patched)
            assert train.run(config, str(parts)) == 130
        ended = run_folder.read_made(parts)
        assert (ended["outcome"], ended["at_step"]) == ("interrupted", step)
    config.data.threads = 2
    assert train.run(config, str(parts), "jaxseg train --config=x") == 0
    again = run_folder.read_made(parts)
    assert again["outcome"] == "finished" and again["seconds"] > ended["seconds"]
    assert again["data"] == noted["data"] and again["started"] <= again["ended"]
    assert again["resumed_with"] == "jaxseg train --config=x" and again["at_step"] == 4
    printed = capsys.readouterr().out
    assert "resuming from step 1" in printed and "resuming from step 3" in printed
    # Evaluations too, the agreement of step 4 with step 2 among them.
    assert logs.evaluations(parts) == logs.evaluations(whole)
    assert 0 <= logs.evaluations(parts)[-1]["agreement"] <= 1
    for a, b in zip(leaves(config, whole, 4), leaves(config, parts, 4), strict=True):
        np.testing.assert_array_equal(a, b)

    # A finished run given again only reports.
    assert train.run(config, str(parts)) == 0
    assert run_folder.read_made(parts) == again

    # Evaluating the checkpoint gives the number that training logged, exactly.
    logged = [line for line in lines if line["kind"] == "eval"][-1]
    result = run_evaluate.evaluate(config, str(whole), Wanted("last"))
    assert {k: logged[k] for k in ("miou", "pixel_accuracy", "iou")} == {
        k: result[k] for k in ("miou", "pixel_accuracy", "iou")
    }
    written = json.loads((whole / "results.json").read_text())
    assert written["miou"] == result["miou"] and written["step"] == 4

    # And other settings are refused, by name.
    config.optim.gen.lr = 0.5
    with pytest.raises(UserError, match=r"config.optim.gen.lr=0.1, now it is 0.5.*--workdir"):
        train.run(config, str(whole))


def test_self_training_is_resumed_bit_for_bit(records, tmp_path, capsys, monkeypatch):
    """The teacher, what the feature distance keeps, the classes that are drawn, hidden blocks."""
    config = small_config("daformer", records, "streets+mic")
    config.data.rare_classes.update(dict(temperature=0.1, min_pixels=1))
    config.train.save_every = 1
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert train.run(config, str(whole)) == 0
    assert "the feature distance is taken on traffic light, traffic" in capsys.readouterr().out
    with monkeypatch.context() as patched:
        interrupt_after(3, patched)  # the teacher follows since step 1, or 3 after a warm-up
        assert train.run(config, str(parts)) == 130
    assert train.run(config, str(parts)) == 0
    saved = [leaves(config, folder, 4) for folder in (whole, parts)]
    for a, b in zip(*saved, strict=True):
        np.testing.assert_array_equal(a, b)
    kept = restore_memory(config, whole, 4)
    assert {"teacher", "first"} <= kept.keys() and bool(kept["first"]["known"])


def restore_memory(config, workdir, step):
    template = abstract_state(config, make_method(config), make_optimisers(config))
    with checkpoint.open_manager(workdir / "checkpoints", read_only=True) as manager:
        return checkpoint.restore_state(manager, template, step).memory


def test_how_training_ended_is_noted(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    step, told = [0], []

    def go(error=None, command=""):
        with made.Clock([str(tmp_path)], {"command": command}, lambda: step[0]) as clock:
            told.append(run_folder.read_made(tmp_path))
            step[0] += 2
            if error:
                raise error
            clock.finished = True

    for error, said in (
        (UserError("step 3 is not finite"), "step 3 is not finite"),
        (KeyError("gen"), "KeyError: 'gen'"),
        (KeyboardInterrupt(), "interrupted"),
        (None, "finished"),
    ):
        with pytest.raises(type(error)) if error else contextlib.nullcontext():
            go(error)
        noted = run_folder.read_made(tmp_path)
        assert (noted["outcome"], noted["at_step"]) == (said, step[0])
        assert noted["ended"] >= noted["started"] == told[0]["started"]
    # While it trains, and so if the process is killed, no end is noted.
    assert not any(made.END[0] in before or "outcome" in before for before in told)


def score_as(scores, monkeypatch):
    """Replaces the scores of the target's evaluations by those of the iterator `scores`."""
    original = snapshots.make_evaluator

    def make(*args, **kwargs):
        evaluator = original(*args, **kwargs)

        def scored(*model_and_data):
            result, examples = evaluator(*model_and_data)
            on_target = len(model_and_data) > 5  # with maps
            return result | (next(scores) if on_target else {}), examples

        return scored

    monkeypatch.setattr(snapshots, "make_evaluator", make)


def test_what_a_criterion_chooses_is_still_there_at_the_end(config, tmp_path, capsys, monkeypatch):
    config.train.update(dict(steps=7, eval_every=1, keep=1, pictures=0))
    folder = tmp_path / "checkpoints"
    keys = ("miou", "entropy", "neighbourhood_density")
    values = [
        (0.9, 0.1, 9.0),  # the warm-up, in which only the best by labels counts
        (0.2, 0.5, 5.0),
        (0.1, 0.2, 4.0),
        (0.3, 0.4, 7.0),
        (0.4, 0.3, 6.0),
        (0.5, 0.6, 7.0),
        (0.3, 0.5, 6.0),
    ]
    scores = iter([dict(zip(keys, row, strict=True)) for row in values])
    with monkeypatch.context() as patched:
        score_as(scores, patched)
        assert train.run(config, str(tmp_path)) == 0
    criteria = json.loads((tmp_path / "selection.json").read_text())["criteria"]
    chosen = {key: criteria[key]["step"] for key in restore.CHOICES if key in criteria}
    assert chosen.keys() == {"source_miou", *keys[1:], "agreement"}
    assert chosen["entropy"] == 3 and chosen["neighbourhood_density"] == 6
    kept = {int(path.name) for path in folder.iterdir()}
    assert kept == {1, 7, *chosen.values()}
    for key, step in chosen.items():
        (loaded,) = restore.from_workdir(config, tmp_path, key, announce=print)
        assert loaded.facts == {"step": step}
    assert "no checkpoint" not in capsys.readouterr().out


def test_both_validation_sets_are_there_before_the_first_step(config, tmp_path, monkeypatch):
    """Preparing data may take hours, and must not begin at the first evaluation."""
    opened, original = [], batches.open_records
    monkeypatch.setattr(
        batches, "open_records",
        lambda *a, **k: opened.append((a[1].options.domain, a[2])) or original(*a, **k),
    )  # fmt: skip

    class Reached(Exception):
        pass

    def reached(*_, **__):
        raise Reached

    monkeypatch.setattr(checkpoint, "open_manager", reached)
    with pytest.raises(Reached):
        train.run(config, str(tmp_path))
    assert {("rendered", "val"), ("photographic", "val"), ("rendered", "train")} <= set(opened)
    opened.clear()
    config.eval.source_images = 0
    with pytest.raises(Reached):
        train.run(config, str(tmp_path))
    assert ("rendered", "val") not in opened


@pytest.mark.parametrize(
    "change, message",
    [
        ("config.net.dtype = 'float8'", "config.net.dtype='float8'; choose one of float32"),
        ("config.net.backbone = 'vgg'", "config.net.backbone='vgg'; choose one of .*resnet101"),
        ("config.data.classes = 'ade'", "no label set is called 'ade'"),
        ("config.train.accumulate = 3", "batch=2 images cannot be shared .* 3 micro-batches"),
        ("config.train.devices = 3", "config.train.devices=3, but there are 2"),
        ("config.train.warmup_steps = 4", "leaves nothing of config.train.steps=4"),
        ("config.train.steps = 9", "schedule_steps=8 ends before config.train.steps=9"),
        ("config.train.log_every = 0", "config.train.log_every=0 must be at least 1"),
        ("config.method.name = 'nope'", "there is no jaxseg/methods/nope.py"),
        ("config.eval.classes = 'camvid'", "not among config.data.classes=cityscapes"),
        ("config.eval.also = ('synthia13', 'camvid')", "eval.also=camvid has .* not among config"),
        ("config.eval.also = ('ade',)", "no label set is called 'ade'"),
    ],
)
def test_settings_that_cannot_work_are_named_and_not_remembered(config, tmp_path, change, message):
    exec(change)
    with pytest.raises(UserError, match=message):
        train.run(config, str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_devices_are_as_many_as_the_batch_can_be_shared_by(config):
    assert len(settings.devices(config)) == 2
    config.train.batch = 3
    assert len(settings.devices(config)) == 1


def test_mean_over_a_subset_of_classes(config):
    config.eval.classes = "synthia13"
    names = settings.label_set(config).classes
    chosen = [names[i] for i in settings.scored(config)]
    assert len(chosen) == 13 and not {"wall", "fence", "pole", "terrain"} & set(chosen)
    ids = settings.scored(config)
    config.eval.also, config.eval.classes = ("synthia13", "cityscapes"), ""
    assert settings.also_scored(config) == {"synthia13": ids, "cityscapes": list(range(19))}


def test_evaluate_without_a_checkpoint_says_so(config, tmp_path):
    with pytest.raises(UserError, match="no checkpoint in .*--workdir"):
        run_evaluate.evaluate(config, str(tmp_path), Wanted("best"))
    with pytest.raises(UserError, match="--step=miou: give best, last, source_miou, .* or a step"):
        run_evaluate.evaluate(config, str(tmp_path), Wanted("miou"))
