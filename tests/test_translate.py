"""--mode=translate: looks, a run, a published generator; resuming, refusing, training on it."""

import json

import jax
import numpy as np
import pytest
from kit.small import SIZE, small_config

from jaxseg.cli import modes
from jaxseg.data import codec
from jaxseg.errors import UserError
from jaxseg.experiment import batches, features, networks, preparation
from jaxseg.experiment.finished import Wanted
from jaxseg.experiment.method import make_method
from jaxseg.experiment.optimisers import make_optimisers
from jaxseg.experiment.state import first_state
from jaxseg.run import translate
from jaxseg.storage import run_folder
from jaxseg.storage.checkpoints import checkpoint
from jaxseg.storage.weights import files


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return tmp_path_factory.mktemp("records")


def begun(config, workdir):
    """The folder of a run before its first step."""
    preparation.prepare(config, ("source_image", "source_label", "target_image"))
    state = first_state(config, make_method(config), make_optimisers(config))
    run_folder.write_config(config, workdir)
    with checkpoint.open_manager(run_folder.checkpoints(workdir)) as manager:
        checkpoint.save(manager, jax.device_get(state), {}, None)
    return str(workdir)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, records):
    """A tiny CycleGAN run before its first step."""
    config = small_config("cyclegan", records)
    config.train.warmup_steps = 0
    config.translator.update(dict(architecture="cyclegan", disc_width=2, disc_layers=1))
    config.method.settings.pool = 2
    return config, begun(config, tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def judge(tmp_path_factory, records):
    """A run of another method, the source alone, as the documentation has it."""
    return begun(small_config("source_only", records), tmp_path_factory.mktemp("judge"))


@pytest.fixture(autouse=True)
def plain_features(monkeypatch):
    """The mean colour in place of EfficientNet-Lite0, which has a test of its own."""
    monkeypatch.setattr(features, "lite0", lambda: lambda images: images.mean((1, 2)))


def images(folder, kind):
    paths = sorted((folder / "source" / kind).iterdir())
    return {path.name: codec.decode_any(path.read_bytes()) for path in paths}


def test_a_run_of_gio_ada_translates_too(tmp_path, records):
    config = small_config("gio_ada", records)
    config.train.warmup_steps = 0
    (tmp_path / "run").mkdir()
    workdir = begun(config, tmp_path / "run")
    told = translate.translate(config, workdir, str(tmp_path / "out"))
    pictures = images(tmp_path / "out", "images")
    assert len(pictures) == 6 == told["images"] and "content" not in told
    assert all(picture.shape == (*SIZE, 3) for picture in pictures.values())


def test_a_run_translates_and_is_trained_on(trained, judge, tmp_path, records, capsys):
    config, workdir = trained
    folder = tmp_path / "out"
    told = translate.translate(config, workdir, str(folder), judge=judge)
    pictures, labels = images(folder, "images"), images(folder, "labels")
    assert len(pictures) == 6 == told["images"] and pictures.keys() == labels.keys()
    assert told["finished"] and told["lite0_frechet"].keys() == {"before", "after"}
    assert told["lite0_variety"].keys() == {"before", "after", "target"}
    assert min(told["lite0_variety"].values()) > 0
    assert told["content"].keys() == {"run", "before", "after"}
    for scores in (told["content"]["before"], told["content"]["after"]):
        np.testing.assert_allclose(np.mean(list(scores["iou"].values())), scores["miou"])
    content = {when: dict(iou=iou) for when, iou in (
        ("before", dict(sky=0.9, tree=0.6, road=0.8, car=0.5, bus=0.2)),
        ("after", dict(sky=0.5, tree=0.1, road=0.8, car=0.4)),
    )}  # fmt: skip
    fallen = "tree 60.0 -> 10.0 %, sky 90.0 -> 50.0 %, bus 20.0 -> 0.0 %"
    assert translate._lost(content) == fallen
    assert translate._lost(dict(before=content["after"], after=content["after"])) == ""
    assert translate._lost(None) == ""
    assert (folder / "sheet.jpg").stat().st_size > 1000
    out = capsys.readouterr().out
    assert "data.translated=" in out and "Fréchet distance to the target's 6 images" in out
    for batch in batches.labelled_images(config, "source", 1):
        assert batch[0].shape == next(iter(pictures.values())).shape
    # Again: nothing is computed anew, and a file that is missing comes back.
    kept = {path: path.stat().st_mtime_ns for path in (folder / "source/images").iterdir()}
    lost = sorted(kept)[-1]
    lost.unlink()
    assert translate.translate(config, workdir, str(folder), judge=judge) == told
    again = images(folder, "images")
    assert all(np.array_equal(again[name], pictures[name]) for name in pictures)
    other = small_config("source_only", records)
    other.data.translated = str(folder)
    networks.settle(other)
    (image, label), *_ = batches.labelled_images(other, "source", 1)
    assert other.data.source.name == "folder"
    first = sorted(pictures)[0]
    np.testing.assert_array_equal(image, pictures[first])
    np.testing.assert_array_equal(label, labels[first])
    assert other.data.translated == str(folder.resolve())
    (folder / "translation.json").unlink()  # its config is still that of a run that can be loaded
    networks.settle(other)


def test_a_checkpoint_of_the_warm_up_is_refused(tmp_path, records):
    config = small_config("cyclegan", records)
    config.translator.update(dict(disc_width=2, disc_layers=1))
    (tmp_path / "run").mkdir()
    workdir = begun(config, tmp_path / "run")
    with pytest.raises(UserError, match="step 0 of cyclegan_streets is of the warm-up, whose 2 st"):
        translate.translate(config, workdir, str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_trained_translator_takes_any_size(trained, tmp_path):
    config, workdir = trained
    config = config.copy_and_resolve_references()
    config.data.source.size = (30, 62)
    translate.translate(config, workdir, str(tmp_path / "out"))
    assert {image.shape for image in images(tmp_path / "out", "images").values()} == {(30, 62, 3)}


def test_the_command_line_takes_the_last_step():
    assert modes.default_step("translate") == "last" and modes.default_step("evaluate") == "best"


def test_another_set_of_classes_is_refused(tmp_path, records):
    config = small_config("source_only", records)
    config.augment.source.lab = 1.0
    translate.translate(config, "", str(tmp_path / "out"))
    noted = tmp_path / "out/translation.json"
    before = json.loads(noted.read_text())
    noted.write_text(json.dumps({k: v for k, v in before.items() if k != "classes"}))
    translate.translate(config, "", str(tmp_path / "out"))  # noted by an older version
    assert json.loads(noted.read_text()) == before
    config.data.classes = "synthia16"
    with pytest.raises(UserError, match="by lab with another classes: give a new"):
        translate.translate(config, "", str(tmp_path / "out"))


@pytest.mark.parametrize("name, value", [("lab", 1.0), ("fda", 0.05)])
def test_own_images_keep_their_proportions(name, value, tmp_path):
    """Of two shapes, neither that of `data.source.size`, and so in the training on them."""
    draw, root = np.random.default_rng(0), tmp_path / "own"
    for side in ("source", "target"):
        for kind in ("images", "labels"):
            (root / side / kind).mkdir(parents=True)
        for number, shape in enumerate(((60, 100), (64, 80), (60, 100))):
            image = draw.integers(0, 256, (*shape, 3)).astype(np.uint8)
            (root / side / "images" / f"{number}.png").write_bytes(codec.encode_png(image))
            label = draw.integers(0, 2, shape).astype(np.uint8)
            (root / side / "labels" / f"{number}.png").write_bytes(codec.encode_png(label))
    (root / "classes.txt").write_text("road\nsky\n")
    config = small_config("source_only", tmp_path / "records", "folders")
    config.data.root = str(root)
    config.augment.source[name] = value
    folder = tmp_path / "out"
    translate.translate(config, "", str(folder))
    written = images(folder, "images")
    assert {image.shape for image in written.values()} != {(*SIZE, 3)}
    other = small_config("source_only", tmp_path / "records", "folders")
    other.data.root, other.data.translated = str(root), str(folder)
    networks.settle(other)
    preparation.prepare(other, ("source_image", "source_label", "target_image"))
    seen = [image for image, _ in batches.labelled_images(other, "source", 3)]
    assert {image.shape for image in seen} == {image.shape for image in written.values()}


@pytest.mark.parametrize("name, value", [("lab", 0.5), ("histogram", 1.0), ("fda", 0.05)])
def test_looks_translate_without_a_run(name, value, tmp_path, records):
    config = small_config("source_only", records)
    config.augment.source[name] = value
    for attempt in ("a", "b"):
        translate.translate(config, "", str(tmp_path / attempt))
    one, two = (images(tmp_path / attempt, "images") for attempt in ("a", "b"))
    assert all(np.array_equal(one[key], two[key]) for key in one)
    source = [image for image, _ in batches.labelled_images(config, "source", 6)]
    assert any(not np.array_equal(a, b) for a, b in zip(source, one.values(), strict=True))


def test_what_would_be_other_images_is_refused(trained, tmp_path, records):
    """Another network of the same config and step, another source, another target."""
    config, workdir = trained
    folder = str(tmp_path / "out")
    translate.translate(config, workdir, folder)
    again = config.copy_and_resolve_references()
    again.seed = 1
    retrained = begun(again, tmp_path / "retrained")
    with pytest.raises(UserError, match="by cyclegan_streets with another network: give a new"):
        translate.translate(again, retrained, folder)
    config.data.source.size = (16, 32)  # other than the size of the images in the run's pool
    with pytest.raises(UserError, match="with another source: give a new"):
        translate.translate(config, workdir, folder)
    config.data.source.size = SIZE
    looks = small_config("source_only", records)
    looks.augment.source.lab = 1.0
    translate.translate(looks, "", str(tmp_path / "looks"))
    looks.data.target.options.domain = "rendered"
    with pytest.raises(UserError, match="by lab with another target"):
        translate.translate(looks, "", str(tmp_path / "looks"))


def test_a_band_without_a_frequency_is_refused(tmp_path, records):
    config = small_config("fda", records)
    config.augment.source.fda = 0.03  # 0.96 of a frequency of 32 rows
    with pytest.raises(UserError, match="less than one frequency: give 0.032 or more"):
        translate.translate(config, "", str(tmp_path / "out"))


def test_a_published_generator_translates(tmp_path, records):
    draw, path = np.random.default_rng(0), tmp_path / "latest_net_G_A.npz"
    shapes = {"1": (4, 3, 7, 7), "4": (8, 4, 3, 3), "7": (16, 8, 3, 3), "11": (16, 8, 3, 3),
              "14": (8, 4, 3, 3), "18": (3, 4, 7, 7), "10.conv_block.1": (16, 16, 3, 3),
              "10.conv_block.5": (16, 16, 3, 3)}  # fmt: skip
    biases = {"11": 8, "14": 4}
    tensors = {f"model.{k}.weight": draw.normal(0, 0.1, s).astype("f4") for k, s in shapes.items()}
    tensors |= {f"model.{k}.bias": np.zeros(biases.get(k, s[0]), "f4") for k, s in shapes.items()}
    np.savez(path, **tensors)
    config = small_config("source_only", records)
    told = translate.translate(config, "", str(tmp_path / "out"), Wanted(weights=str(path)))
    assert told["by"] == "CycleGAN" and len(images(tmp_path / "out", "images")) == 6
    np.savez(path, **{"model.1.weight": tensors["model.1.weight"]})
    with pytest.raises(UserError, match="not a generator of CycleGAN"):
        translate.translate(config, "", str(tmp_path / "new"), Wanted(weights=str(path)))
    assert files.load(path).keys() == {"model.1.weight"}


def test_what_cannot_be_translated(trained, tmp_path, records):
    config, workdir = trained
    plain = small_config("source_only", records)
    with pytest.raises(UserError, match="does not translate images"):
        translate.translate(plain, "", str(tmp_path / "out"))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="is not empty"):
        translate.translate(config, workdir, str(tmp_path / "full"))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "translation.json").write_text(json.dumps({"by": "advent"}))
    with pytest.raises(UserError, match="holds a translation by advent with another"):
        translate.translate(config, workdir, str(tmp_path / "other"))
    plain.data.translated = str(tmp_path / "other")
    with pytest.raises(UserError, match="unfinished"):
        networks.settle(plain)
