"""A run's evaluation of snapshots, with a tiny network and real data, also after a resume."""

import io
import json

import jax
import numpy as np
import pytest
from kit.raw_files import draw, save
from kit.small import small_config
from rich.console import Console

from jaxseg.data import codec
from jaxseg.engine.method import DEPTH, TARGET, View
from jaxseg.evaluation import selection
from jaxseg.evaluation.evaluator import make_evaluator
from jaxseg.experiment import batches, settings
from jaxseg.experiment.method import make_method
from jaxseg.experiment.optimisers import make_optimisers
from jaxseg.experiment.state import first_state
from jaxseg.run import snapshots
from jaxseg.storage import logs
from jaxseg.storage import results as storage_results


@pytest.fixture
def config(tmp_path_factory):
    config = small_config("source_only", tmp_path_factory.getbasetemp() / "snapshots_records")
    config.data.source.options.counts.val = 3
    config.train.keep = 1
    config.eval.also = ("synthia13",)
    return config


class Bar:
    def __init__(self):
        self.lines = []

    def log(self, line):
        self.lines.append(line)


def run(config, workdir, steps, states, start=0, depth=None):
    """Scores the states of some steps as the training loop does, from `start` on."""
    views = {"depth": View(depth, DEPTH, TARGET, "depth")} if depth else {}
    method = make_method(config)._replace(views=views)
    score = snapshots.make_scorers(config, method, jax.local_devices())(str(workdir), start)
    bar = Bar()
    with logs.open_logs(workdir, resume_step=start) as log:
        return [score(states[step], step, log, bar) for step in steps], bar.lines


def different_states(config, steps):
    """The first state with the segmenter's parameters moved a little further at each step."""
    method, players = make_method(config), make_optimisers(config)
    first, states = jax.device_get(first_state(config, method, players)), {}
    for step in steps:
        draw = np.random.default_rng(step)

        def moved(x, draw=draw, by=0.05 / step):
            return x + draw.normal(0, by, x.shape).astype(x.dtype)

        states[step] = first._replace(params=jax.tree.map(moved, first.params))
    return states


