"""Trees of irregular shape for `streets`: bare, in leaf and evergreen, as pictures on cards.

Twigs are thinner than a pixel, so a tree is a picture of how much of each texel it covers. It is
grown once per process from a fixed seed, and kept at several resolutions.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from jaxseg.data.streets import roadside
from jaxseg.data.streets.plan import Street
from jaxseg.data.streets.primitives import VEGETATION, Material, Part, Primitive, card, hsv
from jaxseg.data.streets.texture import sample, tiles

SIDE = 256  # texels across a picture
BARE, LEAFY, EVERGREEN = range(3)
COUNT = (6, 4, 4)  # pictures of each kind


class Portrait(NamedTuple):
    """Picture of a tree, foot in the middle of row 0; arrays [side, side], index (height, width).

    Attributes:
        cover: covered share of each texel, at SIDE, SIDE/2, SIDE/4 ... texels.
        outline: whether a texel is within the crown or the trunk, gaps between twigs included.
        shade: factors on the colour, at the same resolutions as `cover`.
    """

    cover: tuple[np.ndarray, ...]
    outline: np.ndarray
    shade: tuple[np.ndarray, ...]


@lru_cache(maxsize=64)
def portrait(kind: int, number: int) -> Portrait:
    """Grows tree `number` of a kind."""
    rng = np.random.default_rng((31, kind, number))
    shade = np.ones((SIDE, SIDE), np.float32)
    if kind == EVERGREEN:
        cover, shade = _evergreen(rng)
    else:
        branches = _branches(rng, *((7, 0.95) if kind == BARE else (5, 0.82)))
        cover = _drawn(branches)
        if kind == LEAFY:
            leaves, shade = _leaves(rng, branches)
            shade = np.where(leaves < cover, np.float32(0.4), shade)  # trunk and branches
            cover = np.maximum(cover * 0.9, leaves)
    dense = _blurred(cover, 4.0 if kind == BARE else 2.0)
    dense[-9:] = 0  # the blur wraps around
    outline = (dense > (0.07 if kind == BARE else 0.3)) | (cover > 0.5)
    return Portrait(_pyramid(cover), outline, _pyramid(shade))


def _branches(rng, levels: int, top: float) -> np.ndarray:
    """Branches [n, 6] in a unit square: both ends (x, z), radius, level (0: twig)."""
    out, stack = [], [(0.0, 0.0, np.pi / 2 + rng.normal(0, 0.04), 0.3, 0.014, levels)]
    spread, shorter = rng.uniform(0.32, 0.6), rng.uniform(0.72, 0.82)
    while stack:
        x, z, angle, length, radius, level = stack.pop()
        x1, z1 = x + length * np.cos(angle), z + length * np.sin(angle)
        out.append((x, z, x1, z1, radius, level))
        if level == 0:
            continue
        for k in range(int(rng.integers(2, 4))):
            turn = rng.normal(0, 0.12) if k == 0 else rng.choice((-1, 1)) * rng.normal(spread, 0.15)
            upward = 0.12 * np.cos(angle + turn)  # branches bend to the light
            part = 1.0 if k == 0 else rng.uniform(0.4, 1.0)  # where along the branch it forks
            start = (x + (x1 - x) * part, z + (z1 - z) * part)
            size = length * shorter * rng.uniform(0.75, 1.1)
            stack.append(
                (*start, angle + turn + upward, size, max(radius * 0.62, 0.001), level - 1)
            )
    found = np.array(out)
    z = found[:, [1, 3]]
    scale = top / z.max()
    wide = np.abs(found[:, [0, 2]]).max() * scale
    found[:, [1, 3]] *= scale
    found[:, [0, 2]] *= scale * min(1.0, 0.47 / wide)
    return found


def _drawn(branches: np.ndarray) -> np.ndarray:
    """Covered share of texels [SIDE, SIDE] by straight branches."""
    free = np.ones((SIDE, SIDE), np.float32)
    for x0, z0, x1, z1, radius, _ in branches:
        ends = np.array(((x0 + 0.5, x1 + 0.5), (z0, z1))) * SIDE
        thick = radius * SIDE
        low = np.maximum(ends.min(1) - thick - 1, 0).astype(int)
        high = np.minimum(ends.max(1) + thick + 2, SIDE).astype(int)
        if (low >= high).any():
            continue
        z, x = np.ogrid[low[1] : high[1], low[0] : high[0]]
        dx, dz = ends[0, 1] - ends[0, 0], ends[1, 1] - ends[1, 0]
        ax, az = x + 0.5 - ends[0, 0], z + 0.5 - ends[1, 0]
        along = np.clip((ax * dx + az * dz) / (dx * dx + dz * dz + 1e-9), 0, 1)
        away = np.hypot(ax - along * dx, az - along * dz)
        part = min(1.0, 2 * thick) * np.clip(1 - away + max(thick - 0.5, 0), 0, 1)
        free[low[1] : high[1], low[0] : high[0]] *= 1 - part
    return 1 - free


def _leaves(rng, branches) -> tuple[np.ndarray, np.ndarray]:
    """Leaves around the twigs: covered share and shade."""
    twigs = branches[branches[:, 5] <= 3][:, 2:4]
    count = np.zeros((SIDE, SIDE), np.float32)
    rows = np.clip(twigs[:, 1] * SIDE, 0, SIDE - 1).astype(int)
    columns = np.clip((twigs[:, 0] + 0.5) * SIDE, 0, SIDE - 1).astype(int)
    np.add.at(count, (rows, columns), 1)
    mass = _blurred(count, rng.uniform(12, 17))
    mass = np.minimum(mass / np.quantile(mass[mass > mass.max() * 0.05], 0.4), 1.4)
    coarse, fine = _noise(rng, 1.3), _noise(rng, 4.0)
    depth = mass + 0.3 * coarse + 0.2 * fine
    cover = np.clip((depth - rng.uniform(0.3, 0.65)) * 5, 0, 1)
    return cover * (mass > 0.15), _lit(depth, fine)


def _evergreen(rng) -> tuple[np.ndarray, np.ndarray]:
    """A conifer or a clipped yew: a ragged cone or column of dense, dark leaves."""
    z, x = np.mgrid[:SIDE, :SIDE] / SIDE
    width = rng.uniform(0.2, 0.42) * (1 - z) ** rng.uniform(0.35, 1.0)
    width *= np.clip(0.35 + z * rng.uniform(3, 9), 0, 1)
    coarse, fine = _noise(rng, 1.0), _noise(rng, 4.0)
    depth = (width - np.abs(x - 0.5)) * 7 + 0.3 * coarse + 0.22 * fine
    depth -= 20 * np.clip(z - 0.93, 0, 1)
    depth[np.abs(x - 0.5) > width + 0.05] = -1
    trunk = (np.abs(x - 0.5) < 0.012) & (z < 0.3)
    cover = np.maximum(np.clip(depth * 4, 0, 1), trunk)
    return cover.astype(np.float32), _lit(np.minimum(depth, 1.5), fine)


def _lit(depth, fine):
    """Shade of leaves: lit from above, dark inside and underneath."""
    smooth = _blurred(depth.astype(np.float32), 3.0)
    below = np.roll(smooth, 5, 0) - np.roll(smooth, -5, 0)
    return np.clip(0.85 + 0.7 * below + 0.22 * fine, 0.25, 1.45).astype(np.float32)


def _noise(rng, scale: float) -> np.ndarray:
    z, x = np.mgrid[:SIDE, :SIDE] * scale
    return sample(tiles()[1], x + rng.uniform(0, 250), z + rng.uniform(0, 250))


def _blurred(picture: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur of a picture that is empty at its edges."""
    frequency = np.fft.fftfreq(SIDE)
    gain = np.exp(-2 * (np.pi * sigma * frequency) ** 2)
    spectrum = np.fft.fft2(picture) * gain[:, None] * gain[None]
    return np.fft.ifft2(spectrum).real.astype(np.float32)


