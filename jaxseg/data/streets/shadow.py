"""Cast shadows and contact shadows in `streets` images."""

from collections.abc import Callable

import numpy as np

from jaxseg.data.streets.primitives import CAR, Material, Primitive
from jaxseg.data.streets.texture import sample, tiles

_NEAR, _FAR, _WIDTH = -6.0, 90.0, 38.0  # the map's first and last y, and half its width, metres
_FINE = 4.0  # metres; cells have about equal size up to here


def shadow_map(primitives: list[Primitive], sun: np.ndarray, cells: int) -> Callable:
    """Builds a shadow map: the height up to which the sun's ray through a ground point is blocked.

    The map is finer near the viewer: rows are spaced by the logarithm of y, columns by an inverse
    hyperbolic sine of x.

    Args:
        primitives: objects that cast shadows.
        sun: [3] unit vector to the sun, which is above the horizon.
        cells: number of columns, and of rows, of the map.

    Returns:
        A function from world positions [3, n] to the share of sunlight that arrives, [n].
    """
    slope = sun[:2] / sun[2]
    x_end, y_end = np.arcsinh(_WIDTH / _FINE), np.log((_FAR - _NEAR) / _FINE + 1)

    def columns(x):
        return (np.arcsinh(x / _FINE) / x_end + 1) / 2 * cells

    def rows(y):
        return np.log(np.maximum((y - _NEAR) / _FINE + 1, 1e-3)) / y_end * cells

    centre = (np.arange(cells) + 0.5) / cells
    grid_x = (_FINE * np.sinh((centre * 2 - 1) * x_end)).astype(np.float32)
    grid_y = (_FINE * (np.exp(centre * y_end) - 1) + _NEAR).astype(np.float32)
    top = np.full((cells, cells), -1.0, np.float32)
    # Wheels cast none, the body above them does; nor do the small parts of cars.
    primitives = [p for p in primitives if not _small(p)]
    foot = _corners(primitives)
    foot = foot[..., :2] - foot[..., 2:] * slope
    low, high = foot.min(1), foot.max(1)
    first = np.stack((columns(low[:, 0]), rows(low[:, 1])), 1)
    last = np.stack((columns(high[:, 0]), rows(high[:, 1])), 1)
    first = np.maximum(first, 0).astype(int)
    last = np.minimum(last + 1, cells).astype(int)
    for p, (x0, y0), (x1, y1) in zip(primitives, first, last, strict=True):
        if x0 < x1 and y0 < y1:
            block = top[y0:y1, x0:x1]
            np.maximum(block, _highest(p, grid_x[x0:x1], grid_y[y0:y1], slope), out=block)

    def light(world: np.ndarray, bias: float = 0.12) -> np.ndarray:
        x = columns(world[0] - world[2] * slope[0]) - 0.5
        y = rows(world[1] - world[2] * slope[1]) - 0.5
        ix, iy = np.floor(x), np.floor(y)
        fx, fy = x - ix, y - iy
        known = (ix >= 0) & (iy >= 0) & (ix < cells - 1) & (iy < cells - 1)
        ix, iy = np.clip(ix, 0, cells - 2).astype(int), np.clip(iy, 0, cells - 2).astype(int)
        flat, level, at = top.ravel(), world[2] + bias, iy * cells + ix
        free = [flat[at + k] <= level for k in (0, 1, cells, cells + 1)]
        near = free[0] * (1 - fx) + free[1] * fx
        far = free[2] * (1 - fx) + free[3] * fx
        return np.where(known, near * (1 - fy) + far * fy, 1.0).astype(np.float32)

    return light


def _small(p: Primitive) -> bool:
    if p.kind != "solid":
        return False
    part = p.parts[0]
    return p.silhouette is not None or (part.label == CAR and part.material == Material.PLAIN)


def _corners(primitives: list[Primitive]) -> np.ndarray:
    """World positions [n, 8, 3] of the corners of the primitives' bounds."""
    origin, yaw, low, high = (
        np.array([getattr(p, name) for p in primitives], float).reshape(len(primitives), *shape)
        for name, shape in zip(Primitive._fields[1:5], ((3,), (), (3,), (3,)), strict=True)
    )
    bit = (np.arange(8)[:, None] >> np.arange(3)) & 1  # the bits of k choose the bounds of corner k
    corner = np.where(bit[None], high[:, None], low[:, None])
    x, y, z = np.moveaxis(corner, -1, 0)
    cos, sin = np.cos(yaw)[:, None], np.sin(yaw)[:, None]
    return np.stack((cos * x - sin * y, sin * x + cos * y, z), -1) + origin[:, None]


