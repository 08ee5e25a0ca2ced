"""`streets`: driving scenes rendered from nothing, with exact labels and depth, in several
looks.

A scene is a random street (buildings, traffic, people, vegetation), ray cast in true perspective
and shaded as `rendered` (flat, clean, like a game) or as `photographic` (textures, shadows, haze,
optics, noise; other cameras and densities). The two domains stand in for a synthetic-to-real pair
such as GTA5 and Cityscapes. `photographic_varied` is a source for real photographs.

Reading order: this file; domains (settings); layout and frontage (placing objects); roadside and
traffic (the objects); draw (ray casting); paint and ground (colours); shadow and light. The domains
with details have more: cars, trees and veil (twigs and wires), wear (the ground), finish.
"""

from typing import NamedTuple

import numpy as np

from jaxseg.data.streets.camera import Camera, make_camera
from jaxseg.data.streets.domains import DOMAINS, Domain
from jaxseg.data.streets.draw import GROUND, OPEN, Buffers, draw, tabulate
from jaxseg.data.streets.finish import lay_over, openness, reflect, smooth_outlines
from jaxseg.data.streets.ground import label_ground, paint_ground
from jaxseg.data.streets.layout import Scene, layout
from jaxseg.data.streets.light import detailed_sky, film, sky
from jaxseg.data.streets.paint import paint_primitives
from jaxseg.data.streets.plan import uniform
from jaxseg.data.streets.primitives import SKY, VEGETATION, Material, hsv
from jaxseg.data.streets.shadow import contact, shadow_map
from jaxseg.data.streets.veil import Veil, cast_veils, wire_cover
from jaxseg.data.streets.wear import Wear, draw_wear, paint_worn_ground
from jaxseg.errors import UserError

_STANDING = (Material.CAR_BODY, Material.BUS, Material.CARGO)  # these darken the ground below them


def render(seed: int, index: int, domain: str, size: tuple[int, int]) -> dict[str, np.ndarray]:
    """Renders scene `index` of the endless sequence `seed`.

    A pure function: the same arguments give the same arrays, in any order of calls.

    Args:
        seed: names the sequence of scenes, >= 0.
        index: number of the scene, >= 0.
        domain: a name in `DOMAINS`.
        size: (height, width) in pixels; the horizontal field of view does not depend on it.

    Returns:
        image: uint8 [H, W, 3] RGB.
        label: uint8 [H, W], Cityscapes train ids 0..18.
        depth: float32 [H, W], metres along the optical axis; 0 = no value (sky).

    Raises:
        UserError: unknown domain, or a size that is not two positive whole numbers.
    """
    if domain not in DOMAINS:
        raise UserError(f"streets: unknown domain {domain!r}; choose from {', '.join(DOMAINS)}")
    try:
        height, width = (int(n) for n in size)
        whole = (height, width) == tuple(size) and min(height, width) >= 8
    except (TypeError, ValueError):
        whole = False
    if not whole:
        raise UserError(f"streets: size must be (height, width) of at least 8 pixels, not {size!r}")
    knobs = DOMAINS[domain]
    rng = np.random.default_rng((seed, index, list(DOMAINS).index(domain)))
    scene = layout(rng, knobs)
    camera = _camera(rng, knobs, scene.eye)
    return compose(rng, scene, camera, knobs, (height, width))


def _camera(rng: np.random.Generator, knobs: Domain, x: float) -> Camera:
    return make_camera(
        np.array((x, 0.0, uniform(rng, knobs.camera_height))),
        uniform(rng, knobs.camera_yaw),
        uniform(rng, knobs.camera_pitch),
        uniform(rng, knobs.camera_roll),
        uniform(rng, knobs.field_of_view),
    )


