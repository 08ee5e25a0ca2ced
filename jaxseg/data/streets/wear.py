"""What real roads and pavements show, for `streets`: patches, seams, tyre tracks, covers, kerbs,
slabs of several tones, yellow lines.
"""

from typing import NamedTuple

import numpy as np

from jaxseg.data.streets.domains import Details
from jaxseg.data.streets.ground import WHITE, Ground, road_lines
from jaxseg.data.streets.plan import uniform
from jaxseg.data.streets.primitives import ROAD, SIDEWALK, TERRAIN
from jaxseg.data.streets.texture import band, grain, inside, joints, mix, sample, scatter, tiles


class Wear(NamedTuple):
    """Random settings of the ground in one image."""

    strength: float  # of patches, tracks, stains
    bluish: float  # tint of the asphalt
    warm: float  # tint of the pavement
    edge_lines: float  # 0: no white lines at the sides of the road
    yellow: float  # double yellow lines at the kerb
    lines: float  # how much of the paint is left
    slab: tuple[float, float]  # width and length of paving slabs; 0: asphalt
    slab_tones: float  # how much slabs differ
    box: bool  # a yellow box on the junction
    road: float  # brightness of the asphalt
    paved: float  # brightness of the pavement
    grass: tuple[float, float, float]
    texture: float
    seed: float


def draw_wear(rng, details: Details, values, grass, texture: float) -> Wear:
    """Draws the settings; `values` are the brightness of road and pavement, `grass` a colour."""
    road, paved = values
    if rng.random() < details.alike:
        paved = road * rng.uniform(0.85, 1.2)
    slabs = ((0.6, 0.6), (0.45, 0.45), (0.9, 0.6), (0.2, 0.1), (0.0, 0.0))
    return Wear(
        strength=uniform(rng, details.wear),
        bluish=uniform(rng, details.bluish),
        warm=uniform(rng, details.warm),
        edge_lines=rng.choice((0.0, 0.0, 0.5, 1.0)),
        yellow=rng.choice((0.0, 0.0, 0.5, 0.9)),
        lines=rng.uniform(0.35, 1.0),
        slab=slabs[rng.choice(5, p=(0.3, 0.2, 0.15, 0.1, 0.25))],
        slab_tones=rng.uniform(0.02, 0.14),
        box=bool(rng.random() < 0.3),
        road=road,
        paved=paved,
        grass=grass,
        texture=texture,
        seed=rng.uniform(0, 200),
    )


def paint_worn_ground(ground: Ground, wear: Wear, label, x, y, reach, slope) -> np.ndarray:
    """Colours [n, 3] of points of the plane z = 0; arguments as those of `paint_ground`."""
    lateral = x - ground.bend * y * y
    long_reach = reach / np.maximum(slope, 0.02)
    beyond = np.abs(lateral) - ground.half
    stone = np.float32((1.0, 0.99, 0.96)) * (0.5 * wear.paved + 0.2)
    base = np.float32(((1.0,) * 3, (1.0,) * 3, wear.grass))
    base *= np.float32((wear.road, wear.paved, 1.0))[:, None]
    colour = base[np.where(label == TERRAIN, 2, label)]
    scales = ((70.0, 0.07), (16.0, 0.05), (3.0, 0.03), (0.35, 0.04))
    value = grain(x + 30, y, np.sqrt(reach * long_reach), scales) - 1
    value = np.where(label == TERRAIN, 2.2 * value, value)
    colour *= np.clip(1 + wear.texture * value, 0.2, 2)[:, None]
    open_road = np.abs(y - ground.crossing) > ground.crossing_half + 0.2
    for kind in (ROAD, SIDEWALK):
        i = np.flatnonzero(label == kind)
        there = lateral[i], y[i], reach[i], long_reach[i]
        if kind == ROAD:
            part = wear_road(colour[i], wear, ground, x[i], *there)
            part = junction_box(part, wear, ground, *there)
        else:
            part = wear_pavement(colour[i], wear, *there)
        kerbed = wear_kerb(part, stone, wear, beyond[i], *there[1:])
        colour[i] = np.where(open_road[i, None], kerbed, part)
        if kind == ROAD:
            lines = road_lines(ground, *there, sides=wear.edge_lines) * wear.lines
            chipped = np.clip(0.85 + 0.25 * sample(tiles()[1], x[i] * 8, y[i] * 8), 0.2, 1)
            colour[i] = mix(colour[i], WHITE, lines * chipped * 0.9)
    return colour


