"""Using trained networks: checkpoints, weight files, folders of them, ensembles."""

import json
import re
import shutil

import jax
import numpy as np
import pytest
from kit.raw_cityscapes import write_cityscapes
from kit.runs import drawn, reference_names, write_run
from kit.small import small_config
from ml_collections import ConfigDict
from PIL import Image

from jaxseg.errors import UserError
from jaxseg.evaluation.evaluator import make_evaluator
from jaxseg.experiment import batches, ensembles, restore
from jaxseg.experiment import settings as experiment_settings
from jaxseg.experiment.finished import Wanted
from jaxseg.experiment.method import make_method, make_predictor
from jaxseg.experiment.optimisers import make_optimisers
from jaxseg.experiment.state import abstract_state
from jaxseg.run import evaluate as run_evaluate
from jaxseg.run import predict as run_predict
from jaxseg.storage import logs, run_folder
from jaxseg.storage.checkpoints import checkpoint


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return tmp_path_factory.mktemp("records")


@pytest.fixture
def config(records):
    return small_config("advent", records)


def other_config(records):
    """Another method with another network for the same classes."""
    config = small_config("source_only", records)
    config.net.update(dict(rates=(1, 2, 3), preprocess="caffe", aux=False))
    return config


@pytest.fixture(scope="module")
def run(records, tmp_path_factory):
    """A run of `config` with two checkpoints; only results are written into it."""
    folder = tmp_path_factory.mktemp("run")
    return write_run(small_config("advent", records), folder, {2: 0.3, 4: 0.1})


def pixels(seed, *shape, high=256):
    return np.random.default_rng(seed).integers(0, high, shape).astype(np.uint8)


def config_of_folder(size, **options):
    """A target in `images/{split}` and `labels/{split}` of data.root."""
    paths = dict(images="images/{split}", labels="labels/{split}")
    return ConfigDict(
        dict(
            name="folder",
            split="val",
            val_split="val",
            size=size,
            options=ConfigDict(paths | options),
        )
    )


def by_hand(config, loaded):
    """The evaluator's result for a network, without `apply`."""
    classes = experiment_settings.label_set(config).classes
    predict = make_predictor(config, loaded.method)
    evaluator = make_evaluator(predict, len(classes), scored=experiment_settings.scored(config))
    model = (loaded.model[key] for key in ("params", "stats", "memory"))
    return evaluator(*model, batches.eval_batches(config), classes)[0]


def test_every_snapshot_of_a_run(config, run, capsys):
    config.eval.also = ("synthia16", "synthia13")
    best = run_evaluate.evaluate(config, str(run), Wanted("all"))
    printed = capsys.readouterr().out
    saved = json.loads((run / "snapshots.json").read_text())
    assert [s["step"] for s in saved["snapshots"]] == [2, 4]
    assert saved["chosen_with"] == "target labels"
    assert saved["best"] == best["name"] == max(saved["snapshots"], key=lambda s: s["miou"])["name"]
    assert "* best, chosen with target labels" in printed
    assert f"│ {best['step']} * " in printed and printed.count(" * ") == 1
    assert "mIoU synthia13" in printed.replace("\n", " ") and "entropy" in printed
    # The same as each alone; 'best' is the best of the run's log.
    alone = run_evaluate.evaluate(config, str(run), Wanted("best"))
    assert alone["step"] == 2
    keys = ("miou", "entropy", "miou_synthia16", "miou_synthia13")
    assert [alone[k] for k in keys] == [saved["snapshots"][0][k] for k in keys]
    results = json.loads((run / "results.json").read_text())
    assert results["protocol"]["flip"] is False and results["protocol"]["image_size"] == [32, 64]


