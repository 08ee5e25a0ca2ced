"""Source images as a method transforms them: numbers by hand, files, and within a run."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from kit.small import small_config
from PIL import Image

from jaxseg.data.labels import CAMVID
from jaxseg.engine.method import DEPTH, IMAGE, SOURCE, TARGET, Method, View
from jaxseg.experiment import batches
from jaxseg.experiment.method import make_method
from jaxseg.experiment.optimisers import make_optimisers
from jaxseg.experiment.state import first_state
from jaxseg.report import paint_depth, paint_source
from jaxseg.run import snapshots
from jaxseg.storage import logs

SIZE = (24, 32)


def transform(params, stats, memory, batch):
    """Brighter by `params`, by 10 more where a person stands, and by the depth in metres."""
    image = batch["source_image"].astype(jnp.float32) + params
    return image + 10.0 * (batch["source_label"] == 9)[..., None] + batch["source_depth"][..., None]


def predict(params, stats, memory, images):
    """Class 2 where the image is brighter than 110, else class 0; a quarter of the size."""
    bright = images[:, ::4, ::4].mean(-1) > 110
    return jax.nn.one_hot(2 * bright, 11)


def depth(params, stats, memory, images):
    return images[:, ::4, ::4].mean(-1) / 10


VIEWS = {
    "depth": View(depth, DEPTH, TARGET, "depth"),
    "moved": View(transform, IMAGE, SOURCE, "moved"),
}
METHOD = Method(None, {}, predict, views=VIEWS)


def samples():
    image, label = np.full((*SIZE, 3), 100, np.uint8), np.full(SIZE, 2, np.uint8)
    label[:6], label[6:12] = 9, 255
    yield {"id": "with", "image": image, "label": label, "depth": np.full(SIZE, 1, np.float32)}
    yield {"id": "without", "image": image, "label": label}


def view(method=METHOD):
    look = paint_source.make_viewer(method, jax.local_devices()[0])
    return look(jnp.float32(5), {}, {}, samples())


def test_the_numbers_by_hand():
    first, second = view()
    # +5 everywhere, +10 on a quarter of the image, +1 of depth where there is depth.
    assert first.change == pytest.approx(5 + 2.5 + 1) and second.change == pytest.approx(7.5)
    assert first.depth.max() == 1 and second.depth is None
    # Bright (class 2) only where a person (9) stands: nothing is right.
    assert first.right == 0.0
    np.testing.assert_array_equal(first.prediction[:4], 2)
    assert first.prediction.shape == first.predicted_depth.shape == SIZE
    np.testing.assert_allclose(first.predicted_depth[0], 11.6, rtol=1e-5)
    grey = paint_source.difference(first)
    assert grey[0, 0, 0] == 128 + paint_source.AMPLIFIED * 16
    assert grey[-1, 0, 0] == 128 + paint_source.AMPLIFIED * 6
    unlabelled = first._replace(label=np.full(SIZE, 255, np.uint8))
    assert unlabelled.right is None
    assert first._replace(prediction=first.label).right == 1.0


def test_a_method_without_depth():
    assert view(METHOD._replace(views={"moved": VIEWS["moved"]}))[0].predicted_depth is None


def test_what_is_not_a_number_can_be_shown(tmp_path):
    broken = view()[0]
    broken = broken._replace(transformed=np.full_like(broken.transformed, np.nan))
    assert broken.change is None
    paint_source.save_source_pictures(tmp_path, 3, [broken], CAMVID)
    numbers = json.loads((tmp_path / "00000003" / paint_source.INDEX).read_text())
    assert numbers == {"change": [None], "right": [0.0]}


def test_the_files(tmp_path):
    first, second = view()
    second = second._replace(predicted_depth=None)
    shown = paint_source.save_source_pictures(tmp_path, 3, [first, second], CAMVID)
    assert shown.dtype == np.uint8 and shown.shape[1] == 7 * 246 + 6
    here = tmp_path / "00000003"
    numbers = json.loads((here / paint_source.INDEX).read_text())
    assert numbers["change"] == pytest.approx([8.5, 7.5]) and numbers["right"] == [0.0, 0.0]
    assert json.loads((tmp_path / paint_source.INDEX).read_text())["ids"] == ["with", "without"]
    moved = np.asarray(Image.open(here / "source_0_transformed.jpg")).astype(int)
    assert moved.shape == (*SIZE, 3) and abs(moved[0, 0] - 116).max() <= 3
    np.testing.assert_array_equal(Image.open(here / "source_0_prediction.png"), first.prediction)
    np.testing.assert_array_equal(Image.open(tmp_path / "source_0_truth.png"), first.label)
    saved = np.asarray(Image.open(tmp_path / "source_0_depth.png"))
    np.testing.assert_array_equal(saved, paint_depth.depth_levels(first.depth))
    assert (here / "source_0_depth.png").exists() and (here / "source_panel.jpg").exists()
    assert not (tmp_path / "source_1_depth.png").exists()
    assert not (here / "source_1_depth.png").exists()


def test_a_run_shows_the_same_images_at_each_evaluation(tmp_path_factory, tmp_path):
    config = small_config("source_only", tmp_path_factory.getbasetemp() / "source_records")
    found = list(batches.source_pictures(config))
    assert len(found) == config.train.pictures == 2
    assert [sample["image"].shape for sample in found] == [(32, 64, 3)] * 2
    assert found[0]["label"].shape == found[0]["depth"].shape == (32, 64)
    assert found[0]["depth"].max() > 3 and found[0]["label"].max() < 255

    def brighter(params, stats, memory, batch):
        assert batch["source_depth"].shape == (1, 32, 64)
        return batch["source_image"].astype(jnp.float32) + 2

    method, players = make_method(config), make_optimisers(config)
    state = first_state(config, method, players)
    method = method._replace(views={"x": View(brighter, IMAGE, SOURCE, "brighter")})
    score = snapshots.make_scorers(config, method, jax.local_devices())(str(tmp_path), 0)

    class Bar:
        log = print

    with logs.open_logs(tmp_path) as log:
        for step in (1, 2):
            score(state, step, log, Bar)
    pictures = tmp_path / "pictures"
    index = json.loads((pictures / paint_source.INDEX).read_text())
    assert index["ids"] == [sample["id"] for sample in found] and index["title"] == "brighter"
    for step in (1, 2):
        numbers = json.loads((pictures / f"{step:08d}" / paint_source.INDEX).read_text())
        assert numbers["change"] == [2.0, 2.0]
    # The source is not scored: images that are trained on are shown.
    config.eval.source_images = 0
    ids = [sample["id"] for sample in batches.source_pictures(config)]
    assert len(ids) == 2 and set(ids).isdisjoint(index["ids"])