def _pyramid(picture: np.ndarray) -> tuple[np.ndarray, ...]:
    out = [np.ascontiguousarray(picture, np.float32)]
    while out[-1].shape[0] > 8:
        a = out[-1]
        out.append((a[::2, ::2] + a[1::2, ::2] + a[::2, 1::2] + a[1::2, 1::2]) / 4)
    return tuple(out)


def look_up(picture: np.ndarray, x, z) -> np.ndarray:
    """Bilinear values of a picture at (x, z) in the unit square; 0 outside."""
    side = picture.shape[0]
    u, v = np.clip(x, 0, 1) * side - 0.5, np.clip(z, 0, 1) * side - 0.5
    iu = np.clip(np.floor(u), 0, side - 2).astype(np.int32)
    iv = np.clip(np.floor(v), 0, side - 2).astype(np.int32)
    fu, fv = np.clip(u - iu, 0, 1), np.clip(v - iv, 0, 1)
    flat, at = picture.ravel(), iv * side + iu
    low = flat[at] * (1 - fu) + flat[at + 1] * fu
    high = flat[at + side] * (1 - fu) + flat[at + side + 1] * fu
    return low * (1 - fv) + high * fv


def within(x, y, z, part, numbers):
    """Silhouette of a tree on a card, for its shadow: part 0 where most of a texel is covered."""
    kind, number, mirrored, width, height = numbers[:5]
    across = (-x if mirrored else x) / width + 0.5
    cover = look_up(portrait(int(kind), int(number)).cover[1], across, z / height)
    return np.where(cover > 0.35, 0, -1)


def tree(rng, at, facing, foliage, bare: float, evergreen: float, scale=1.0) -> list[Primitive]:
    """A tree on a card that faces the camera.

    Args:
        rng: random generator.
        at: position of its foot.
        facing: yaw of the card.
        foliage: draws a colour of leaves from a generator.
        bare, evergreen: probabilities.
        scale: factor on the size.
    """
    draw = rng.random()
    kind = BARE if draw < bare else EVERGREEN if draw < bare + evergreen else LEAFY
    height = scale * (rng.uniform(3, 11) if kind == EVERGREEN else rng.uniform(5, 13))
    width = height * rng.uniform(0.75, 1.15)
    colour = foliage(rng)
    if kind == BARE:
        colour = hsv(rng.uniform(15, 50), rng.uniform(0.05, 0.35), rng.uniform(0.12, 0.36))
    elif kind == EVERGREEN:
        colour = tuple(c * rng.uniform(0.45, 0.7) for c in colour)
    part = Part(VEGETATION, colour, Material.LEAVES)
    numbers = (kind, rng.integers(COUNT[kind]), float(rng.random() < 0.5), width, height)
    low, high = (-width / 2, 0.0), (width / 2, height)
    return [card(at, facing, low, high, (part,), within, numbers)._replace(kind="veil")]


def planted(street: Street, at, density: float, scale: float = 1.0) -> list[Primitive]:
    """A tree in the style of the street's domain; `density` is that of leaves in plain looks."""
    if street.domain.details is None:
        return roadside.tree(street.rng, at, street.foliage, density)
    facing = street.facing(at)
    return tree(street.rng, at, facing, street.foliage, street.bare, street.evergreen, scale)