def test_the_test_split_of_own_images_is_scored_as_numpy_scores_what_is_predicted(
    config, run, tmp_path
):
    """What --split=test does is to set `val_split`."""
    truths = {"val": pixels(3, 1, 32, 64, high=19), "test": pixels(4, 2, 32, 64, high=19)}
    for split, labels in truths.items():
        for i, label in enumerate(labels):
            for kind, array in (("images", pixels(i, 32, 64, 3)), ("labels", label)):
                path = tmp_path / kind / split / f"{i}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(array).save(path)
    config.data.root = str(tmp_path)
    config.data.target = config_of_folder((32, 64), classes="cityscapes", label_values="index")
    found = {}
    for split, labels in truths.items():
        config.data.target.val_split = split
        result = found[split] = run_evaluate.evaluate(config, str(run), Wanted("last"))
        images, output = tmp_path / "images" / split, tmp_path / "out" / split
        run_predict.predict(config, str(run), str(images), str(output), Wanted("last"))
        ids = np.stack([Image.open(output / f"{i}_id.png") for i in range(len(labels))])
        ious = [
            ((ids == k) & (labels == k)).sum() / union
            for k in range(19)
            if (union := ((ids == k) | (labels == k)).sum())
        ]
        assert (result["split"], result["images"]) == (split, len(labels))
        assert result["miou"] == pytest.approx(np.mean(ious), abs=1e-12)
        assert json.loads((run / "results.json").read_text())["split"] == split
    assert found["val"]["miou"] != found["test"]["miou"]
    config.data.target.val_split = "night"
    with pytest.raises(UserError, match="no folder .*images/night.* holds test, val"):
        run_evaluate.evaluate(config, str(run), Wanted("last"))


def test_a_snapshot_chosen_without_target_labels(config, records, tmp_path, capsys):
    entropies = {1: 0.1, 2: 0.4, 3: 0.3, 4: 0.2, 5: 0.6}
    results = {s: {"miou": s / 10, "entropy": e, "agreement": None} for s, e in entropies.items()}
    folder = write_run(config, tmp_path / "a", results)
    with logs.open_logs(folder) as log:
        for step, result in results.items():
            log.evaluation(step, {**result, "iou": {}})
    # From step 2 on, the end of the warm-up.
    assert run_evaluate.evaluate(config, str(folder), Wanted("entropy"))["step"] == 4
    printed = capsys.readouterr().out
    assert "val, step 4, 3 images" in printed and "there is no checkpoint" not in printed
    both = ensembles.load(config, f"{folder}@entropy,{folder}", announce=lambda line: None)
    assert both.facts["ensemble"] == [f"{folder}@4", f"{folder}@5"]
    with pytest.raises(UserError, match="has agreement from step 2, the end .* choose best, last"):
        ensembles.load(config, f"{folder}@agreement", announce=lambda line: None)
    # A method without warm-up counts from the beginning.
    plain = other_config(records)
    other = write_run(plain, tmp_path / "b", results)
    (loaded,) = restore.from_workdir(plain, other, "entropy", announce=lambda line: None)
    assert loaded.facts == {"step": 1}
    # What the criterion chose but nobody kept is told of.
    shutil.rmtree(folder / "checkpoints" / "00000004")
    told = []
    (loaded,) = restore.from_workdir(config, folder, "entropy", announce=told.append)
    assert loaded.facts == {"step": 3} and told == [
        "entropy is step 4 of this run, of which there is no checkpoint: using step 3, the choice "
        "among those kept"
    ]


def test_a_protocol_is_said_and_used(config, run, capsys):
    config.eval.update(dict(flip=True, scales=(0.5, 1.0), window=(24, 48), full_resolution=True))
    result = run_evaluate.evaluate(config, str(run))
    told = "with full resolution, scales 0.5 1, flip, windows of 24x48"
    assert told in capsys.readouterr().out
    loaded = restore.first(restore.from_workdir(config, run))
    expected = by_hand(config, loaded)
    assert result["miou"] == expected["miou"] and result["entropy"] == expected["entropy"]
    config.eval.window = (24,)
    with pytest.raises(UserError, match=r"config.eval.window=\(24,\) is not \(height, width\)"):
        run_evaluate.evaluate(config, str(run))


