"""Building blocks of the `streets` scenes: convex solids, ellipsoids and upright cards.

Every primitive has a local frame, moved and rotated about the vertical. In it, z is up and y runs
along the street (forwards, for a vehicle). Labels are Cityscapes train ids.
"""

import colorsys
from collections.abc import Callable
from enum import IntEnum, auto
from typing import NamedTuple

import numpy as np

(ROAD, SIDEWALK, BUILDING, WALL, FENCE, POLE, LIGHT, SIGN, VEGETATION, TERRAIN, SKY) = range(11)
PERSON, RIDER, CAR, TRUCK, BUS, TRAIN, MOTORCYCLE, BICYCLE = range(11, 19)

_FACES = np.array(
    [(1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1)], float
)  # right, left, front, back, top, bottom


class Material(IntEnum):
    """How a surface is painted, see `paint`."""

    PLAIN = auto()
    FACADE = auto()
    ROOF = auto()
    CAR_BODY = auto()
    CAR_CABIN = auto()
    BUS = auto()
    TRUCK_CAB = auto()
    CARGO = auto()
    CLOTH = auto()
    METAL = auto()
    SIGNAL = auto()
    LEAVES = auto()
    BARK = auto()
    BRICKS = auto()


class Part(NamedTuple):
    """One surface of a primitive: train id, colour and material."""

    label: int
    colour: tuple[float, float, float]
    material: int


class Primitive(NamedTuple):
    """A solid, ellipsoid or card in its local frame.

    Attributes:
        kind: 'solid', 'ellipsoid', 'card' (the plane y = 0 of the frame), or 'veil' (a card that
            covers pixels in part, see `veil`).
        origin: [3] world position of the frame; `yaw` rotates it about the vertical (radians).
        low, high: [3] bounds in the frame.
        planes: [k, 4] outward normals and offsets of a solid, normal . p <= offset.
        parts: surfaces; a solid has one per plane, in order.
        silhouette: maps (x, y, z, part, numbers) of points in the frame to part numbers, negative
            outside the shape; every card and ellipsoid has one, solids may. Ellipsoids pass their
            thickness behind the point instead of a part: 0 at the rim, 1 where thickest.
        numbers: [8] parameters of silhouette and paint.
    """

    kind: str
    origin: tuple[float, float, float]
    yaw: float
    low: tuple[float, float, float]
    high: tuple[float, float, float]
    parts: tuple[Part, ...]
    planes: np.ndarray | None = None
    silhouette: Callable | None = None
    numbers: tuple[float, ...] = ()


def hsv(hue: float, saturation: float, value: float) -> tuple[float, float, float]:
    """Converts HSV (hue in degrees) to RGB in 0..1."""
    return colorsys.hsv_to_rgb((hue / 360) % 1, float(np.clip(saturation, 0, 1)), min(value, 1.0))


def box(at, yaw, low, high, parts, *, silhouette=None, numbers=()) -> Primitive:
    """An upright box; `parts`: right, left, front, back, top, bottom, or one for all."""
    offset = np.where(_FACES.sum(1) > 0, _FACES @ high, _FACES @ low)
    planes = np.concatenate((_FACES, offset[:, None]), 1)
    parts = tuple(parts) if len(parts) == 6 else tuple(parts) * 6
    origin = (at[0], at[1], 0.0)
    return Primitive("solid", origin, yaw, low, high, parts, planes, silhouette, numbers)


def tapered(at, yaw, low, high, slant_x, slant_front, slant_back, parts, numbers=()) -> Primitive:
    """A box whose four sides lean inwards; slants are tangents of the angles."""
    planes = []
    for face, slant in zip(_FACES[:4], (slant_x, slant_x, slant_front, slant_back), strict=True):
        normal = np.array((face[0], face[1], slant))
        edge = (face @ high if face.sum() > 0 else face @ low) + slant * low[2]
        planes.append((*normal, edge) / np.linalg.norm(normal))
    planes.append((0, 0, 1, high[2]))
    planes.append((0, 0, -1, -low[2]))
    origin = (at[0], at[1], 0.0)
    return Primitive("solid", origin, yaw, low, high, parts, np.array(planes), None, numbers)


def card(at, yaw, low, high, parts, silhouette, numbers, z=0.0) -> Primitive:
    """An upright plane, perpendicular to the direction `yaw`."""
    low, high = (low[0], 0.0, low[1]), (high[0], 0.0, high[1])
    return Primitive(
        "card", (at[0], at[1], z), yaw, low, high, tuple(parts), None, silhouette, numbers
    )