def _highest(p: Primitive, grid_x, grid_y, slope) -> np.ndarray:
    """Height in metres where rays through (x, y, 0) leave a primitive; negative if they miss."""
    cos, sin = np.cos(p.yaw), np.sin(p.yaw)
    # A ray in the primitive's frame: (x, y, base) + height * (dx, dy, 1).
    fx, fy = grid_x[None] - p.origin[0], grid_y[:, None] - p.origin[1]
    x, y = cos * fx + sin * fy, cos * fy - sin * fx
    dx, dy = cos * slope[0] + sin * slope[1], cos * slope[1] - sin * slope[0]
    base = -p.origin[2]
    if p.kind == "solid":
        enter = np.full(x.shape, -np.inf, np.float32)
        leave = np.full(x.shape, np.inf, np.float32)
        for a, b, c, k in p.planes:
            rate = a * dx + b * dy + c
            rest = k - a * x - b * y - c * base
            if rate > 1e-6:
                leave = np.minimum(leave, rest / rate)
            elif rate < -1e-6:
                enter = np.maximum(enter, rest / rate)
            else:
                leave = np.where(rest < 0, -np.inf, leave)
        return np.where(enter < leave, leave, -1)
    if p.kind == "ellipsoid":
        rx, ry, rz = p.high
        a = (dx / rx) ** 2 + (dy / ry) ** 2 + 1 / rz**2
        b = x * dx / rx**2 + y * dy / ry**2 + base / rz**2
        root = b * b - a * ((x / rx) ** 2 + (y / ry) ** 2 + (base / rz) ** 2 - 1)
        hit = root > 0
        if p.silhouette is not None:  # gaps between leaves let light through
            gaps = sample(tiles()[1], *np.broadcast_arrays(grid_x[None] * 14, grid_y[:, None] * 14))
            hit &= gaps < p.numbers[0] + 0.3
        return np.where(hit, (np.sqrt(np.maximum(root, 0)) - b) / a, -1)
    if p.kind in ("card", "veil"):
        # Light along a card would cast no shadow: tilt it a little across.
        dy = dy if abs(dy) > 0.15 else np.copysign(0.15, dy)
        height = -y / dy
        x, z = x + height * dx, base + height
        seen = (x > p.low[0]) & (x < p.high[0]) & (z > p.low[2]) & (z < p.high[2])
        part = p.silhouette(x[seen], 0 * x[seen], z[seen], np.zeros(seen.sum(), int), p.numbers)
        seen[seen] = part >= 0
        return np.where(seen, height, -1)
    raise ValueError(f"no shadow of a primitive of kind {p.kind!r}")


def contact(bodies: list[Primitive], world: np.ndarray, reach: float = 0.7) -> np.ndarray:
    """Ambient occlusion by vehicles: share of the sky seen from ground points, [n] in 0..1.

    Args:
        bodies: bodies that stand on the ground.
        world: [3, n] positions on the ground.
        reach: distance in metres over which the shadow fades.
    """
    out = np.ones(world.shape[1], np.float32)
    for p in bodies:
        size = max(np.hypot(*p.high[:2]), np.hypot(*p.low[:2])) + reach
        dx, dy = world[0] - p.origin[0], world[1] - p.origin[1]
        near = np.flatnonzero((np.abs(dx) < size) & (np.abs(dy) < size))
        if not near.size:
            continue
        cos, sin = np.cos(p.yaw), np.sin(p.yaw)
        dx, dy = dx[near], dy[near]
        x, y = cos * dx + sin * dy, cos * dy - sin * dx
        dx = np.maximum(np.maximum(p.low[0] - x, x - p.high[0]), 0)
        dy = np.maximum(np.maximum(p.low[1] - y, y - p.high[1]), 0)
        out[near] = np.minimum(out[near], np.clip(np.hypot(dx, dy) / reach, 0, 1) ** 0.7)
    return out