# --- weight files ---


@pytest.fixture
def published(config, tmp_path):
    """(config with the network's own settings, folder of published-looking snapshots, and the
    last one's values)."""
    own = config.copy_and_resolve_references()
    own.net.update(dict(rates=(6, 12, 18, 24), preprocess="caffe"))
    config.net.backbone = "small"  # the file is of another one
    folder = tmp_path / "snapshots"
    folder.mkdir()
    for step in (10, 9):
        state = drawn(own, step)
        net, stats = state.params["gen"]["segmenter"], state.stats["segmenter"]
        np.savez(folder / f"GTA5_{step}.npz", **reference_names(net, stats))
    np.savez(folder / "GTA5_9_D1.npz", **{"conv1.weight": np.zeros((64, 19, 4, 4), np.float32)})
    return own, folder, state


def test_published_weights_evaluate_and_become_a_run(config, published, tmp_path, capsys):
    own, folder, state = published
    results, run = tmp_path / "results", tmp_path / "run"
    file = str(folder / "GTA5_9.npz")
    result = run_evaluate.evaluate(config, str(results), Wanted(weights=file, save=str(run)))
    printed = capsys.readouterr().out
    assert "19 classes" in printed and "config.net.preprocess=caffe (was imagenet)" in printed
    assert "left over      0" in printed and "missing        0" in printed
    assert f"saved as step 0 of {run}" in printed
    assert "--config.net.backbone=tiny" in printed and "rates=(6,12,18,24)" in printed
    assert json.loads((results / "results.json").read_text())["weights"] == file
    # What a network under this project's own names says under the right settings.
    model = {"params": state.params, "stats": state.stats, "memory": state.memory}
    expected = by_hand(own, restore.Loaded("", {}, own, make_method(own), model))
    assert result["miou"] == expected["miou"] and result["entropy"] == expected["entropy"]
    # The run is evaluated with its own settings, and not under another method's, ...
    with pytest.raises(UserError, match=f"the method {config.method.name}, but .*=minent"):
        restore.first(restore.from_workdir(small_config("minent", own.data.records), run))
    again = restore.first(restore.from_workdir(config, run, announce=lambda line: None))
    assert again.facts == {"step": 0} and again.config.net.backbone == "tiny"
    for a, b in zip(
        jax.tree.leaves(again.model["stats"]), jax.tree.leaves(state.stats), strict=True
    ):
        np.testing.assert_array_equal(a, b)
    # ... and trained on from: the whole state is there, and the config is accepted.
    run_folder.compare_config(own, str(run))
    method, players = make_method(own), make_optimisers(own)
    with checkpoint.open_manager(run / "checkpoints") as manager:
        start = checkpoint.restore_state(manager, abstract_state(own, method, players))
    assert start.step == 0 and all(np.isfinite(x).all() for x in jax.tree.leaves(start))
    for a, b in zip(
        jax.tree.leaves(start.params["gen"]), jax.tree.leaves(state.params["gen"]), strict=True
    ):
        np.testing.assert_array_equal(a, b)
    assert not any(np.any(x) for x in jax.tree.leaves(start.opt))
    with pytest.raises(UserError, match="holds checkpoints already"):
        run_evaluate.evaluate(config, str(results), Wanted(weights=file, save=str(run)))


def test_settings_given_by_hand_stay(config, published):
    _, folder, _ = published
    lines = []
    given = {"net.preprocess", "net.rates"}
    config.net.rates = (1, 2, 3, 4)
    loaded = restore.from_weights(config, folder / "GTA5_9.npz", given=given, announce=lines.append)
    assert loaded.config.net.preprocess == "imagenet" and loaded.config.net.rates == (1, 2, 3, 4)
    assert loaded.config.net.backbone == "tiny"
    assert config.net.backbone == "small"  # the given config is left alone


