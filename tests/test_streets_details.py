"""The detailed look of `streets`: thin things, dark corners, reflections, outlines, colours."""

import numpy as np
import pytest

from jaxseg.data import style
from jaxseg.data.streets import finish, trees, veil
from jaxseg.data.streets import scene as streets_scene
from jaxseg.data.streets.camera import make_camera
from jaxseg.data.streets.camera import rays as rays_of
from jaxseg.data.streets.domains import PHOTOGRAPHIC_VARIED
from jaxseg.data.streets.draw import Buffers
from jaxseg.data.streets.ground import Ground, label_ground
from jaxseg.data.streets.layout import Scene
from jaxseg.data.streets.primitives import ROAD, SIDEWALK, SKY, TERRAIN, VEGETATION

SIZE = (72, 96)
GROUND = Ground(5.0, 0.0, (0.0, 0.0), (3.0, 3.0), 1e6, 4.0, 1e6, 1, 1, (False, False), (0.0, 10.0))


def camera():
    return make_camera(np.array((0.0, 0.0, 1.5)), 0.0, 12.0, 0.0, 60.0)


def bare_tree(distance=15.0):
    rng = np.random.default_rng(3)
    return trees.tree(rng, (0.0, distance), 0.0, lambda rng: (0.2, 0.4, 0.1), 1.0, 0.0)


def composed(scene):
    return streets_scene.compose(
        np.random.default_rng(5), scene, camera(), PHOTOGRAPHIC_VARIED, SIZE
    )


@pytest.mark.parametrize("kind", [trees.BARE, trees.LEAFY, trees.EVERGREEN])
def test_pictures_of_trees_keep_their_cover_at_every_resolution(kind):
    picture = trees.portrait(kind, 0)
    means = [level.mean() for level in picture.cover]
    np.testing.assert_allclose(means, means[0], rtol=1e-3)
    assert picture.cover[0].min() >= 0 and picture.cover[0].max() <= 1
    covered = picture.cover[0][picture.outline].mean()
    assert (covered < 0.6) if kind == trees.BARE else (covered > 0.6)
    assert picture.cover[0][~picture.outline].mean() < 0.02


def test_a_bare_tree_is_vegetation_where_the_sky_shows_through():
    result = composed(Scene(GROUND, bare_tree(), 0.0))
    crown = result["label"] == VEGETATION
    assert crown.mean() > 0.05
    np.testing.assert_allclose(result["depth"][crown], 15.0, atol=0.9)  # at 15 m, seen 12 deg up
    light = style.to_lab(result["image"])[..., 0]
    sky = light[result["label"] == SKY]
    # Some of the crown is about as light as the sky, and some is far darker.
    assert (light[crown] > np.quantile(sky, 0.05) - 3).mean() > 0.05
    assert light[crown].min() < sky.mean() - 20


def test_solid_things_hide_a_tree():
    tree = bare_tree()
    rays = rays_of(camera(), SIZE)
    (seen,) = veil.cast_veils(tree, camera(), rays, np.full(SIZE, np.inf, np.float32))
    assert seen.pixel.size > 100 and 0 <= seen.cover.min() and seen.cover.max() <= 1
    assert veil.cast_veils(tree, camera(), rays, np.full(SIZE, 10.0, np.float32)) == []


def test_wires_darken_pixels_and_have_no_label():
    scene = Scene(GROUND, bare_tree(60.0), 0.0)
    wires = (((-20.0, 20.0, 7.0), (20.0, 20.0, 7.0)),)
    plain, wired = composed(scene), composed(scene._replace(wires=wires))
    np.testing.assert_array_equal(plain["label"], wired["label"])
    np.testing.assert_array_equal(plain["depth"], wired["depth"])
    limit = np.full(SIZE, np.inf)
    cover = veil.wire_cover(wires, camera(), limit).reshape(SIZE)
    # A straight column crosses the wire once: its cover is the wire's width in pixels, 2 cm at
    # a depth of about 20 m; the wire sags by 3 % of its length, 1.2 m.
    focal = SIZE[1] / 2 / np.tan(np.radians(30))
    offset = np.array((0.0, 20.0, 7.0 - 1.2 - 1.5))
    depth = offset @ camera().forward
    assert cover[:, 48].sum() == pytest.approx(0.02 * focal / depth, rel=0.02)
    row = SIZE[0] / 2 - offset @ camera().up / depth * focal - 0.5
    assert (cover[:, 48] * np.arange(SIZE[0])).sum() / cover[:, 48].sum() == pytest.approx(
        row, abs=0.1
    )
    assert veil.wire_cover(wires, camera(), np.full(SIZE, 5.0)).max() == 0  # behind something


def test_car_parks_are_road_behind_the_pavement():
    x = np.array((0.0, 6.0, 9.0, 17.0, 19.0, -6.0, -9.0))
    expected = [ROAD, SIDEWALK, ROAD, ROAD, TERRAIN, SIDEWALK, TERRAIN]
    np.testing.assert_array_equal(label_ground(GROUND, x, np.full(7, 20.0)), expected)


