"""Textures and soft-edged patterns of the `streets` renderer.

Random values come from fixed tiles and from hashing, so that a pattern is fixed to its place in the
world. `reach` is the width of a pixel on the surface in metres: edges are softened over it, and
finer details fade out.
"""

from functools import lru_cache

import numpy as np

TILE = 256


@lru_cache(maxsize=1)
def tiles() -> tuple[np.ndarray, np.ndarray]:
    """A smooth and a fractal tile, [TILE, TILE] float32, periodic, mean 0, variance 1."""
    spectrum = np.fft.fft2(np.random.default_rng(7).standard_normal((TILE, TILE)))
    fy, fx = np.meshgrid(*[np.fft.fftfreq(TILE) * TILE] * 2, indexing="ij")
    f = np.hypot(fx, fy)
    f[0, 0] = 1
    out = []
    for gain in (np.exp(-((f / 64) ** 2)), f**-1.25):
        gain = gain.copy()
        gain[0, 0] = 0
        tile = np.fft.ifft2(spectrum * gain).real
        out.append((tile / tile.std()).astype(np.float32))
    return tuple(out)


def sample(tile: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Bilinear value of a periodic tile at texel coordinates (u, v) of any shape."""
    fu, fv = np.floor(u), np.floor(v)
    a, b = (u - fu).astype(np.float32), (v - fv).astype(np.float32)
    iu, iv = fu.astype(np.int32) & (TILE - 1), fv.astype(np.int32) & (TILE - 1)
    ju, jv = (iu + 1) & (TILE - 1), (iv + 1) & (TILE - 1)
    flat = tile.ravel()
    iv, jv = iv * TILE, jv * TILE
    low = flat[iv + iu] * (1 - a) + flat[iv + ju] * a
    high = flat[jv + iu] * (1 - a) + flat[jv + ju] * a
    return low * (1 - b) + high * b


def scatter(*keys: np.ndarray) -> np.ndarray:
    """Random-looking values in [0, 1) from integer-like keys (same keys, same value)."""
    total = np.zeros(np.broadcast(*keys).shape, np.uint32)
    for prime, key in zip((374761393, 668265263, 2246822519, 3266489917), keys, strict=False):
        total = total * np.uint32(2654435761) + (np.asarray(key).astype(np.int64) * prime).astype(
            np.uint32
        )
        total ^= total >> np.uint32(15)
        total = total * np.uint32(2246822519)
    total ^= total >> np.uint32(13)
    return (total >> np.uint32(8)).astype(np.float32) / np.float32(1 << 24)


def inside(distance, reach):
    """Soft step: 1 where the signed distance to an edge is positive, 0 where negative."""
    return np.clip(distance / reach + 0.5, 0, 1)


def mix(a, b, weight):
    """Linear mix: a where weight is 0, b where it is 1; weight [n], a and b [n, 3] or [3]."""
    return a + (np.asarray(b, np.float32) - a) * np.asarray(weight, np.float32)[:, None]


def band(value, centre, half, reach):
    return inside(half - np.abs(value - centre), reach)


def joints(u, v, width, height, line, reach):
    """Joints between the tiles, bricks or slates of a regular grid."""
    row = np.floor(v / height)
    fu = np.abs((u / width + 0.5 * (row % 2)) % 1 - 0.5) * width
    fv = np.abs((v / height) % 1 - 0.5) * height
    joint = np.maximum(inside(fu - width / 2 + line, reach), inside(fv - height / 2 + line, reach))
    return joint * np.clip(1.5 - reach / height, 0, 1)


def grain(u, v, reach, scales=((40.0, 0.05), (10.0, 0.05), (2.0, 0.05), (0.4, 0.07))):
    """Texture of mean 1 with scales (texels per metre, amplitude) that fade below pixel size."""
    smooth, fractal = tiles()
    total = np.ones(u.shape, np.float32)
    for i, (frequency, amplitude) in enumerate(scales):
        fade = np.clip(1.6 - reach * frequency * 0.6, 0, 1)
        tile = smooth if i < 2 else fractal
        total += amplitude * fade * sample(tile, u * frequency + 17 * i, v * frequency + 41 * i)
    return total
