"""Things of `streets` that are thinner than a pixel: trees of twigs and leaves, and wires.

They are laid over the picture of all solid things, each pixel covered in part.
"""

from typing import NamedTuple

import numpy as np

from jaxseg.data.streets.camera import NEAR, Camera, rectangles
from jaxseg.data.streets.primitives import Primitive
from jaxseg.data.streets.trees import SIDE, look_up, portrait


class Veil(NamedTuple):
    """The pixels of one tree, all [k].

    Attributes:
        pixel: flat pixel numbers.
        depth: metres along the optical axis.
        cover: covered share of the pixel.
        shade: factor on the colour.
        within: whether the pixel is inside the outline of the crown, gaps included. As people who
            label photographs do, the label takes all of it as vegetation.
        colour: [3] display values.
    """

    pixel: np.ndarray
    depth: np.ndarray
    cover: np.ndarray
    shade: np.ndarray
    within: np.ndarray
    colour: np.ndarray


def cast_veils(
    primitives: list[Primitive], camera: Camera, directions: np.ndarray, limit: np.ndarray
) -> list[Veil]:
    """Ray casts the trees on cards, the farthest first.

    Args:
        primitives: of kind 'veil'.
        camera: the camera.
        directions: [3, H, W] rays.
        limit: [H, W] depth of the solid things, which hide what is behind them.
    """
    if not primitives:
        return []
    size = limit.shape
    bounds = [np.array([getattr(p, n) for p in primitives], float) for n in Primitive._fields[1:5]]
    boxes = rectangles(camera, size, *bounds)
    out = []
    for p, (y0, y1, x0, x1) in zip(primitives, boxes, strict=True):
        if y0 >= y1 or x0 >= x1:
            continue
        ray = directions[:, y0:y1, x0:x1].reshape(3, -1)
        cos, sin = np.float32(np.cos(p.yaw)), np.float32(np.sin(p.yaw))
        offset = (camera.position - p.origin).astype(np.float32)
        with np.errstate(divide="ignore", invalid="ignore"):
            t = (sin * offset[0] - cos * offset[1]) / (cos * ray[1] - sin * ray[0])
        hit = np.flatnonzero((t > NEAR) & (t < limit[y0:y1, x0:x1].ravel()))
        t = t[hit]
        kind, number, mirrored, width, height = p.numbers[:5]
        x = cos * offset[0] + sin * offset[1] + t * (cos * ray[0, hit] + sin * ray[1, hit])
        x, z = (-x if mirrored else x) / width + 0.5, (offset[2] + t * ray[2, hit]) / height
        keep = (x >= 0) & (x < 1) & (z >= 0) & (z < 1)
        hit, t, x, z = hit[keep], t[keep], x[keep], z[keep]
        if not hit.size:
            continue
        picture = portrait(int(kind), int(number))
        # The picture whose texels are about as large as a pixel at this distance.
        texels = float(t.mean()) / (camera.focal * size[1]) * SIDE / height
        level = int(np.clip(np.round(np.log2(max(texels, 1e-6))), 0, len(picture.cover) - 1))
        cover = look_up(picture.cover[level], x, z)
        shade = look_up(picture.shade[level], x, z)
        within = picture.outline[(z * SIDE).astype(int), (x * SIDE).astype(int)]
        rows, columns = np.divmod(hit, x1 - x0)
        pixel = (rows + y0) * size[1] + columns + x0
        colour = np.array(p.parts[0].colour, np.float32)
        out.append(Veil(pixel, t, cover, shade, within, colour))
    return sorted(out, key=lambda veil: -float(veil.depth.mean()))


def wire_cover(wires, camera: Camera, limit: np.ndarray, thickness: float = 0.02) -> np.ndarray:
    """Share of each pixel that wires cover, [H * W] float32 below 1.

    Args:
        wires: pairs of end points [3] in metres; a wire sags between them.
        camera: the camera.
        limit: [H, W] depth of what hides the wires.
        thickness: diameter in metres.
    """
    height, width = limit.shape
    focal = camera.focal * width
    out = np.zeros(height * width, np.float32)
    s = np.linspace(0, 1, 4 * width)[:, None]
    for start, end in wires:
        start, end = np.asarray(start, float), np.asarray(end, float)
        point = start + (end - start) * s
        point[:, 2] -= 0.03 * np.linalg.norm(end - start) * 4 * (s * (1 - s))[:, 0]
        offset = point - camera.position
        depth = offset @ camera.forward
        point, offset, depth = point[depth > 1.0], offset[depth > 1.0], depth[depth > 1.0]
        x = width / 2 + offset @ camera.right / depth * focal - 0.5
        y = height / 2 - offset @ camera.up / depth * focal - 0.5
        column, row = np.round(x).astype(int), np.floor(y).astype(int)
        part = np.minimum(thickness * focal / depth, 0.9)
        for k in (0, 1):
            weight = part * (1 - np.abs(y - row - k))
            inside = (column >= 0) & (column < width) & (row + k >= 0) & (row + k < height)
            at = (row + k)[inside] * width + column[inside]
            seen = depth[inside] < limit.ravel()[at]
            np.maximum.at(out, at[seen], weight[inside][seen].astype(np.float32))
    return out
