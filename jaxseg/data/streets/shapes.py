"""Silhouettes of the `streets` renderer: which part of a figure a point belongs to.

Each function takes points (x, y, z) in the primitive's local frame (metres, the ground at z = 0),
the part found so far and the primitive's numbers. It returns part numbers, -1 outside the shape.
Later parts are painted over earlier ones.
"""

import numpy as np

from jaxseg.data.streets.texture import sample, tiles


def _limb(x, z, start, end, radius):
    """Whether points are within `radius` of the segment from `start` to `end`."""
    ax, az = start
    dx, dz = end[0] - ax, end[1] - az
    s = np.clip(((x - ax) * dx + (z - az) * dz) / (dx * dx + dz * dz + 1e-9), 0, 1)
    return (x - ax - s * dx) ** 2 + (z - az - s * dz) ** 2 < radius * radius


def _disc(x, z, cx, cz, rx, rz=None):
    return ((x - cx) / rx) ** 2 + ((z - cz) / (rz or rx)) ** 2 < 1


def _layers(shape, layers):
    part = np.full(shape, -1)
    for number, mask in layers:
        part[mask] = number
    return part


# Parts of people, shared by walkers and riders.
SHIRT, TROUSERS, SKIN, HAIR, SHOES, BAG = range(6)
# Parts of bicycles and motorcycles.
TYRE, FRAME, SPOKES, BODY, LIGHT = range(6, 11)


def person(x, y, z, part, numbers):
    """A pedestrian; numbers: height, stride, width factor, whether with a bag."""
    height, stride, wide, bag = numbers[:4]
    u, v = x / height / wide, z / height
    aside = abs(stride) > 0.5  # walks across the view
    if aside:
        feet = ((0.15 * stride, 0.03), (-0.14 * stride, 0.055))
        hips, shoulders, hands = 0.01, 0.02, (-0.11 * stride, 0.12 * stride)
        chest, toe = 0.075, 0.035 * np.sign(stride)
    else:
        feet = ((0.055, 0.025), (-0.055, 0.025 + 0.04 * abs(stride)))
        hips, shoulders, hands = 0.045, 0.115, (0.145, -0.145)
        chest, toe = 0.088, 0.0
    layers = [
        (TROUSERS, _limb(u, v, (hips, 0.5), feet[0], 0.042)),
        (TROUSERS, _limb(u, v, (-hips, 0.5), feet[1], 0.042)),
        (SHOES, _disc(u, v, feet[0][0] + toe, feet[0][1], 0.05, 0.03)),
        (SHOES, _disc(u, v, feet[1][0] + toe, feet[1][1], 0.05, 0.03)),
        (SHIRT, _limb(u, v, (0, 0.53), (0, 0.74), chest)),
        (SHIRT, _limb(u, v, (-shoulders * 0.6, 0.775), (shoulders * 0.6, 0.775), 0.05)),
        (SHIRT, _limb(u, v, (shoulders, 0.76), (hands[0], 0.47), 0.032)),
        (SHIRT, _limb(u, v, (-shoulders, 0.76), (hands[1], 0.47), 0.032)),
        (SKIN, _disc(u, v, hands[0], 0.45, 0.028)),
        (SKIN, _disc(u, v, hands[1], 0.45, 0.028)),
        (SKIN, _disc(u, v, 0, 0.92, 0.05, 0.068)),
        (HAIR, _disc(u, v, 0, 0.945, 0.055, 0.055) & (v > 0.93)),
    ]
    if bag > 0:
        layers.append((BAG, (np.abs(u - hands[0] - 0.01) < 0.055) & (np.abs(v - 0.36) < 0.08)))
    return _layers(x.shape, layers)


def _bicycle_side(x, z):
    rim, spokes = [], []
    for centre in (-0.52, 0.52):
        r = np.hypot(x - centre, z - 0.34)
        rim.append(np.abs(r - 0.31) < 0.035)
        angle = np.arctan2(z - 0.34, x - centre)
        spokes.append((r < 0.3) & (np.abs((angle * 8 / np.pi) % 1 - 0.5) < 0.28))
    seat, pedal, head = (-0.17, 0.82), (-0.05, 0.3), (0.38, 0.78)
    frame = (
        _limb(x, z, (-0.52, 0.34), (-0.15, 0.74), 0.025)
        | _limb(x, z, (-0.52, 0.34), pedal, 0.025)
        | _limb(x, z, pedal, seat, 0.032)
        | _limb(x, z, pedal, head, 0.04)
        | _limb(x, z, (-0.15, 0.74), head, 0.035)
        | _limb(x, z, (0.52, 0.34), (0.36, 0.95), 0.03)
        | _limb(x, z, (0.3, 0.98), (0.48, 0.98), 0.03)
    )
    saddle = _limb(x, z, (-0.3, 0.87), (-0.07, 0.87), 0.035)
    return [
        (SPOKES, spokes[0] | spokes[1]),
        (TYRE, rim[0] | rim[1] | saddle | _disc(x, z, -0.05, 0.3, 0.09)),
        (FRAME, frame),
    ]