def test_corners_are_dark_and_planes_are_open():
    x, z = np.meshgrid(np.arange(64) * 0.1, np.arange(48) * 0.1)
    flat = np.stack((x, z, 0 * x)).astype(np.float32)
    up = np.broadcast_to(np.float32((0, 0, 1))[:, None, None], flat.shape)
    there = np.ones(x.shape, np.float32)
    np.testing.assert_allclose(finish.openness(flat, up, there), 1)
    # A wall that rises from row 24 on.
    bent = np.stack((x, np.minimum(z, 2.4), np.maximum(z - 2.4, 0))).astype(np.float32)
    normal = np.where(z > 2.4, np.float32((0, -1, 0))[:, None, None], up)
    space = finish.openness(bent, normal, there)
    # By hand: of the ten neighbours of a point 0.1 m from the corner, the two that are two rows and
    # two columns off lie 0.1 m beyond it, at (0.2, 0.1, 0.1) m; the others are in its own plane.
    away = np.sqrt(0.2**2 + 2 * 0.1**2)
    part = (0.1 / away - 0.15) / (1 + (away / 1.2) ** 2)
    np.testing.assert_allclose(space[[23, 25], 32], 1 - 4 * 2 * part / 10, rtol=1e-3)
    assert space[10, 32] == 1 and space[40, 32] == 1
    nothing = finish.openness(bent, normal, np.where(z > 2.4, 0, there))  # sky hides nothing
    np.testing.assert_allclose(nothing[:24], 1)


def test_a_mirror_shows_the_sky():
    half = np.sqrt(0.5)
    normal = np.float32([(0, -half, half), (0, -half, -half), (0, -half, half)])
    rays = np.float32([(0, 1, 0)] * 3).T
    light = np.full((3, 3), 0.1, np.float32)
    sky = np.float32((0.8, 0.9, 1.0))
    found = finish.reflect(
        light, np.float32((1, 1, 0)), normal, rays, np.zeros((3, 3), np.float32), sky, 1.0
    )
    share = 0.2 + 0.8 * (1 - half) ** 4  # the ray meets the glass at 45 degrees
    np.testing.assert_allclose(found[0], 0.1 + (sky - 0.1) * share, rtol=1e-5)  # straight up
    np.testing.assert_allclose(found[1], 0.1 + (0.05 * sky - 0.1) * share, rtol=1e-5)  # down
    np.testing.assert_array_equal(found[2], light[2])  # no gloss


@pytest.mark.parametrize("slope", [0.0, 0.25, 0.6, 1.0])
def test_outlines_come_closer_to_exact_cover(slope):
    """Against the cover of pixels by a half-plane, from 16 x 16 points in each."""
    size, fine = 40, 16
    y, x = (np.mgrid[: size * fine, : size * fine] + 0.5) / fine
    inside = (y - 20.3 > slope * (x - 20)).astype(np.float32)
    exact = inside.reshape(size, fine, size, fine).mean((1, 3))
    stepped = inside[fine // 2 :: fine, fine // 2 :: fine]
    owner = stepped.astype(np.int32)
    buffers = Buffers(np.ones_like(stepped), owner, np.zeros_like(owner))
    light = np.repeat(stepped[..., None], 3, -1)
    smooth = finish.smooth_outlines(light, buffers)[..., 0]
    cut = slice(4, -4)
    before, after = (np.abs(v - exact)[cut, cut].mean() for v in (stepped, smooth))
    assert after <= before + 1e-6
    if 0 < slope < 1:
        assert after < 0.85 * before
    flat = np.repeat(stepped[..., None], 3, -1)
    same = finish.smooth_outlines(flat, buffers._replace(owner=np.zeros_like(owner)))
    np.testing.assert_array_equal(same, flat)  # what is no outline stays


def test_colours_of_classes_are_near_those_of_photographs():
    """CamVid's training photographs: mean lightness of road 31, pavement 28, sky 93, tree 41, with
    15, 13, 12 and 16 between photographs (`docs/data.md`).
    """
    lightness = {ROAD: [], SIDEWALK: [], SKY: [], VEGETATION: []}
    for index in range(14):
        result = streets_scene.render(21, index, "photographic_varied", (48, 64))
        light = style.to_lab(result["image"])[..., 0]
        for label, found in lightness.items():
            if (result["label"] == label).sum() > 20:
                found.append(light[result["label"] == label].mean())
    means = {label: np.mean(found) for label, found in lightness.items()}
    assert abs(means[ROAD] - 31) < 10 and abs(means[SIDEWALK] - 28) < 12
    assert abs(means[SKY] - 93) < 10 and abs(means[VEGETATION] - 41) < 14
    assert np.std(lightness[ROAD]) > 7  # dark and light photographs
