"""The ground of the `streets` scenes: a road with its markings, pavements, grass.

The street's centre line is x = bend * y^2; `lateral` is the distance to its right.
"""

from typing import NamedTuple

import numpy as np

from jaxseg.data.streets.primitives import ROAD, SIDEWALK, TERRAIN
from jaxseg.data.streets.texture import band, grain, inside, joints, mix, sample, scatter, tiles

WHITE = np.float32((0.9, 0.9, 0.88))  # of road markings


class Ground(NamedTuple):
    """The plane z = 0: a street with pavements, optionally with a side street across it."""

    half: float  # half the width of the road
    bend: float  # 1/m
    verge: tuple[float, float]  # widths of the grass strips next to the road, left and right
    pavement: tuple[float, float]  # widths of the pavements
    crossing: float  # y of the side street's axis; far away when there is none
    crossing_half: float
    zebra: float  # y of a pedestrian crossing; far away when there is none
    lanes: int
    hand: int  # +1 right-hand traffic, -1 left-hand
    parking: tuple[bool, bool]
    lots: tuple[float, float] = (0.0, 0.0)  # widths of car parks behind the pavements


def label_ground(ground: Ground, x, y) -> np.ndarray:
    """Train ids of points of the plane z = 0."""
    lateral = x - ground.bend * y * y
    beyond = np.abs(lateral) - ground.half
    right = lateral > 0
    verge = np.where(right, ground.verge[1], ground.verge[0])
    pavement = np.where(right, ground.pavement[1], ground.pavement[0])
    lot = np.where(right, ground.lots[1], ground.lots[0])
    behind = beyond - verge - pavement
    label = np.where(behind < 0, SIDEWALK, np.where(behind < lot, ROAD, TERRAIN))
    label = np.where(beyond < verge, TERRAIN, label)
    aside = np.abs(y - ground.crossing) - ground.crossing_half
    label = np.where(aside < 2.0, SIDEWALK, label)
    return np.where((beyond < 0) | (aside < 0), ROAD, label).astype(np.uint8)


def paint_ground(ground: Ground, label, x, y, reach, slope, values, grass, texture: float):
    """Colours [n, 3] of points of the plane z = 0.

    Args:
        ground: the street.
        label: [n] from `label_ground`.
        x, y: [n] world positions.
        reach: [n] metres per pixel across the view.
        slope: [n] cosine between ray and vertical; a pixel covers reach / slope along the view.
        values: brightness of road and of pavement.
        grass: colour of terrain.
        texture: strength of texture.
    """
    road_value, pavement_value = values
    lateral = x - ground.bend * y * y
    long_reach = reach / np.maximum(slope, 0.02)
    base = np.float32(
        (
            np.float32((1.0, 1.0, 1.03)) * road_value,
            np.float32((1.0, 0.98, 0.94)) * pavement_value,
            grass,
        )
    )
    colour = base[np.where(label == TERRAIN, 2, label)]
    road, paved = label == ROAD, label == SIDEWALK
    if texture > 0:
        stretched = np.sqrt(reach * long_reach)
        value = grain(
            x + 30, y, stretched, ((70.0, 0.08), (16.0, 0.06), (3.0, 0.045), (0.35, 0.07))
        )
        worn = sample(tiles()[1], lateral * 6 + 90, y * 0.6)  # tracks along the road
        value += np.where(road, 0.07 * worn * np.clip(1.5 - reach * 5, 0, 1), 0)
        patch = scatter(np.floor(x / 2.7), np.floor(y / 4.3 + np.floor(x / 2.7) * 0.37))
        value += np.where(road, (patch < 0.12) * -0.16 + (patch > 0.94) * 0.12, 0)
        value = np.where(label == TERRAIN, 1 + 2.2 * (value - 1), value)
        colour = colour * np.clip(1 + texture * (value - 1), 0.2, 2)[:, None]
    width = np.where(paved, 0.6, 1.0)
    slabs = joints(lateral, y, width, width, 0.02, np.minimum(long_reach, 2)) * paved
    colour = mix(colour, colour * 0.72, slabs * np.clip(1.5 - long_reach * 1.2, 0, 1))
    beyond = np.abs(lateral) - ground.half
    open_road = np.abs(y - ground.crossing) > ground.crossing_half + 0.2
    kerb = band(beyond, 0.09, 0.09, reach) * open_road
    colour = mix(colour, base[1] * 1.12, kerb)
    colour = mix(colour, colour * 0.7, band(beyond, -0.12, 0.12, reach) * open_road * road)
    lines = road_lines(ground, lateral, y, reach, long_reach) * road
    if texture > 0:  # worn paint
        lines = lines * np.clip(0.85 + 0.2 * texture * sample(tiles()[1], x * 8, y * 8), 0.2, 1)
    return mix(colour, WHITE, lines * 0.92)


def road_lines(ground: Ground, lateral, y, reach, long_reach, sides: float = 0.8) -> np.ndarray:
    """How much of points [n] on the road white paint covers; `sides` scales lines along kerbs."""
    within = np.abs(lateral) < (ground.half if any(ground.lots) else np.inf)  # none in car parks
    open_road = np.abs(y - ground.crossing) > ground.crossing_half + 0.2
    paint = open_road * (np.abs(y - ground.zebra) > 2.2)
    dash = inside(1.5 - np.abs((y % 7.0) - 3.5), long_reach)
    lines = band(lateral, 0, 0.08, reach) * dash
    if ground.lanes == 2:
        double = np.maximum(band(lateral, 0.14, 0.07, reach), band(lateral, -0.14, 0.07, reach))
        lane = (ground.half - (2.1 if any(ground.parking) else 0.3)) / 2
        lines = np.maximum(double, band(np.abs(lateral), lane, 0.07, reach) * dash)
    for i, side in enumerate((-1, 1)):
        inset = 2.1 if ground.parking[i] else 0.3
        line = band(lateral, side * (ground.half - inset), 0.06, reach)
        lines = np.maximum(lines, sides * line)
    near = ground.crossing - ground.crossing_half - 1.2
    stop = band(y, near, 0.2, long_reach) * (lateral * ground.hand > 0)
    zebra = inside(1.5 - np.abs(y - ground.zebra), long_reach)
    zebra = zebra * band((lateral / 1.1) % 1, 0.5, 0.25, reach)
    return np.maximum(lines * paint, np.maximum(stop, zebra) * within)
