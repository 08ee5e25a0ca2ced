"""The `streets` renderer: purity, exact geometry, occlusion, and what its scenes contain."""

import numpy as np
import pytest

from jaxseg.data.streets import scene as streets_scene
from jaxseg.data.streets.camera import make_camera
from jaxseg.data.streets.domains import DOMAINS, PHOTOGRAPHIC, RENDERED
from jaxseg.data.streets.draw import draw, tabulate
from jaxseg.data.streets.layout import layout
from jaxseg.data.streets.primitives import Material, Part, Primitive, box
from jaxseg.data.streets.shadow import shadow_map
from jaxseg.errors import UserError

SMALL = (64, 128)
NAMES = (
    "road sidewalk building wall fence pole light sign vegetation terrain sky person rider car "
    "truck bus train motorcycle bicycle"
).split()


def _crate(x, y, half, height, label):
    part = Part(label, (0.5, 0.5, 0.5), Material.PLAIN)
    return box((x, y), 0.0, (-half, -half, 0.0), (half, half, height), (part,))


@pytest.mark.parametrize("domain", DOMAINS)
def test_a_scene_is_a_pure_function_of_its_arguments(domain):
    before = np.random.get_state()[1].copy()
    first = streets_scene.render(3, 5, domain, SMALL)
    other = streets_scene.render(3, 6, domain, SMALL)
    another_seed = streets_scene.render(4, 5, domain, SMALL)
    again = streets_scene.render(3, 5, domain, SMALL)
    for key in first:
        np.testing.assert_array_equal(first[key], again[key])
    for key in ("image", "label", "depth"):
        assert (first[key] != other[key]).any()
        assert (first[key] != another_seed[key]).any()
    np.testing.assert_array_equal(before, np.random.get_state()[1])


@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize("size", [(64, 128), (45, 60), (120, 90)])
def test_shapes_types_and_values(domain, size):
    scene = streets_scene.render(0, 1, domain, size)
    assert {k: (v.shape, v.dtype) for k, v in scene.items()} == {
        "image": ((*size, 3), np.uint8),
        "label": (size, np.uint8),
        "depth": (size, np.float32),
    }
    assert scene["label"].max() <= 18
    assert np.isfinite(scene["depth"]).all()
    np.testing.assert_array_equal(scene["depth"] == 0, scene["label"] == NAMES.index("sky"))
    assert scene["depth"][scene["depth"] > 0].min() > 0.2
    assert scene["image"].std() > 10


def test_the_picture_does_not_depend_on_the_resolution():
    coarse = streets_scene.render(1, 2, "photographic", (64, 128))
    fine = streets_scene.render(1, 2, "photographic", (192, 384))
    # The centre of a coarse pixel is the centre of the middle one of nine fine ones.
    middle = fine["label"][1::3, 1::3]
    np.testing.assert_array_equal(coarse["label"], middle)
    np.testing.assert_allclose(coarse["depth"], fine["depth"][1::3, 1::3], rtol=1e-3)


@pytest.mark.parametrize("pitch", [-8.0, 0.0, 4.0])
def test_depth_of_the_road_follows_from_the_angles(pitch):
    rng = np.random.default_rng(0)
    scene = layout(rng, RENDERED)
    height, width = size = (72, 144)
    camera = make_camera(np.array((0.0, 0.0, 1.7)), 3.0, pitch, 0.0, 80.0)
    result = streets_scene.compose(rng, scene, camera, RENDERED, size)
    focal = width / 2 / np.tan(np.radians(40))
    below_axis = np.arctan((np.arange(height) + 0.5 - height / 2) / focal)
    with np.errstate(divide="ignore"):
        distance = 1.7 / np.sin(below_axis - np.radians(pitch))  # along the ray of the middle
    expected = np.broadcast_to((distance * np.cos(below_axis))[:, None], size)
    road = result["label"] == NAMES.index("road")
    assert road.mean() > 0.1
    np.testing.assert_allclose(result["depth"][road], expected[road], rtol=2e-4)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_the_nearer_object_hides_the_farther(order):
    near, far = _crate(0.0, 10.0, 1.0, 3.0, 13), _crate(0.0, 20.0, 4.0, 8.0, 2)
    primitives = [(near, far)[i] for i in order]
    tables = tabulate(primitives)
    camera = make_camera(np.array((0.0, 0.0, 1.5)), 0.0, 0.0, 0.0, 60.0)
    buffers, _ = draw(primitives, tables, camera, (60, 120))
    owner, depth = buffers.owner, buffers.depth
    assert primitives[owner[30, 60]] is near
    np.testing.assert_allclose(depth[30, 60], 9.0, rtol=1e-5)  # the front faces
    assert primitives[owner[8, 60]] is far
    np.testing.assert_allclose(depth[8, 60], 16.0, rtol=1e-5)
    # The near front face is 2 m wide at 9 m: 2 / 9 focal lengths across.
    focal = 60 / np.tan(np.radians(30))
    seen = sum(primitives[i] is near if i >= 0 else False for i in owner[30])
    assert abs(seen - 2 / 9 * focal) <= 1


