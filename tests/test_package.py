"""`jaxseg.load` and the short names: what a Python program that uses the package sees."""

import concurrent.futures
import doctest
import subprocess
import sys

import numpy as np
import pytest
from kit.runs import drawn, reference_names, write_run
from kit.small import small_config
from PIL import Image

import jaxseg
from jaxseg import routes
from jaxseg.losses import segmentation
from jaxseg.models.network import Network
from jaxseg.run import maps, predict, segment


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    config = small_config("source_only", tmp_path_factory.mktemp("records"))
    return write_run(config, tmp_path_factory.mktemp("run"), {2: 0.3, 4: 0.1})


@pytest.fixture(scope="module")
def model(run):
    return jaxseg.load(run)


PHOTO = np.random.default_rng(0).integers(0, 256, (24, 40, 3)).astype(np.uint8)


def test_a_model_predicts_what_the_mode_predicts(run, model, tmp_path):
    Image.fromarray(PHOTO).save(tmp_path / "photo.png")
    predict.predict(model.config, str(run), str(tmp_path / "photo.png"), str(tmp_path / "out"))
    ids, overlay = (
        np.asarray(Image.open(tmp_path / "out" / f"photo_{kind}.png")) for kind in ("id", "overlay")
    )
    out = model(PHOTO)
    assert out.labels.dtype == np.int32 and out.classes[10] == "sky"
    np.testing.assert_array_equal(out.labels, ids)
    np.testing.assert_array_equal(out.overlay(), overlay)
    # The maps agree with each other in float64.
    shares = out.probabilities.astype(np.float64)
    assert shares.shape == (24, 40, 19)
    np.testing.assert_allclose(shares.sum(-1), 1, atol=1e-5)
    np.testing.assert_array_equal(shares.argmax(-1), out.labels)
    expected = -(shares * np.log(shares)).sum(-1) / np.log(19)
    np.testing.assert_allclose(out.entropy, expected, atol=1e-5)
    # However the image is given.
    for given in (tmp_path / "photo.png", str(tmp_path / "photo.png"), Image.fromarray(PHOTO)):
        np.testing.assert_array_equal(model(given).labels, ids)
    batch = model(np.stack([PHOTO, PHOTO[:, ::-1]]))
    assert batch.labels.shape == (2, 24, 40) and batch.overlay().shape == (2, 24, 40, 3)
    np.testing.assert_array_equal(batch.labels[0], ids)
    np.testing.assert_allclose(batch.entropy[0], out.entropy, atol=1e-6)


def test_the_example_in_the_docstring(run):
    found = doctest.testmod(segment, extraglobs={"run_folder": run})
    assert found.attempted > 5 and not found.failed


def test_threads_compile_each_size_once(run, monkeypatch):
    traced, made = [], segment.make_predictor

    def counting(config, method):
        inner = made(config, method)
        return lambda *a: traced.append(a[-1].shape) or inner(*a)

    monkeypatch.setattr(segment, "make_predictor", counting)
    model = jaxseg.load(run, settings={"eval.full_resolution": True})
    images = [PHOTO[:16, :32], PHOTO[:16, :40]] * 4
    alone = [model(image).labels for image in images[:2]]
    model = jaxseg.load(run, settings={"eval.full_resolution": True})
    traced.clear()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda image: model(image).labels, images))
    assert sorted(traced) == [(1, 16, 32, 3), (1, 16, 40, 3)]
    for i, labels in enumerate(found):
        np.testing.assert_array_equal(labels, alone[i % 2])


@pytest.mark.parametrize("platform", ["cpu", "gpu"])
def test_maps_are_those_of_numpy(platform):
    """By rows on a CPU, at once elsewhere; float64, of logits interpolated by NumPy."""
    logits = np.random.default_rng(0).normal(0, 3, (2, 3, 5, 4)).astype(np.float32)
    with routes.use(platform):
        found = {name: make(logits, (7, 16)) for name, make in maps.make_maps().items()}
    across, down = np.linspace(0, 4, 16), np.linspace(0, 2, 7)
    wide = np.apply_along_axis(lambda v: np.interp(across, np.arange(5), v), 2, logits * 1.0)
    large = np.apply_along_axis(lambda v: np.interp(down, np.arange(3), v), 1, wide)
    shares = np.exp(large) / np.exp(large).sum(-1, keepdims=True)
    entropy = -(shares * np.log(shares)).sum(-1) / np.log(4)
    assert found["labels"].shape == (2, 7, 16) and found["labels"].dtype == np.int32
    np.testing.assert_array_equal(found["labels"], shares.argmax(-1))
    np.testing.assert_allclose(found["entropy"], entropy, atol=1e-5)
    np.testing.assert_allclose(found["probabilities"], shares, atol=1e-5)
    ids, levels, means = found["small"]
    assert ids.dtype == levels.dtype == np.uint8
    np.testing.assert_array_equal(ids, found["labels"])
    assert np.abs(levels - 255 * entropy).max() <= 0.501
    np.testing.assert_allclose(means, entropy.mean((1, 2)), atol=1e-5)