def compose(
    rng: np.random.Generator, scene: Scene, camera: Camera, knobs: Domain, size: tuple[int, int]
) -> dict[str, np.ndarray]:
    """Draws a scene as seen by a camera; returns the same arrays as `render`.

    Label and depth depend only on scene and camera; the image depends on `knobs` and `rng` too.
    """
    tables = tabulate(scene.primitives)
    buffers, directions = draw(scene.primitives, tables, camera, size)
    owner = buffers.owner.ravel()
    rays = directions.reshape(3, -1)
    depth = np.where(owner == OPEN, 0, buffers.depth.ravel()).astype(np.float32)
    world = camera.position.astype(np.float32)[:, None] + depth * rays
    label = np.full(owner.shape, SKY, np.uint8)
    floor = np.flatnonzero(owner == GROUND)
    label[floor] = label_ground(scene.ground, world[0, floor], world[1, floor])
    solid = np.flatnonzero(owner >= 0)
    label[solid] = tables.label[owner[solid], buffers.part.ravel()[solid]]
    twigs = [p for p in scene.primitives if p.kind == "veil"]
    veils = cast_veils(twigs, camera, directions, buffers.depth)
    wires = wire_cover(scene.wires, camera, buffers.depth) if scene.wires else None
    picture = _Picture(buffers, rays, world, depth.copy(), label.copy(), veils, wires)
    light = _shade(rng, scene, tables, camera, knobs, picture)
    for veil in veils:
        at = veil.pixel[veil.within]
        label[at], depth[at] = VEGETATION, veil.depth[veil.within]
    image = film(light.reshape(*size, 3), rng, knobs)
    return {"image": image, "label": label.reshape(size), "depth": depth.reshape(size)}


class _Picture(NamedTuple):
    """What the geometry passes found, n = H * W pixels."""

    buffers: Buffers
    rays: np.ndarray  # [3, n]
    world: np.ndarray  # [3, n]
    depth: np.ndarray  # [n] of solid things; 0 is sky
    label: np.ndarray  # [n] of solid things
    veils: list[Veil]
    wires: np.ndarray | None


class _Weather(NamedTuple):
    """Random settings of one image, other than those of the scene and of the film."""

    texture: float
    sunny: bool
    cloud: float
    sun: np.ndarray  # [3] unit vector
    ambient: float
    shadow: float
    visibility: float
    values: tuple[float, float]  # brightness of road and pavement
    grass: tuple[float, float, float]
    cloud_seed: float
    wear: Wear | None  # None in domains without details, as all below
    sky_gain: float | None = None
    pale: float | None = None
    occlusion: float | None = None
    gloss: float | None = None


def _weather(rng: np.random.Generator, knobs: Domain) -> _Weather:
    texture = uniform(rng, knobs.texture)
    sunny = bool(rng.random() < knobs.sunny)
    cloud = uniform(rng, knobs.cloud)
    azimuth, rise = rng.uniform(0, 2 * np.pi), np.radians(uniform(rng, knobs.sun_height))
    sun = (np.cos(azimuth) * np.cos(rise), np.sin(azimuth) * np.cos(rise), np.sin(rise))
    weather = _Weather(
        texture=texture,
        sunny=sunny,
        cloud=cloud * 0.7 if sunny else 0.5 + cloud / 2,
        sun=np.array(sun),
        ambient=uniform(rng, knobs.ambient),
        shadow=uniform(rng, knobs.shadow),
        visibility=float(np.exp(uniform(rng, np.log(knobs.haze)))),
        values=(uniform(rng, knobs.road_value), uniform(rng, knobs.pavement_value)),
        grass=hsv(
            uniform(rng, knobs.foliage_hue) - 8,
            uniform(rng, knobs.foliage_saturation) * 0.8,
            uniform(rng, knobs.foliage_value) * 1.1,
        ),
        cloud_seed=rng.uniform(0, 250),
        wear=None,
    )
    details = knobs.details
    if details is None:
        return weather
    return weather._replace(
        wear=draw_wear(rng, details, weather.values, weather.grass, texture),
        sky_gain=float(np.exp(uniform(rng, np.log(details.sky_gain)))),
        pale=uniform(rng, details.pale),
        occlusion=uniform(rng, details.occlusion),
        gloss=uniform(rng, details.gloss),
    )


