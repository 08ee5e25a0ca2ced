"""Colours of depth by hand, and the depth maps among an evaluation's pictures."""

import json

import numpy as np
from PIL import Image

from jaxseg.data.labels import CAMVID
from jaxseg.evaluation.evaluator import Example
from jaxseg.report import paint, paint_depth


def test_levels_by_hand():
    near, far = paint_depth.NEAR, paint_depth.FAR
    metres = np.array([[near, far, np.sqrt(near * far)], [1.0, 500.0, 0.0], [-1, np.nan, np.inf]])
    expected = [[255, 1, 128], [255, 1, 0], [0, 0, 0]]
    np.testing.assert_array_equal(paint_depth.depth_levels(metres), expected)
    palette = paint_depth.depth_palette()
    np.testing.assert_array_equal(palette[0], 0)
    np.testing.assert_array_equal(paint_depth.paint_depth(metres)[0, 2], palette[128])
    # Near is bright, and what is far is not taken for what is missing.
    lightness = palette[1:] @ np.array([0.2126, 0.7152, 0.0722])
    assert (np.diff(lightness) >= 0).all() and lightness[0] > 30 and lightness[-1] > 230


def example(depth, truth):
    draw = np.random.default_rng(0)
    image = draw.integers(0, 256, (24, 32, 3)).astype(np.uint8)
    label = draw.integers(0, 11, (24, 32)).astype(np.uint8)
    return Example("one", image, label, label, draw.random((24, 32)), depth, truth)


def test_depth_is_saved_where_it_is_predicted(tmp_path):
    truth = np.full((24, 32), 10, np.float32)
    truth[:5] = 0
    depth = np.linspace(3, 80, 24 * 32, dtype=np.float32).reshape(24, 32)
    examples = [example(depth, truth), example(depth, None)]
    shown = paint.save_pictures(tmp_path, 7, examples, CAMVID)
    assert shown.shape[1] == 6 * 326 + 6
    saved = Image.open(tmp_path / "00000007" / "0_depth.png")
    np.testing.assert_array_equal(saved, paint_depth.depth_levels(depth))
    colours = np.asarray(Image.open(tmp_path / "0_depth.png").convert("RGB"))
    np.testing.assert_array_equal(colours, paint_depth.paint_depth(truth))
    assert not (tmp_path / "1_depth.png").exists()
    index = json.loads((tmp_path / paint.INDEX).read_text())
    assert index["depth"] == {"truth": [True, False]}


def test_nothing_is_said_of_depth_where_none_is_predicted(tmp_path):
    shown = paint.save_pictures(tmp_path, 7, [example(None, None)], CAMVID)
    assert shown.shape[1] == 4 * 326 + 6
    assert "depth" not in json.loads((tmp_path / paint.INDEX).read_text())
    assert not list(tmp_path.rglob("*depth*"))


def test_a_coarse_depth_map_is_saved_at_the_pictures_size(tmp_path):
    paint.save_pictures(tmp_path, 7, [example(np.full((6, 8), 5.0), None)], CAMVID)
    assert np.asarray(Image.open(tmp_path / "00000007" / "0_depth.png")).shape == (24, 32)
