"""A method's views: the input of each kind of view, how its map is drawn, and the report."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from kit.pages import Page, make_run
from PIL import Image

from jaxseg.data.labels import CAMVID
from jaxseg.engine.method import (
    CLASSES,
    DEPTH,
    IMAGE,
    PAIR,
    PROBABILITY,
    SCALAR,
    SOURCE,
    TARGET,
    Method,
    Tile,
    View,
    view_of,
)
from jaxseg.evaluation.evaluator import Example
from jaxseg.report import brought, paint, paint_depth, paint_views
from jaxseg.report import page as report_page

HEADING = "What else the method shows"


def pseudo_label(params, stats, memory, images):
    """Class 2 where it is bright, else ignored."""
    return jnp.where(images.mean(-1) > 100, 2, 255)


def confidence(params, stats, memory, images):
    return images.mean(-1) / 255 * params


def mixed_image(params, stats, memory, batch):
    """The source's pixels of class 9 in the target's image."""
    mask = (batch["source_label"] == 9)[..., None]
    return jnp.where(mask, batch["source_image"], batch["target_image"]).astype(jnp.float32)


def metres(params, stats, memory, batch):
    return 2 * batch["source_depth"]


def untouched(*_):
    raise AssertionError("this view has pictures of its own")


VIEWS = {
    "scored": View(untouched, DEPTH, TARGET, "depth"),
    "pseudo": View(pseudo_label, CLASSES, TARGET, "pseudo label"),
    "sure": View(confidence, PROBABILITY, TARGET, "teacher's <confidence>"),
    "level": View(confidence, SCALAR, TARGET, "grey"),
    "mixed": View(mixed_image, IMAGE, PAIR, "mixed image"),
    "far": View(metres, DEPTH, SOURCE, "twice the depth"),
    "changed": View(untouched, IMAGE, SOURCE, "changed"),
}
METHOD = Method(None, {}, None, views=VIEWS, tiles={"a/b": Tile("amount", "m")}, titles={"a": "A"})


def seen(method=METHOD, device=None):
    """The target 8x12, dark on the left; the source 6x16 with a person in the middle."""
    target = np.zeros((8, 12, 3), np.uint8)
    target[:, 6:] = 204
    label = np.zeros((6, 16), np.uint8)
    label[:, 7:9] = 9
    example = Example("t", target, target[..., 0], target[..., 0], target[..., 0] / 255)
    sample = {"id": "s", "image": np.full((6, 16, 3), 100, np.uint8), "label": label}
    sample["depth"] = np.full(label.shape, 4, np.float32)
    look = paint_views.make_viewer(method, device or jax.local_devices()[0])
    return look(jnp.float32(1), {}, {}, [example], [sample])


def test_what_a_view_is_given_and_what_it_shows():
    (found,) = seen()
    assert set(found.maps) == set(VIEWS) - {"scored", "changed"}
    np.testing.assert_array_equal(found.maps["pseudo"][0], [255] * 6 + [2] * 6)
    np.testing.assert_allclose(found.maps["sure"][0], [0.0] * 6 + [0.8] * 6, rtol=1e-6)
    # Cut to 6x12 in the middle: columns 2 to 13 of the source, so the person is at 5 and 6.
    mixed = found.maps["mixed"]
    assert mixed.shape == (6, 12, 3)
    np.testing.assert_array_equal(mixed[0, :, 0], [0] * 5 + [100] * 2 + [204] * 5)
    np.testing.assert_array_equal(found.maps["far"], np.full((6, 16), 8))
    assert {side: x.shape for side, x in found.inputs.items()} == {
        "source": (6, 16, 3),
        "target": (8, 12, 3),
    }


def test_without_source_images_none_are_read():
    only = {name: VIEWS[name] for name in ("scored", "pseudo")}
    look = paint_views.make_viewer(METHOD._replace(views=only), jax.local_devices()[0])
    example = Example("t", *(np.full((4, 4, 3), 9, np.uint8),) * 3, np.zeros((4, 4)))
    (found,) = look(jnp.float32(1), {}, {}, [example], iter(()))
    assert set(found.inputs) == {"target"} and set(found.maps) == {"pseudo"}
    scored = {"scored": VIEWS["scored"]}
    assert paint_views.make_viewer(METHOD._replace(views=scored), None) is None


def test_the_first_of_a_kind_and_side():
    assert view_of(METHOD, DEPTH, TARGET) is VIEWS["scored"]
    assert view_of(METHOD, DEPTH, SOURCE) is VIEWS["far"]
    assert view_of(METHOD, CLASSES, PAIR) is None


@pytest.mark.parametrize("kind", [PROBABILITY, SCALAR])
def test_the_colours_of_numbers(kind):
    values = np.array([[0.25, 0.5, np.nan, 0.75]])
    found = paint_views.paint_map(values, kind, CAMVID)[0]
    levels = {PROBABILITY: (64, 128, 191), SCALAR: (0, 128, 255)}[kind]
    np.testing.assert_array_equal(found[[0, 1, 3]], paint.heat_palette()[list(levels)])
    flat = paint_views.paint_map(np.full((2, 2), np.nan), kind, CAMVID)
    np.testing.assert_array_equal(flat, np.broadcast_to(paint.heat_palette()[0], (2, 2, 3)))


def test_the_files_and_the_report(tmp_path):
    make_run(tmp_path)
    brought.write(tmp_path, METHOD)
    pictures = tmp_path / "pictures"
    for step in (20, 60):
        shown = paint_views.save_views(pictures, step, seen(), CAMVID)
        assert shown.dtype == np.uint8 and shown.shape[1] == 7 * 246 + 6
    here = pictures / "00000060"
    index = json.loads((here / paint_views.INDEX).read_text())
    assert index["inputs"] == ["source", "target"] and index["count"] == 1
    assert index["views"]["level"]["ranges"] == [pytest.approx([0, 0.8])]
    colours = np.asarray(Image.open(here / "views_0_pseudo.png"))
    np.testing.assert_array_equal(colours[0, -1], CAMVID.palette[2])
    far = np.asarray(Image.open(here / "views_0_far.png"))
    np.testing.assert_array_equal(far, paint_depth.paint_depth(np.full((6, 16), 8.0)))
    page = Page(report_page.write_report(tmp_path).read_text())
    assert HEADING in page.texts and "teacher's <confidence>" in page.texts
    assert "step 20, grey from 0 to 0.8" in page.texts and "mixed image" in page.texts
    # Two images of `make_run`, and here two inputs and five views at two steps.
    assert page.tags.count("img") == 2 * 8 + 2 + 5 * 2
    words = json.loads((tmp_path / brought.FILE).read_text())
    assert words["views"]["mixed"] == {"title": "mixed image", "kind": IMAGE, "side": PAIR}
    assert brought.read(tmp_path) == brought.Brought({"a": "A"}, METHOD.tiles, warms_up=False)


def test_other_runs_have_no_such_section(tmp_path):
    assert HEADING not in Page(make_run(tmp_path).read_text()).texts