def _motorcycle_side(x, z):
    wheels = _disc(x, z, -0.62, 0.32, 0.32) | _disc(x, z, 0.68, 0.32, 0.32)
    hubs = _disc(x, z, -0.62, 0.32, 0.15) | _disc(x, z, 0.68, 0.32, 0.15)
    body = (
        _limb(x, z, (-0.75, 0.78), (-0.1, 0.68), 0.1)
        | _limb(x, z, (0.0, 0.75), (0.3, 0.85), 0.16)
        | _limb(x, z, (0.35, 0.9), (0.45, 1.05), 0.13)
    )
    engine = _limb(x, z, (-0.3, 0.42), (0.3, 0.45), 0.19) | _limb(
        x, z, (-0.8, 0.35), (0, 0.3), 0.06
    )
    fork = _limb(x, z, (0.68, 0.32), (0.42, 1.0), 0.045) | _limb(
        x, z, (0.25, 1.08), (0.42, 1.05), 0.035
    )
    return [
        (TYRE, wheels),
        (SPOKES, hubs | engine),
        (FRAME, fork),
        (BODY, body),
        (TYRE, _limb(x, z, (-0.6, 0.86), (-0.1, 0.8), 0.05)),
        (LIGHT, _disc(x, z, 0.52, 0.95, 0.08)),
    ]


def _bicycle_end(x, z):
    return [
        (TYRE, _limb(x, z, (0, 0.08), (0, 0.66), 0.04)),
        (
            FRAME,
            _limb(x, z, (0, 0.6), (0, 0.9), 0.03) | _limb(x, z, (-0.3, 1.0), (0.3, 1.0), 0.028),
        ),
        (FRAME, _limb(x, z, (-0.14, 0.3), (0.14, 0.3), 0.04)),
        (LIGHT, _disc(x, z, 0, 0.72, 0.05)),
    ]


def _motorcycle_end(x, z):
    return [
        (TYRE, _limb(x, z, (0, 0.1), (0, 0.55), 0.085)),
        (SPOKES, _limb(x, z, (-0.14, 0.45), (0.14, 0.45), 0.13)),
        (BODY, _limb(x, z, (0, 0.65), (0, 0.9), 0.19)),
        (FRAME, _limb(x, z, (-0.4, 1.05), (0.4, 1.05), 0.035)),
        (FRAME, _disc(x, z, 0.4, 1.18, 0.08) | _disc(x, z, -0.4, 1.18, 0.08)),
        (LIGHT, _disc(x, z, 0, 0.82, 0.09)),
    ]


def _rider_side(x, z, motor):
    lean = 0.12 if motor else 0.0
    hip, shoulder = (-0.17, 0.92 - lean), (0.14, 1.38 - lean)
    knee, foot = (0.17, 0.68 - lean / 2), (-0.02, 0.3)
    return [
        (TROUSERS, _limb(x, z, hip, knee, 0.085) | _limb(x, z, knee, foot, 0.062)),
        (TROUSERS, _limb(x, z, hip, (0.08, 0.55), 0.08)),
        (SHOES, _limb(x, z, (-0.06, 0.26), (0.1, 0.26), 0.045)),
        (SHIRT, _limb(x, z, hip, shoulder, 0.14)),
        (SHIRT, _limb(x, z, shoulder, (0.26, 1.12 - lean), 0.055)),
        (SKIN, _limb(x, z, (0.26, 1.12 - lean), (0.42, 1.0), 0.045)),
        (SKIN, _disc(x, z, 0.22, 1.6 - lean, 0.095, 0.12)),
        (HAIR, _disc(x, z, 0.21, 1.65 - lean, 0.12, 0.11) & (z > 1.6 - lean)),
    ]


def _rider_end(x, z, motor):
    top = 1.42 - (0.08 if motor else 0.0)
    grip = 0.4 if motor else 0.3
    side = np.abs(x)
    return [
        (TROUSERS, _limb(side, z, (0.08, 0.9), (0.15, 0.38), 0.075)),
        (SHOES, _limb(side, z, (0.15, 0.32), (0.16, 0.3), 0.055)),
        (SHIRT, _limb(side, z, (0.18, top - 0.08), (grip, 1.05), 0.055)),
        (SHIRT, _limb(x, z, (0, 0.9), (0, top - 0.12), 0.18)),
        (SHIRT, _limb(side, z, (0, top - 0.06), (0.13, top - 0.08), 0.09)),
        (SKIN, _disc(x, z, 0, top + 0.17, 0.095, 0.13)),
        (HAIR, _disc(x, z, 0, top + 0.23, 0.12, 0.11)),
    ]