def test_a_resumed_run_compares_with_the_snapshot_before(config, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    states = different_states(config, range(1, 7))
    results, lines = run(config, whole, (1, 2, 3, 4, 5), states)
    assert lines[0].startswith("step 1: val mIoU") and "source mIoU" in lines[0]
    assert results[0]["agreement"] is None and results[0]["pixel_agreement"] is None
    assert all(0 < r["agreement"] < 1 and 0 < r["pixel_agreement"] < 1 for r in results[1:])
    assert all(0 <= r["source_miou"] <= 1 and r["miou_synthia13"] >= 0 for r in results)
    assert logs.evaluations(whole) == results

    # Killed after step 3 was evaluated and before it was saved: the run goes on from step 2, from a
    # workdir with predictions of step 3, and comes past step 3 again with another state.
    again = {**states, 3: states[5]}
    run(config, parts, (1, 2, 3), again)
    resumed, _ = run(config, parts, (3, 4), states, start=2)
    assert resumed == results[2:4]
    # The same further back; predictions that came later than the start are of no use.
    run(config, parts, (5,), again, start=4)
    resumed, _ = run(config, parts, (4, 5), states, start=3)
    assert resumed == results[3:5]
    assert logs.evaluations(parts) == results

    # Without its predictions, or with those of other images, there is nothing to compare with.
    (parts / "agreement" / "00000005.npz").unlink()
    assert run(config, parts, (6,), states, start=5)[0][0]["agreement"] is None
    storage_results.save_maps(parts / "agreement", 5, {"00ff": np.zeros((2, 2), np.uint8)}, 9)
    assert run(config, parts, (6,), states, start=5)[0][0]["agreement"] is None
    # A few more are kept than there are checkpoints.
    assert len(list((whole / "agreement").iterdir())) == 3


def test_the_score_is_the_evaluators(config, tmp_path):
    method, states = make_method(config), different_states(config, [1])
    (result,), _ = run(config, tmp_path, (1,), states)
    names = settings.label_set(config).classes
    evaluator = make_evaluator(method.predict, len(names), jax.local_devices())
    model = (states[1].params, states[1].stats, states[1].memory)
    alone, _ = evaluator(*model, batches.eval_batches(config), names)
    assert {key: result[key] for key in alone} == alone
    source, _ = evaluator(*model, batches.source_eval_batches(config), names)
    assert result["source_miou"] == source["miou"]
    config.eval.source_images = 0
    (result,), lines = run(config, tmp_path / "other", (1,), states)
    assert "source_miou" not in result and "source" not in lines[0]


def test_what_a_method_that_predicts_depth_is_told_of(config, tmp_path):
    def depth(params, stats, memory, images):
        return images.mean(-1)[:, ::4, ::4] / 4 + 1

    states = different_states(config, [1])
    config.eval.update(dict(source_images=0, boundary="always", depth_cap=50.0))
    (result,), (line,) = run(config, tmp_path, (1,), states, depth=depth)
    assert result["depth"]["cap"] == 50.0 and result["depth"]["images"] == 3
    assert f"abs rel {result['depth']['abs_rel']:.3f}" in line
    assert 0 <= result["boundary_miou"] <= 1
    assert logs.evaluations(tmp_path) == [result]


def test_images_of_several_sizes_at_full_resolution(config, tmp_path, monkeypatch):
    for i, size in enumerate([(48, 96), (48, 96), (40, 72)]):
        name = f"val/bonn/bonn_{i:06d}_000019"
        root = tmp_path / "raw" / "cityscapes"
        save(root / f"leftImg8bit/{name}_leftImg8bit.png", draw(i, *size, 3))
        save(root / f"gtFine/{name}_gtFine_labelIds.png", draw(i, *size, high=34))
    config.data.root, config.data.records = str(tmp_path / "raw"), str(tmp_path / "records")
    config.data.target.name, config.data.target.options = "cityscapes", {}
    config.eval.update(dict(full_resolution=True, source_images=0))
    read, size_of = [], codec.size_of
    monkeypatch.setattr(codec, "size_of", lambda data: read.append(1) or size_of(data))
    results, _ = run(config, tmp_path / "run", (1, 2), different_states(config, (1, 2)))
    assert len(read) == 3  # looked up for the first evaluation alone
    assert [r["images"] for r in results] == [3, 3] and 0 < results[1]["agreement"] < 1
    maps = storage_results.load_maps(tmp_path / "run" / "agreement", 2)
    assert sorted(m.shape for m in maps.values()) == [(6, 10), (7, 13), (7, 13)]
    snapshots.conclude(str(tmp_path / "run"), 0, Console(file=io.StringIO()))
    assert (tmp_path / "run" / "report.html").exists()


def evaluations(workdir, steps=(10, 20, 30, 40)):
    with logs.open_logs(workdir) as log:
        for i, step in enumerate(steps):
            result = {"split": "val", "miou": 0.2 + i / 10, "pixel_accuracy": 0.5, "images": 3}
            result |= {"entropy": 0.4, "neighbourhood_density": 2.0 - i, "agreement": None}
            iou = {"road": 0.5, "sky": None}
            log.evaluation(step, {**result, "iou": iou, "pixels": {"road": 1.0, "sky": 0.0}})


def test_the_end_of_a_run(tmp_path, capsys):
    evaluations(tmp_path)
    text = io.StringIO()
    snapshots.conclude(str(tmp_path), 20, Console(file=text, width=80))
    assert json.loads((tmp_path / "results.json").read_text())["step"] == 40
    assert (tmp_path / "results.txt").read_text().startswith("IoU Class: 0.5\niIoU Class: nan\n")
    chosen = json.loads((tmp_path / "selection.json").read_text())
    assert chosen == selection.compare(logs.evaluations(tmp_path), 20)
    printed = " ".join(text.getvalue().replace("│", " ").split())
    assert "3 evaluations from the end of the warm-up, step 20, on" in printed
    # Of snapshots 20, 30, 40 the density prefers the worst, entropy is of no use.
    assert "soft neighbourhood density 20 30.0 20.0 -1.00" in printed
    assert "mean entropy (lowest) 40 50.0 0.0 – " in printed
    assert "last step (no criterion) 40 50.0 0.0 +1.00 " in printed
    assert "target labels 40 50.0 " in printed and "agreement" not in printed
    assert "--step=entropy|neighbourhood_density evaluates or predicts" in printed
    assert "…" not in text.getvalue()
    told = capsys.readouterr().out
    assert "target mIoU 30.00 % at step 20 (end of the warm-up)" in told and "report.html" in told


def test_a_run_without_target_labels(tmp_path, capsys):
    evaluations(tmp_path)
    lines = [{**line, "miou": None} for line in logs.read(tmp_path)]
    (tmp_path / logs.FILE).write_text("".join(json.dumps(line) + "\n" for line in lines))
    text = io.StringIO()
    snapshots.conclude(str(tmp_path), 0, Console(file=text, width=80))
    printed = " ".join(text.getvalue().replace("│", " ").split())
    assert "soft neighbourhood density 10 " in printed and "4 evaluations" in printed
    assert "–" not in printed and "mIoU %" not in printed  # no empty columns
    told = capsys.readouterr().out
    assert "road" not in printed and "no labels" in told and "target mIoU" not in told
    assert (tmp_path / "report.html").exists()
