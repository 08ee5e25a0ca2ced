"""Geometry pass of the `streets` renderer: which surface each pixel sees, and how far it is.

Primitives are ray cast only inside their screen rectangles, with one z-buffer. Each pixel stores
its visible surface as (owner, part); shading looks up all else in `Tables`.
"""

from typing import NamedTuple

import numpy as np

from jaxseg.data.streets.camera import NEAR, Camera, rays, rectangles
from jaxseg.data.streets.primitives import Primitive

PARTS = 16  # part numbers of a primitive are 0 .. PARTS - 1
FAR = 900.0  # metres; the ground ends here, beyond it is sky
GROUND, OPEN = -1, -2  # owner of pixels of the plane z = 0, and of the sky


class Buffers(NamedTuple):
    """Result of the geometry pass for each pixel, all [H, W]."""

    depth: np.ndarray  # float32 metres along the optical axis, inf where there is sky
    owner: np.ndarray  # int32 primitive number, GROUND or OPEN
    part: np.ndarray  # int32


class Tables(NamedTuple):
    """The primitives as arrays, indexed by owner."""

    origin: np.ndarray  # [n, 3]
    yaw: np.ndarray  # [n]
    low: np.ndarray  # [n, 3]
    high: np.ndarray  # [n, 3]
    numbers: np.ndarray  # [n, 8]
    label: np.ndarray  # [n, PARTS]
    colour: np.ndarray  # [n, PARTS, 3]
    material: np.ndarray  # [n, PARTS]
    normal: np.ndarray  # [n, PARTS, 3] in the primitive's local frame


def tabulate(primitives: list[Primitive]) -> Tables:
    """Converts a list of primitives to arrays, see `Tables`."""
    n = len(primitives)
    label = np.full((n, PARTS), 255, np.uint8)
    colour = np.zeros((n, PARTS, 3), np.float32)
    material = np.zeros((n, PARTS), np.int32)
    normal = np.zeros((n, PARTS, 3), np.float32)
    normal[..., 1] = -1
    numbers = np.zeros((n, 8), np.float32)
    for i, p in enumerate(primitives):
        k = len(p.parts)
        label[i, :k] = [q.label for q in p.parts]
        colour[i, :k] = [q.colour for q in p.parts]
        material[i, :k] = [q.material for q in p.parts]
        numbers[i, : len(p.numbers)] = p.numbers
        if p.planes is not None:
            normal[i, : len(p.planes)] = p.planes[:, :3]
    columns = [
        np.array([getattr(p, name) for p in primitives], float) for name in Tables._fields[:4]
    ]
    return Tables(*columns, numbers, label, colour, material, normal)


def draw(
    primitives: list[Primitive], tables: Tables, camera: Camera, size: tuple[int, int]
) -> tuple[Buffers, np.ndarray]:
    """Ray casts the ground plane z = 0 and all primitives.

    Args:
        primitives: what to draw; those of kind 'veil' are left to `veil`.
        tables: `tabulate(primitives)`.
        camera: the camera.
        size: (height, width).

    Returns:
        The buffers, and the ray directions [3, H, W] they were made with.
    """
    directions = rays(camera, size)
    down = directions[2]
    with np.errstate(divide="ignore"):
        depth = np.where(down < 0, np.float32(-camera.position[2]) / down, np.inf)
    depth[depth > FAR] = np.inf
    owner = np.where(np.isfinite(depth), GROUND, OPEN).astype(np.int32)
    part = np.zeros(size, np.int32)
    boxes = rectangles(camera, size, *tables[:4])
    cast = {"solid": _cast_solid, "ellipsoid": _cast_ellipsoid, "card": _cast_card}
    for i, primitive in enumerate(primitives):
        y0, y1, x0, x1 = boxes[i]
        if y0 >= y1 or x0 >= x1 or primitive.kind == "veil":
            continue
        window = (slice(y0, y1), slice(x0, x1))
        ray = directions[(slice(None), *window)].reshape(3, -1)
        cos, sin = np.cos(primitive.yaw), np.sin(primitive.yaw)
        turn = np.array(((cos, sin, 0), (-sin, cos, 0), (0, 0, 1)))
        eye = turn @ (camera.position - primitive.origin)
        hit, distance, surface = cast[primitive.kind](
            primitive, turn.astype(np.float32), eye.astype(np.float32), ray, depth[window].ravel()
        )
        if not hit.size:
            continue
        if primitive.silhouette is not None:
            point = eye.astype(np.float32)[:, None] + distance * (
                turn.astype(np.float32) @ ray[:, hit]
            )
            surface = primitive.silhouette(*point, surface, primitive.numbers)
            keep = surface >= 0
            hit, distance, surface = hit[keep], distance[keep], surface[keep]
        rows, columns = np.divmod(hit, x1 - x0)
        rows, columns = rows + y0, columns + x0
        depth[rows, columns] = distance
        owner[rows, columns] = i
        part[rows, columns] = surface
    return Buffers(depth, owner, part), directions


def _cast_solid(primitive, turn, eye, ray, limit):
    planes = primitive.planes
    offset = (planes[:, 3] - planes[:, :3] @ eye).astype(np.float32)[:, None]
    slope = (planes[:, :3].astype(np.float32) @ turn) @ ray
    with np.errstate(divide="ignore", invalid="ignore"):
        t = offset / slope
    entering = np.where(slope < 0, t, -np.inf)
    leave = np.where(slope > 0, t, np.inf).min(0)
    enter = entering.max(0)
    hit = np.flatnonzero((enter < leave) & (enter > NEAR) & (enter < limit))
    return hit, enter[hit], entering[:, hit].argmax(0)


def _cast_ellipsoid(primitive, turn, eye, ray, limit):
    radius = np.asarray(primitive.high, np.float32)[:, None]
    d = (turn @ ray) / radius
    e = eye[:, None] / radius
    a = (d * d).sum(0)
    b = (d * e).sum(0)
    root = b * b - a * ((e * e).sum() - 1)
    chord = np.sqrt(np.maximum(root, 0))
    t = (-b - chord) / a
    hit = np.flatnonzero((root > 0) & (t > NEAR) & (t < limit))
    return hit, t[hit], chord[hit] / np.sqrt(a[hit])


def _cast_card(primitive, turn, eye, ray, limit):
    with np.errstate(divide="ignore", invalid="ignore"):
        t = -eye[1] / (turn[1] @ ray)
    hit = np.flatnonzero((t > NEAR) & (t < limit))
    t = t[hit]
    x = eye[0] + t * (turn[0] @ ray[:, hit])
    z = eye[2] + t * ray[2, hit]
    low, high = primitive.low, primitive.high
    keep = (x >= low[0]) & (x <= high[0]) & (z >= low[2]) & (z <= high[2])
    return hit[keep], t[keep], np.zeros(int(keep.sum()), int)