def two_wheeler(x, y, z, part, numbers):
    """A bicycle or motorcycle; numbers (flags): motor, seen from the side, rider, faces left."""
    motor, side, rider, mirrored = numbers[:4]
    x = -x if mirrored else x
    if side:
        layers = _motorcycle_side(x, z) if motor else _bicycle_side(x, z)
        layers = layers + (_rider_side(x, z, motor) if rider else [])
    else:
        layers = _motorcycle_end(x, z) if motor else _bicycle_end(x, z)
        layers = layers + (_rider_end(x, z, motor) if rider else [])
    return _layers(x.shape, layers)


def sign(x, y, z, part, numbers):
    """A plate; numbers: shape (0 disc, 1 triangle, 2 plate, 3 octagon), radius, height, aspect."""
    shape, radius, centre, aspect = numbers[:4]
    u, v = x / radius, (z - centre) / radius
    if shape == 0:
        level = np.hypot(u, v)
    elif shape == 1:
        level = np.maximum(-v * 1.6, np.abs(u) * 1.15 + v * 0.8 + 0.1)
    elif shape == 2:
        level = np.maximum(np.abs(u) / aspect, np.abs(v))
        if aspect > 1.2:  # a direction board with lines of text
            text = (np.abs((v * 2.2 + 0.5) % 1 - 0.5) < 0.22) & (np.abs(u) < aspect * 0.75)
            part = np.where(text & (np.abs(v) < 0.8), 2, 1)
            return np.where(level < 0.93, part, np.where(level < 1, 0, -1))
    else:
        level = np.maximum(np.maximum(np.abs(u), np.abs(v)), (np.abs(u) + np.abs(v)) * 0.72)
    inner = np.where((np.abs(v) < 0.22) & (np.abs(u) < 0.5), 2, 1)
    return np.where(level < 0.72, inner, np.where(level < 1, 0, -1))


def fence(x, y, z, part, numbers):
    """Bars and rails along x, with gaps; numbers: height, bar spacing, bar width, mesh."""
    height, spacing, width, mesh = numbers[:4]
    bars = np.abs((x / spacing) % 1 - 0.5) * spacing < width / 2
    rails = (np.abs(z - height * 0.92) < 0.06) | (np.abs(z - 0.15) < 0.05)
    post = np.abs((x / 2.4) % 1 - 0.5) * 2.4 < 0.07
    if mesh:
        bars |= np.abs((z / spacing) % 1 - 0.5) * spacing < width / 2
    return np.where(post | rails, 1, np.where(bars, 0, -1))


def undercarriage(x, y, z, part, numbers):
    """Wheels on the side faces of a box; numbers: y of both axles, wheel radius, half width."""
    first, second, radius, half = numbers[:4]
    nearest = np.minimum(np.abs(y - first), np.abs(y - second))
    disc = np.hypot(nearest, z - radius)
    side = np.abs(np.abs(x) - half) < 0.02
    wheel = np.where(disc < radius * 0.55, 1, np.where(disc < radius, 0, -1))
    tyre = np.where(np.abs(x) > half - 0.24, 0, -1)
    return np.where(side, wheel, tyre)


def treeline(x, y, z, part, numbers):
    """A distant row of trees; numbers: mean height, variation, seed."""
    mean, variation, seed = numbers[:3]
    smooth, fractal = tiles()
    skyline = mean + variation * 0.6 * sample(fractal, x * 0.5 + seed * 3, x * 0 + seed)
    skyline += 0.5 * sample(smooth, x * 1.7, x * 0 + seed)
    return np.where(z < skyline, 0, -1)


def leaves(x, y, z, depth, numbers):
    """A tree crown with holes; `depth` is 0 at the rim, 1 in the middle.

    numbers: density of leaves, size of leaf clumps, seed.
    """
    density, clump, seed = numbers[:3]
    smooth, fractal = tiles()
    u, v, w = x * 9 / clump + seed, z * 9 / clump + seed * 1.7, y * 9 / clump + seed * 0.6
    clumps = 0.6 * (sample(fractal, u, v) + sample(fractal, w, v))
    twigs = 0.7 * (sample(smooth, u, v) + sample(smooth, w, v))
    # Holes where clumps are thin, and a ragged rim where the crown is thin.
    solid = 1.1 * depth - 0.25 - 0.16 * twigs - 0.2 * clumps > 0
    return np.where(solid & (clumps + 0.45 * twigs < density), 0, -1)