def test_what_a_preset_says_of_summed_rates_stays(config, published):
    """The file's branches are not N(0, 0.01), which says nothing of a network begun otherwise."""
    _, folder, _ = published
    lines = []
    config.net.summed = 2
    loaded = restore.from_weights(config, folder / "GTA5_9.npz", announce=lines.append)
    assert loaded.config.net.summed == 2 and any("--config.net.summed=0" in line for line in lines)
    config.net.summed = 0
    loaded = restore.from_weights(config, folder / "GTA5_9.npz", announce=lines.append)
    assert loaded.config.net.summed == 0


def test_all_endings_of_weight_files_are_found_in_a_folder(tmp_path):
    names = ["s_2.pth.tar", "s_10.ckpt", "s_1.bin", "s_3.safetensors", "s_4.PTH"]
    for name in (*names, "s_3_D1.pth.tar", "notes.tar", ".s_0.pth", "vgg.caffemodel"):
        (tmp_path / name).touch()
    lines = []
    found = restore.weight_files(tmp_path, announce=lines.append)
    numbers = [int(re.search(r"\d+", path.name)[0]) for path in found]
    assert numbers == [1, 2, 3, 4, 10] and {path.name for path in found} == set(names)
    assert lines == ["discriminators passed over: s_3_D1.pth.tar"]


def test_a_folder_of_weights(config, published, tmp_path, capsys, monkeypatch):
    _, folder, _ = published
    made = []
    original = run_evaluate.make_evaluator
    monkeypatch.setattr(
        run_evaluate, "make_evaluator", lambda *a, **k: made.append(1) or original(*a, **k)
    )
    run_evaluate.evaluate(config, str(tmp_path / "out"), Wanted(weights=str(folder)))
    printed = capsys.readouterr().out
    saved = json.loads((tmp_path / "out" / "snapshots.json").read_text())
    assert [s["name"] for s in saved["snapshots"]] == ["GTA5_9.npz", "GTA5_10.npz"]
    assert "discriminators passed over: GTA5_9_D1.npz" in printed
    assert printed.count("matched") == 1 and len(made) == 1  # one report, one program
    (tmp_path / "none").mkdir()
    with pytest.raises(UserError, match="none: no .npz, .safetensors, .* file in it"):
        run_evaluate.evaluate(config, str(tmp_path), Wanted(weights=str(tmp_path / "none")))


def test_another_number_of_classes_is_refused(config, published):
    _, folder, _ = published
    config.data.classes = "synthia16"
    message = r"predicts 19 classes, but config.data.classes=synthia16 has 16: give .*\(cityscapes"
    with pytest.raises(UserError, match=message):
        run_evaluate.evaluate(config, "unused", Wanted(weights=str(folder / "GTA5_9.npz")))


# --- ensembles ---


def test_an_ensemble_of_runs_with_other_methods_and_networks(
    config, run, records, tmp_path, capsys
):
    other = other_config(records)
    second = write_run(other, tmp_path / "b", {6: 0.3})
    text = f"{run}@last,{second}"
    result = run_evaluate.evaluate(
        config, str(tmp_path / "out"), Wanted(ensemble=text, ensemble_weights="3,1")
    )
    assert f"ensemble: 0.75 of {run}@4" in capsys.readouterr().out
    saved = json.loads((tmp_path / "out" / "results.json").read_text())
    assert saved["ensemble_weights"] == [0.75, 0.25] and saved["ensemble"][1] == f"{second}@6"

    # Mean logits at the network's stride, then as any network.
    a, b = (
        restore.first(restore.from_workdir(c, folder, "last"))
        for c, folder in ((config, run), (other, second))
    )

    def mean(params, stats, memory, images):
        parts = [
            one.method.predict(one.model["params"], one.model["stats"], {}, images)
            for one in (a, b)
        ]
        return 0.75 * parts[0] + 0.25 * parts[1]

    expected = by_hand(config, a._replace(method=a.method._replace(predict=mean)))
    assert result["miou"] == pytest.approx(expected["miou"], abs=1e-4)
    assert result["entropy"] == pytest.approx(expected["entropy"], abs=1e-5)

    # The same for pictures.
    Image.fromarray(np.full((20, 40, 3), 90, np.uint8)).save(tmp_path / "photo.png")
    photo, seen, wanted = tmp_path / "photo.png", tmp_path / "seen", Wanted(ensemble=text)
    done = run_predict.predict(config, "unused", str(photo), str(seen), wanted, submission=True)
    assert done == (1, [])
    ids = np.asarray(Image.open(tmp_path / "seen" / "photo_labelIds.png"))
    assert ids.shape == (20, 40) and set(np.unique(ids)) <= set(
        experiment_settings.label_set(config).ids
    )


