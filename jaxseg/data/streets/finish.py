"""What photographs show beyond plain shading, for the detailed look of `streets`: darkness in
corners, reflections, things thinner than a pixel, smooth outlines.
"""

import numpy as np

from jaxseg.data.streets.draw import PARTS, Buffers
from jaxseg.data.streets.texture import sample, tiles
from jaxseg.data.streets.veil import Veil

_TAPS = ((1, 0), (-1, 0), (0, 1), (0, -1), (2, 2), (-2, 2), (2, -2), (-2, -2), (0, -5), (0, 5))
_REACH = 1.2  # metres; what is farther away hides little of the sky


def openness(world: np.ndarray, normal: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """Share of the surroundings that a point's neighbours in the picture leave open.

    Screen-space ambient occlusion (Mittring, "Finding Next Gen: CryEngine 2", 2007) in the form
    that weighs the neighbours of a pixel by the angle to its normal.

    Args:
        world: [3, H, W] positions.
        normal: [3, H, W] unit normals.
        depth: [H, W]; 0 where there is no surface.

    Returns:
        [H, W] float32, 1 is open.
    """
    height, width = depth.shape
    hidden = np.zeros((height, width), np.float32)
    unit = max(width / 128, 1.0)
    for dy, dx in _TAPS:
        dy, dx = int(np.round(dy * unit)), int(np.round(dx * unit))
        here = (slice(max(-dy, 0), height - max(dy, 0)), slice(max(-dx, 0), width - max(dx, 0)))
        there = (slice(max(dy, 0), height + min(dy, 0)), slice(max(dx, 0), width + min(dx, 0)))
        away = world[(slice(None), *there)] - world[(slice(None), *here)]
        square = np.einsum("cij,cij->ij", away, away) + 1e-4
        facing = np.einsum("cij,cij->ij", away, normal[(slice(None), *here)])
        part = np.maximum(facing / np.sqrt(square) - 0.15, 0) / (1 + square / _REACH**2)
        hidden[here] += np.where(depth[there] > 0, part, 0)
    return np.clip(1 - 4.0 * hidden / len(_TAPS), 0, 1)


def reflect(light, gloss, normal, rays, world, sky, strength: float) -> np.ndarray:
    """Adds mirror images of the surroundings: sky above, dark houses and road below.

    Args:
        light: [n, 3] light of the surfaces.
        gloss: [n], 1 for clean glass.
        normal: [n, 3] unit normals.
        rays: [3, n] directions from the camera.
        world: [3, n] positions, for irregular surroundings.
        sky: [3] light of the sky.
        strength: factor on all reflections.

    Returns:
        [n, 3] light.
    """
    i = np.flatnonzero(gloss > 0)
    ray = rays[:, i] / np.sqrt((rays[:, i] ** 2).sum(0))
    n = normal[i].T
    cosine = (ray * n).sum(0)
    mirrored = ray - 2 * cosine * n
    skyline = 0.22 + 0.13 * sample(tiles()[1], world[1, i] * 5 + mirrored[1] * 40, world[2, i] * 2)
    upward = np.clip((mirrored[2] - skyline) * 6 + 0.5, 0, 1)[:, None]
    image = 0.05 * sky + (sky - 0.05 * sky) * upward
    share = gloss[i] * strength * (0.2 + 0.8 * (1 - np.abs(cosine)) ** 4)
    out = light.copy()
    out[i] += (image - light[i]) * np.clip(share, 0, 0.9)[:, None]
    return out


def lay_over(light: np.ndarray, veils: list[Veil], wires, brightness, air, visibility: float):
    """Trees of twigs and leaves, and wires, over the light [n, 3] of what is behind; in place.

    Args:
        light: [n, 3].
        veils: the trees, farthest first.
        wires: [n] covered share, or None.
        brightness: [3] light on an upright surface.
        air: [3] light of haze.
        visibility: metres.
    """
    for veil in veils:
        own = veil.colour * veil.shade[:, None]
        own = own * own * brightness
        own += (air - own) * (1 - np.exp(-veil.depth / visibility))[:, None]
        light[veil.pixel] += (own - light[veil.pixel]) * veil.cover[:, None]
    if wires is not None:
        light *= (1 - 0.85 * wires)[:, None]


def smooth_outlines(light: np.ndarray, buffers: Buffers) -> np.ndarray:
    """Smooths the steps of outlines along their own direction; light [H, W, 3].

    After Lottes, "FXAA" (2009): the direction follows from brightness around the pixel. Outlines
    are known here, so nothing else changes.
    """
    height, width = buffers.owner.shape
    code = buffers.owner * PARTS + buffers.part
    edge = np.zeros((height, width), bool)
    across, down = code[:, 1:] != code[:, :-1], code[1:] != code[:-1]
    edge[:, 1:] |= across
    edge[:, :-1] |= across
    edge[1:] |= down
    edge[:-1] |= down
    edge[[0, -1]] = False
    edge[:, [0, -1]] = False
    y, x = np.nonzero(edge)
    shown = np.minimum(light, 1.5)
    tone = np.sqrt(shown.mean(-1))
    gy, gx = np.zeros(y.size, np.float32), np.zeros(y.size, np.float32)
    for d in (-1, 0, 1):
        weight = 2 - abs(d)
        gy += weight * (tone[y + 1, x + d] - tone[y - 1, x + d])
        gx += weight * (tone[y + d, x + 1] - tone[y + d, x - 1])
    size = np.hypot(gy, gx)
    i = np.flatnonzero(size > 0.08)
    y, x = y[i], x[i]
    step_y, step_x = gx[i] / size[i], -gy[i] / size[i]
    total = shown[y, x] * 0.34
    for reach, weight in ((-1.4, 0.13), (-0.7, 0.2), (0.7, 0.2), (1.4, 0.13)):
        total += weight * _between(shown, y + reach * step_y, x + reach * step_x)
    out = light.copy()
    out[y, x] = total
    return out


def _between(image, y, x):
    """Bilinear values [n, 3] of an image at (y, x)."""
    height, width = image.shape[:2]
    y, x = np.clip(y, 0, height - 1.001), np.clip(x, 0, width - 1.001)
    iy, ix = y.astype(int), x.astype(int)
    fy, fx = (y - iy)[:, None], (x - ix)[:, None]
    top = image[iy, ix] * (1 - fx) + image[iy, ix + 1] * fx
    return top * (1 - fy) + (image[iy + 1, ix] * (1 - fx) + image[iy + 1, ix + 1] * fx) * fy