def _shade(rng, scene, tables, camera, knobs, picture: _Picture):
    """Light [n, 3] of each pixel: surface colour, sun and shadow, haze."""
    weather = _weather(rng, knobs)
    buffers, rays, world, depth, label, _, _ = picture
    owner, part = buffers.owner.ravel(), buffers.part.ravel()
    colour = np.zeros((owner.size, 3), np.float32)
    normal = np.zeros((owner.size, 3), np.float32)
    gloss = np.zeros(owner.size, np.float32)
    reach = depth / (camera.focal * buffers.owner.shape[1])
    above, floor = np.flatnonzero(owner == OPEN), np.flatnonzero(owner == GROUND)
    seen, solid = np.flatnonzero(owner != OPEN), np.flatnonzero(owner >= 0)
    slope = -rays[2, floor] / np.sqrt((rays[:, floor] ** 2).sum(0))
    ground = scene.ground, label[floor], world[0, floor], world[1, floor], reach[floor], slope
    if weather.wear is None:
        colour[above] = sky(rays[:, above], weather.cloud, weather.cloud_seed, weather.texture)
        colour[floor] = paint_ground(*ground, weather.values, weather.grass, weather.texture)
    else:
        colour[floor] = paint_worn_ground(ground[0], weather.wear, *ground[1:])
    normal[floor, 2] = 1
    colour[solid], normal[solid], gloss[solid] = paint_primitives(
        tables, owner[solid], part[solid], world[:, solid], reach[solid], weather.texture
    )
    light = colour * colour  # from display values to linear light, close to gamma 2.2
    cells = int(np.clip(buffers.owner.shape[1], 128, 1024))
    light[seen] *= _brightness(
        scene, weather, world[:, seen], normal[seen], label[seen] == VEGETATION, cells
    )
    if knobs.contact > 0:
        bodies = [p for p in scene.primitives if p.parts[0].material in _STANDING]
        near = contact(bodies, world[:, floor])
        light[floor] *= (1 - knobs.contact * (1 - near))[:, None]
    if weather.wear is not None:
        return _detailed(light, normal, gloss, weather, picture)
    if not weather.sunny or weather.texture > 0:
        light[above] *= 1.6  # the sky is overexposed in a photograph exposed for the ground
    light[seen] = _hazy(light[seen], depth[seen], weather)
    return light


def _air(weather: _Weather):
    air = np.float32((0.62, 0.7, 0.78) if weather.sunny else (0.6, 0.62, 0.65))
    return air * air


def _hazy(light, depth, weather: _Weather):
    veil = 1 - np.exp(-depth / weather.visibility)
    return light + (_air(weather) - light) * veil[:, None]


def _detailed(light, normal, gloss, weather: _Weather, picture: _Picture):
    """Sky, dark corners, reflections, haze, and what is thinner than a pixel: light [n, 3]."""
    buffers, rays, world, depth, label, veils, wires = picture
    size = buffers.owner.shape
    above, seen = np.flatnonzero(depth == 0), np.flatnonzero(depth > 0)
    light[above] = weather.sky_gain * detailed_sky(
        rays[:, above], weather.sun, weather.sunny, weather.cloud, weather.cloud_seed, weather.pale
    )
    zenith = np.float32((0.0, 0.3, 1.0))[:, None]
    sheen = (
        weather.sky_gain
        * detailed_sky(zenith, weather.sun, False, weather.cloud, weather.cloud_seed, weather.pale)[
            0
        ]
    )
    sheen = np.minimum(sheen, 1.8) * np.float32((0.93, 0.98, 1.04))
    space = openness(
        world.reshape(3, *size), np.ascontiguousarray(normal.T).reshape(3, *size),
        depth.reshape(size),
    ).ravel()  # fmt: skip
    light *= (1 - weather.occlusion * (1 - space))[:, None]
    gloss = np.where(buffers.owner.ravel() == GROUND, 0.07, gloss) * (label != VEGETATION)
    light[seen] = reflect(
        light[seen], gloss[seen], normal[seen], rays[:, seen], world[:, seen], sheen, weather.gloss
    )
    light[seen] = _hazy(light[seen], depth[seen], weather)
    light = smooth_outlines(light.reshape(*size, 3), buffers).reshape(-1, 3)
    upright = 0.6
    if weather.sunny:
        upright = 0.85 * weather.ambient + 0.45 * (1 - weather.ambient) / max(0.5, weather.sun[2])
    lay_over(light, veils, wires, upright, _air(weather), weather.visibility)
    return light


def _brightness(scene: Scene, weather: _Weather, world, normal, leaves, cells: int) -> np.ndarray:
    """Sunlight plus skylight as factors on surface colours: [n, 3], or [n, 1] without sun."""
    facing = normal @ weather.sun.astype(np.float32)
    facing = np.where(leaves, 0.4 + 0.6 * facing, facing)  # leaves let light through
    if not weather.sunny:
        return (0.5 + 0.25 * normal[:, 2] + 0.1 * facing)[:, None]
    direct = np.maximum(facing, 0)
    if weather.shadow > 0:
        free = shadow_map(scene.primitives, weather.sun, cells)(world + 0.05 * normal.T)
        direct = direct * (1 - weather.shadow * (1 - free))
    skylight = weather.ambient * (0.7 + 0.3 * normal[:, 2])
    direct = direct * 1.15 * (1 - weather.ambient) / max(0.5, weather.sun[2])
    cool, warm = np.float32((0.95, 1.0, 1.08)), np.float32((1.06, 1.0, 0.92))
    return skylight[:, None] * cool + direct[:, None] * warm