def test_the_first_of_equal_classes_is_taken():
    """As NumPy and XLA do, of values few enough to be equal often; ends of certainty as well."""
    logits = np.random.default_rng(0).integers(-2, 3, (1, 4, 6, 5)).astype(np.float32)
    logits[0, 0, 0], logits[0, 0, 1] = 1e4 * np.eye(5)[3], 0
    with routes.use("cpu"):
        made = maps.make_maps()
        ids, entropy = made["labels"](logits, (4, 6)), made["entropy"](logits, (4, 6))
    np.testing.assert_array_equal(ids, logits.argmax(-1))
    np.testing.assert_allclose(entropy[0, 0, :2], [0, 1], atol=1e-6)


def test_steps_and_settings(run, model):
    assert model.name == "step 2" and jaxseg.load(run, "last").name == "step 4"
    assert jaxseg.load(run, 4).name == "step 4"
    mirrored = jaxseg.load(run, settings={"eval.flip": True})
    np.testing.assert_allclose(
        mirrored(PHOTO).probabilities, mirrored(PHOTO[:, ::-1]).probabilities[:, ::-1], atol=1e-5
    )
    assert model.size == (32, 64)
    assert jaxseg.load(run, settings={"data.target.size": (16, 32)}).size == (16, 32)


def test_a_published_file_is_recognised(tmp_path):
    own = small_config("advent", tmp_path)
    own.net.update(dict(rates=(6, 12, 18, 24), preprocess="caffe"))
    state = drawn(own, 1)
    tensors = reference_names(state.params["gen"]["segmenter"], state.stats["segmenter"])
    np.savez(tmp_path / "GTA5.npz", **tensors)
    told = []
    model = jaxseg.load(tmp_path / "GTA5.npz", announce=told.append)
    assert model.config.net.backbone == "tiny" and model.size == (512, 1024)
    assert model.classes == segment.labels.CITYSCAPES.classes and "19 classes" in told[0]
    np.savez(tmp_path / "ours.npz", **{"params/main_head/kernel": np.zeros((1, 1, 4, 19))})
    with pytest.raises(jaxseg.UserError, match="this project's names.*give config="):
        jaxseg.load(tmp_path / "ours.npz")


def test_mistakes_are_one_line(run, model, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"<html>no such page</html>")
    (tmp_path / "empty").mkdir()
    for call, message in (
        (lambda: jaxseg.load(tmp_path / "nowhere"), "neither the folder of a run nor a weights"),
        (
            lambda: jaxseg.load(tmp_path / "empty"),
            "empty is not the folder of a run: it has no config",
        ),
        (lambda: jaxseg.load(run, 3), "no checkpoint of step 3"),
        (lambda: jaxseg.load(run, config="advent"), "a run, which has its own config"),
        (lambda: jaxseg.load(run, settings={"eval.flop": 1}), "no setting 'eval.flop'"),
        (lambda: model(tmp_path / "broken.png"), "broken.png: .*a web page"),
        (lambda: model(PHOTO / 255), r"an image of float64 \[24, 40, 3\]: wanted uint8"),
        (lambda: model(PHOTO[:0]), r"an image of uint8 \[0, 40, 3\]"),
    ):
        with pytest.raises(jaxseg.UserError, match=message):
            call()


def test_short_names_are_the_functions():
    assert jaxseg.losses.cross_entropy is segmentation.cross_entropy
    assert isinstance(jaxseg.networks.segmenter("fpn", 3, "efficientnet_tiny"), Network)
    assert "deeplabv2" in jaxseg.networks.architectures()
    assert "resnet101" in jaxseg.networks.backbones_of("deeplabv2")
    matrix = np.asarray(
        jaxseg.metrics.confusion_matrix(np.array([0, 1, 1]), np.array([0, 1, 0]), 2)
    )
    np.testing.assert_array_equal(matrix, [[1, 1], [0, 1]])
    assert jaxseg.metrics.mean_iou(matrix) == 0.5
    for package in (jaxseg, jaxseg.losses, jaxseg.metrics, jaxseg.networks):
        assert all(getattr(package, name) is not None for name in package._NAMES)
        assert set(package._NAMES) <= set(dir(package))
        with pytest.raises(AttributeError, match="nothing"):
            _ = package.nothing


def test_importing_the_package_imports_nothing_else():
    code = "import jaxseg, sys; print({'jax', 'numpy', 'PIL'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