def wear_road(colour, wear: Wear, ground: Ground, x, lateral, y, reach, long_reach):
    """Asphalt [n, 3] with all that happens to it, below its markings."""
    _, fractal = tiles()
    s = wear.strength
    tint = np.float32((1 - wear.bluish, 1 - 0.3 * wear.bluish, 1 + wear.bluish))
    value = np.ones(x.shape, np.float32)
    # Strips that were dug up and filled, and long mends of other asphalt.
    u, v = np.floor(lateral / 1.9 + wear.seed), np.floor(y / 5.3 + 0.61 * np.floor(lateral / 1.9))
    mend = scatter(u, v, np.full_like(u, int(wear.seed)))
    value += s * ((mend < 0.1) * -0.22 + (mend > 0.93) * 0.16)
    strip = band(lateral, ground.half * 0.55 * np.sin(wear.seed), 0.3, reach)
    value -= 0.18 * s * strip * (np.sin(wear.seed * 3) > 0)
    # Tyres polish two tracks in each lane; oil darkens its middle.
    lane = max(ground.half / ground.lanes, 2.6)
    place = np.abs((np.abs(lateral) / lane) % 1 - 0.5) * lane
    inner = np.abs(lateral) < ground.half
    value += (
        s
        * inner
        * (0.1 * np.exp(-(((place - 0.8) / 0.3) ** 2)) - 0.09 * np.exp(-((place / 0.35) ** 2)))
    )
    value += 0.07 * s * sample(fractal, lateral * 2.2 + wear.seed, y * 0.35)
    value += 0.06 * s * sample(fractal, x * 0.9 + wear.seed, y * 0.5)
    # Seams between the paver's lanes, cracks across.
    fade = np.clip(1.4 - reach * 14, 0, 1)
    value -= 0.3 * s * fade * band(np.abs(lateral), lane * 0.97, 0.025, reach)
    crack = (y + 0.5 * sample(fractal, x * 3, y * 0.2)) % 11.0
    value -= 0.25 * s * band(crack, 5.0, 0.02, long_reach) * np.clip(1.3 - long_reach * 4, 0, 1)
    colour = colour * np.clip(value, 0.3, 1.8)[:, None] * tint
    # Covers of manholes and drains.
    cu, cv = np.floor(x / 3.3), np.floor(y / 7.7)
    dice = scatter(cu, cv, np.full_like(cu, int(wear.seed) + 7))
    dx, dy = (x / 3.3 - cu - 0.3 - 0.4 * dice) * 3.3, (y / 7.7 - cv - 0.5) * 7.7
    cover = inside(0.33 - np.hypot(dx, dy), np.maximum(reach, long_reach * 0.5)) * (dice < 0.22)
    return mix(colour, colour * 0.55, cover)


def wear_pavement(colour, wear: Wear, lateral, y, reach, long_reach):
    """Pavement [n, 3]: slabs that differ in tone, or plain asphalt."""
    value = 1 + 0.08 * wear.strength * sample(tiles()[1], lateral * 1.5 + wear.seed, y * 1.5)
    wide, long = wear.slab
    if wide > 0:
        tone = scatter(np.floor(lateral / wide), np.floor(y / long), np.full_like(y, 5)) - 0.5
        value += 2 * wear.slab_tones * tone * np.clip(1.5 - long_reach / long * 0.7, 0, 1)
        line = joints(lateral, y, wide, long, 0.015, np.minimum(long_reach, 2))
        value -= 0.3 * line * np.clip(1.5 - long_reach / long * 0.7, 0, 1)
    tint = np.float32((1 + wear.warm, 1 + 0.2 * wear.warm, 1 - wear.warm))
    return colour * np.clip(value, 0.3, 1.8)[:, None] * tint


def wear_kerb(colour, stone, wear: Wear, beyond, y, reach, long_reach):
    """Kerb stones, their dark face, the gutter and yellow lines [n, 3]; `stone` is their colour."""
    tone = 0.9 + 0.3 * scatter(np.floor(y / 0.9), np.full_like(y, int(wear.seed)))
    gap = 1 - 0.4 * band((y / 0.9) % 1, 0.5, 0.02, long_reach) * np.clip(1.4 - long_reach * 2, 0, 1)
    colour = mix(colour, stone * (tone * gap)[:, None], band(beyond, 0.14, 0.09, reach))
    colour = mix(colour, stone * 0.45, band(beyond, 0.025, 0.03, reach))
    colour = mix(colour, colour * 0.75, band(beyond, -0.12, 0.12, reach))
    yellow = np.maximum(band(beyond, -0.3, 0.04, reach), band(beyond, -0.48, 0.04, reach))
    return mix(colour, np.float32((0.72, 0.6, 0.25)), yellow * wear.yellow)


def junction_box(colour, wear: Wear, ground: Ground, lateral, y, reach, long_reach):
    """A yellow lattice on the crossing of both roads, [n, 3]."""
    if not wear.box or ground.crossing > 100:
        return colour
    away = np.minimum(
        ground.crossing_half - np.abs(y - ground.crossing), ground.half - np.abs(lateral)
    )
    wide = np.sqrt(reach * long_reach)
    a, b = ((lateral + y) / 2.2) % 1 - 0.5, ((lateral - y) / 2.2) % 1 - 0.5
    line = np.maximum(band(a, 0, 0.035, wide / 2.2), band(b, 0, 0.035, wide / 2.2)) * (away > 0.3)
    line = np.maximum(line, band(away, 0.35, 0.07, wide))
    return mix(colour, np.float32((0.75, 0.62, 0.2)), line * wear.lines * 0.8)