def test_a_sphere_has_the_depth_of_its_surface():
    part = Part(8, (0.2, 0.5, 0.2), Material.PLAIN)
    radius = (2.0, 2.0, 2.0)
    low = (-2.0, -2.0, -2.0)
    ball = Primitive("ellipsoid", (0.0, 12.0, 1.5), 0.0, low, radius, (part,))
    camera = make_camera(np.array((0.0, 0.0, 1.5)), 0.0, 0.0, 0.0, 60.0)
    size = (61, 121)
    buffers, directions = draw([ball], tabulate([ball]), camera, size)
    assert buffers.depth[30, 60] == pytest.approx(10.0)
    seen = buffers.owner == 0
    surface = camera.position[:, None] + buffers.depth[seen] * directions[:, seen]
    away = np.linalg.norm(surface - np.array(ball.origin)[:, None], axis=0)
    np.testing.assert_allclose(away, 2.0, rtol=1e-4)


def test_a_turned_camera_sees_where_a_thing_is():
    camera = make_camera(np.array((1.0, -2.0, 1.5)), 20.0, 5.0, 3.0, 70.0)
    post = _crate(-4.0, 9.0, 0.1, 4.0, 5)
    buffers, _ = draw([post], tabulate([post]), camera, (100, 200))
    rows, columns = np.nonzero(buffers.owner == 0)
    focal = 100 / np.tan(np.radians(35))
    yaw, pitch, roll = np.radians((20.0, 5.0, 3.0))
    ahead = np.array((-np.sin(yaw) * np.cos(pitch), np.cos(yaw) * np.cos(pitch), np.sin(pitch)))
    level = np.array((np.cos(yaw), np.sin(yaw), 0.0))
    offset = np.array((-5.0, 11.0, 0.5))  # from the eye to the middle of the post, z = 2
    x, y = offset @ level, offset @ np.cross(level, ahead)
    x, y = np.cos(roll) * x + np.sin(roll) * y, np.cos(roll) * y - np.sin(roll) * x
    scale = focal / (offset @ ahead)
    assert columns.mean() == pytest.approx(100 + x * scale - 0.5, abs=1.0)
    assert rows.mean() == pytest.approx(50 - y * scale - 0.5, abs=1.5)


def test_the_look_changes_the_image_but_not_label_and_depth():
    scene = layout(np.random.default_rng(7), RENDERED)
    camera = make_camera(np.array((1.5, 0.0, 1.6)), 1.0, -2.0, 0.5, 75.0)
    looks = [
        streets_scene.compose(np.random.default_rng(1), scene, camera, knobs, SMALL)
        for knobs in (RENDERED, PHOTOGRAPHIC)
    ]
    np.testing.assert_array_equal(looks[0]["label"], looks[1]["label"])
    np.testing.assert_array_equal(looks[0]["depth"], looks[1]["depth"])
    difference = looks[0]["image"].astype(float) - looks[1]["image"]
    assert np.abs(difference).mean() > 10


def test_a_wall_casts_its_shadow_away_from_the_sun():
    tower = _crate(0.0, 10.0, 0.5, 3.0, 2)
    sun = np.array((1.0, 0.0, 1.0)) / np.sqrt(2)  # from the right, 45 degrees high
    light = shadow_map([tower], sun, 512)
    x = np.array((-3.2, -2.0, -0.8, 1.0, -4.0, -2.0, -2.0))
    y = np.array((10.0, 10.0, 10.0, 10.0, 10.0, 12.0, 10.0))
    z = np.array((0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 2.9))  # the last one is above the shadow
    np.testing.assert_array_equal(light(np.stack((x, y, z))), [0, 0, 0, 1, 1, 1, 1])


@pytest.mark.parametrize("domain", DOMAINS)
def test_scenes_contain_most_classes_regularly(domain):
    count = 24
    seen = np.zeros(19)
    pixels = np.zeros(19)
    for index in range(count):
        label = streets_scene.render(11, index, domain, (96, 192))["label"]
        histogram = np.bincount(label.ravel(), minlength=19)
        seen += histogram > 0
        pixels += histogram
    regular = [name for name, n in zip(NAMES, seen, strict=True) if n > 0.2 * count]
    assert len(regular) >= 14, regular
    share = dict(zip(NAMES, pixels / pixels.sum(), strict=True))
    assert 0.2 < share["road"] < 0.45
    assert share["building"] > 0.15 and share["vegetation"] > 0.04 and share["sky"] > 0.04
    assert share["car"] > 0.03 and share["person"] > 0.003


def test_mistakes_are_reported():
    with pytest.raises(UserError, match="'painted'.*rendered, photographic"):
        streets_scene.render(0, 0, "painted", SMALL)
    for size in ((64,), (64, 0), (64.5, 128), None):
        with pytest.raises(UserError, match="size"):
            streets_scene.render(0, 0, "rendered", size)