@pytest.mark.parametrize(
    "members, weights, message",
    [
        ("{a},", "", "without empty places"),
        ("{a},nowhere", "", "'nowhere' is neither the folder of a run nor a weights file"),
        ("{a}@3", "", "no checkpoint of step 3 in .* it holds 2, 4"),
        ("{a}@x", "", "neither the folder"),
        ("{a},{a}", "1", "1 weights for 2 networks; give one for each"),
        ("{a},{a}", "1,-1", "none may be negative"),
        ("{a},{a}", "1,x", "could not convert string to float: 'x'"),
        ("{empty},{a}", "", "config.json is not the readable config of a run"),
        ("{camvid},{a}", "", "predicts the classes of camvid, but config.data.classes=cityscapes"),
        ("{old},{a}", "", "is not of this version of jaxseg .*aux"),
    ],
)
def test_members_that_do_not_fit(config, run, tmp_path, members, weights, message):
    folders = {"a": run} | {name: tmp_path / name for name in ("empty", "camvid", "old")}
    folders["empty"].mkdir()
    for name, change in (("camvid", ("data", "classes", "camvid")), ("old", ("net", "aux", None))):
        folders[name].mkdir()
        settings = json.loads(config.to_json())
        group, key, value = change
        settings[group][key] = value
        if value is None:
            del settings[group][key]
        (folders[name] / "config.json").write_text(json.dumps(settings))
    with pytest.raises(UserError, match=message):
        ensembles.load(config, members.format(**folders), weights, announce=lambda line: None)


# --- images for evaluation ---


def test_images_for_evaluation_are_resized_or_as_stored(config, tmp_path):
    write_cityscapes(tmp_path / "raw")
    config.data.root, config.data.records = str(tmp_path / "raw"), str(tmp_path / "records")
    config.data.target.update(dict(name="cityscapes", size=(24, 48)))
    config.data.target.options = {}
    config.eval.batch = 1
    resized = list(batches.eval_batches(config))
    assert [b["image"].shape for b in resized] == [(1, 24, 48, 3)] * 2
    config.eval.full_resolution = True
    whole = list(batches.eval_batches(config))
    assert [b["image"].shape for b in whole] == [(1, 48, 96, 3)] * 2
    for a, b in zip(resized, whole, strict=True):
        assert a["label"].shape == (1, 48, 96) and a["id"] == b["id"]
        np.testing.assert_array_equal(a["label"], b["label"])
        small = Image.fromarray(b["image"][0]).resize((48, 24), Image.Resampling.BICUBIC)
        np.testing.assert_array_equal(a["image"][0], np.asarray(small))


def test_source_validation_images(config):
    config.data.source.options.counts.val = 5
    ids = [i for b in batches.source_eval_batches(config) for i in b["id"] if i]
    assert len(ids) == 5
    config.eval.source_images = 2
    (batch,) = batches.source_eval_batches(config)
    assert batch["id"] == [ids[0], ids[2]] and batch["valid"].all()
    assert batch["image"].shape == (2, 32, 64, 3) and batch["label"].shape == (2, 32, 64)
    config.eval.source_images = 0
    assert batches.source_eval_batches(config) is None
    config.eval.source_images, config.data.source.val_split = 2, ""
    assert batches.source_eval_batches(config) is None
