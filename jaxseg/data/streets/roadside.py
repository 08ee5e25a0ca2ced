"""Objects beside the road in the `streets` scenes, as lists of primitives.

Every function takes a random generator, the object's position (`at`: x, y in metres), the direction
of the street there (`yaw` in radians), and the object's settings.
"""

import numpy as np

from jaxseg.data.streets import shapes
from jaxseg.data.streets.primitives import (
    BUILDING,
    FENCE,
    LIGHT,
    POLE,
    SIGN,
    VEGETATION,
    WALL,
    Material,
    Part,
    Primitive,
    box,
    card,
    hsv,
)


def pole(at, height, radius, colour, z=0.0) -> Primitive:
    """An upright square post."""
    part = Part(POLE, colour, Material.METAL)
    return box(at, 0.6, (-radius, -radius, z), (radius, radius, height), (part,))


def lamp_post(rng, at, yaw, inwards) -> list[Primitive]:
    """A street lamp whose arm reaches over the road (`inwards` is +1 or -1)."""
    height, arm = rng.uniform(6, 9), rng.uniform(1.2, 2.4)
    colour = hsv(200, 0.06, rng.uniform(0.3, 0.6))
    metal = Part(POLE, colour, Material.METAL)
    low, high = sorted((0.0, inwards * arm))
    head = inwards * arm
    return [
        pole(at, height, rng.uniform(0.08, 0.12), colour),
        box(at, yaw, (low, -0.06, height - 0.14), (high, 0.06, height), (metal,)),
        box(at, yaw, (head - 0.4, -0.14, height - 0.2), (head + 0.4, 0.14, height), (metal,)),
    ]


def traffic_light(rng, at, yaw, inwards) -> list[Primitive]:
    """A signal on a post, and sometimes a second one on an arm over the road."""
    housing = Part(LIGHT, (0.07, 0.08, 0.07), Material.SIGNAL)
    colour = hsv(200, 0.05, rng.uniform(0.3, 0.55))
    state = float(rng.integers(3))
    height = rng.uniform(2.9, 3.4)
    low, high = (-0.2, -0.16, height - 1.05), (0.2, 0.16, height)
    out = [
        pole(at, height - 0.9, 0.075, colour),
        box(at, yaw, low, high, (housing,), numbers=(state, height, 1.05)),
    ]
    if rng.random() < 0.45:
        top, reach = rng.uniform(5.2, 6.0), inwards * rng.uniform(2.5, 4.2)
        span = sorted((0.0, reach))
        metal = Part(POLE, colour, Material.METAL)
        low, high = (reach - 0.24, -0.16, top - 1.1), (reach + 0.24, 0.16, top + 0.15)
        out += [
            pole(at, top, 0.1, colour),
            box(at, yaw, (span[0], -0.06, top - 0.12), (span[1], 0.06, top), (metal,)),
            box(at, yaw, low, high, (housing,), numbers=(state, top + 0.15, 1.25)),
        ]
    return out


_SIGN_COLOURS = {
    0: (((0.8, 0.06, 0.08), (0.95, 0.95, 0.95), (0.1, 0.1, 0.1)),
        ((0.08, 0.2, 0.65), (0.08, 0.2, 0.65), (0.95, 0.95, 0.95)),
        ((0.8, 0.06, 0.08), (0.8, 0.06, 0.08), (0.95, 0.95, 0.95))),
    1: (((0.8, 0.06, 0.08), (0.95, 0.95, 0.95), (0.1, 0.1, 0.1)),),
    2: (((0.95, 0.95, 0.95), (0.08, 0.25, 0.65), (0.95, 0.95, 0.95)),
        ((0.1, 0.1, 0.1), (0.95, 0.8, 0.1), (0.1, 0.1, 0.1)),
        ((0.95, 0.95, 0.95), (0.02, 0.4, 0.25), (0.95, 0.95, 0.95))),
    3: (((0.95, 0.95, 0.95), (0.78, 0.05, 0.07), (0.95, 0.95, 0.95)),),
}  # fmt: skip


def road_sign(rng, at, yaw) -> list[Primitive]:
    """One or two plates on a post."""
    colour = hsv(200, 0.03, rng.uniform(0.45, 0.65))
    board = rng.random() < 0.25
    height = rng.uniform(2.2, 2.8)
    out = [pole(at, height + 0.3, 0.05, colour)]
    forward = (at[0] + 0.09 * np.sin(yaw), at[1] - 0.09 * np.cos(yaw))
    for i in range(1 if board or rng.random() < 0.6 else 2):
        shape = 2 if board else int(rng.choice((0, 0, 1, 2, 3)))
        radius = rng.uniform(0.45, 0.65) if board else rng.uniform(0.34, 0.44)
        aspect = rng.uniform(1.5, 2.4) if board else 1.0
        centre = height - 0.85 * i
        parts = [Part(SIGN, c, Material.PLAIN) for c in rng.choice(np.array(_SIGN_COLOURS[shape]))]
        low, high = (-radius * aspect, centre - radius), (radius * aspect, centre + radius)
        numbers = (shape, radius, centre, aspect)
        out.append(card(forward, yaw, low, high, parts, shapes.sign, numbers))
    return out


def tree(rng, at, foliage, density) -> list[Primitive]:
    """A trunk and a crown of several ellipsoids; `density` 2 is full, 0 is bare."""
    height = rng.uniform(4.5, 10)
    trunk = height * rng.uniform(0.25, 0.4)
    width = height * rng.uniform(0.2, 0.3)
    bark = Part(VEGETATION, hsv(28, 0.35, rng.uniform(0.2, 0.4)), Material.BARK)
    radius = 0.035 * height * rng.uniform(0.6, 1.0)
    out = [box(at, 0.4, (-radius, -radius, 0), (radius, radius, height * 0.7), (bark,))]
    conifer = rng.random() < 0.2
    count = 3 if conifer else int(rng.integers(3, 6))
    for i in range(count):
        leaf = Part(VEGETATION, foliage(rng), Material.LEAVES)
        if conifer:
            r, high = width * (1.0 - 0.27 * i), height * 0.22
            centre = (at[0], at[1], height * (0.35 + 0.24 * i))
        else:
            r = width * rng.uniform(0.6, 0.95)
            high = r * rng.uniform(0.7, 1.1)
            angle, out_by = rng.uniform(0, 2 * np.pi), width * rng.uniform(0.2, 0.6)
            level = trunk + high * 0.8 + (height - trunk - 1.6 * high) * (i + 0.5) / count
            centre = (at[0] + np.cos(angle) * out_by, at[1] + np.sin(angle) * out_by, level)
        size = (r, r, high)
        numbers = (density, rng.uniform(0.5, 1.0), rng.uniform(0, 250))
        low = (-r, -r, -high)
        out.append(
            Primitive("ellipsoid", centre, 0.0, low, size, (leaf,), None, shapes.leaves, numbers)
        )
    return out


def bush(rng, at, foliage) -> list[Primitive]:
    """A low round shrub."""
    r, high = rng.uniform(0.4, 1.1), rng.uniform(0.4, 0.9)
    leaf = Part(VEGETATION, foliage(rng), Material.LEAVES)
    numbers = (1.6, 0.4, rng.uniform(0, 250))
    centre = (at[0], at[1], high * 0.7)
    low, size = (-r, -r, -high), (r, r, high)
    return [Primitive("ellipsoid", centre, 0.0, low, size, (leaf,), None, shapes.leaves, numbers)]


def hedge(rng, at, yaw, length, foliage) -> list[Primitive]:
    """A clipped hedge along the street."""
    leaf = Part(VEGETATION, foliage(rng), Material.LEAVES)
    high = rng.uniform(0.8, 1.8)
    return [box(at, yaw, (-0.35, 0, 0), (0.35, length, high), (leaf,))]


def wall(rng, at, yaw, length) -> list[Primitive]:
    """A free-standing wall of bricks, plaster or concrete with a coping."""
    high = rng.uniform(1.1, 2.6)
    brick = float(rng.random() < 0.55)
    colour = (
        hsv(14, 0.45, rng.uniform(0.4, 0.6)) if brick else hsv(40, 0.08, rng.uniform(0.5, 0.75))
    )
    side = Part(WALL, colour, Material.BRICKS)
    coping = Part(WALL, hsv(40, 0.06, rng.uniform(0.55, 0.75)), Material.PLAIN)
    numbers = (brick, high)
    return [
        box(at, yaw, (-0.14, 0, 0), (0.14, length, high), (side,), numbers=numbers),
        box(at, yaw, (-0.2, 0, high), (0.2, length, high + 0.1), (coping,)),
    ]


def fence(rng, at, yaw, length, vivid, high=None) -> list[Primitive]:
    """Railings, mesh or boards along the street."""
    kind = rng.random()
    high = high or rng.uniform(1.1, 2.1)
    if kind < 0.4:
        colour, numbers = hsv(200, 0.1, rng.uniform(0.12, 0.3)), (high, 0.16, 0.055, 0)
    elif kind < 0.65:
        colour, numbers = hsv(140, 0.25 * vivid, rng.uniform(0.3, 0.5)), (high, 0.22, 0.06, 1)
    else:
        colour, numbers = hsv(30, 0.4, rng.uniform(0.4, 0.7)), (high, 0.18, 0.14, 0)
    parts = [Part(FENCE, colour, Material.PLAIN)] * 2
    # A card extends along its local x axis: rotate it to run along the street.
    return [card(at, yaw + np.pi / 2, (0, 0), (length, high), parts, shapes.fence, numbers)]


def building(rng, at, yaw, length, depth, side, look) -> list[Primitive]:
    """A house front along the street.

    Args:
        rng: generator.
        at: the corner at the pavement nearest to the viewer.
        yaw: direction of the street there.
        length: size along the street, metres.
        depth: size away from the street, metres.
        side: +1 on the right of the street, -1 on the left.
        look: (floors, colour, roof colour, shop share).
    """
    floors, colour, roof_colour, shops = look
    ground = rng.uniform(3.4, 4.4)
    storey = rng.uniform(2.8, 3.4)
    height = ground + storey * (floors - 1) + rng.uniform(0.3, 0.9)
    pitch = rng.uniform(2.0, 3.4)
    low, high = (min(0, side * depth), 0.0, 0.0), (max(0, side * depth), length, height)
    shop = float(rng.random() < shops)
    numbers = (
        ground, storey, pitch, rng.uniform(0.22, 0.36), rng.uniform(0.42, 0.62), shop,
        rng.uniform(0, 1), height,
    )  # fmt: skip
    front = Part(BUILDING, colour, Material.FACADE)
    roof = Part(BUILDING, roof_colour, Material.ROOF)
    out = [box(at, yaw, low, high, (front, front, front, front, roof, roof), numbers=numbers)]
    if floors <= 4 and rng.random() < 0.75:  # a pitched roof, its ridge along the street
        rise = depth / 2 * rng.uniform(0.55, 0.9)
        slope = rise / (depth / 2)
        middle, eaves = (low[0] + high[0]) / 2, 0.35
        norm = np.hypot(slope, 1)
        edge = slope * (depth / 2 + eaves) + height
        planes = np.array(
            [
                (slope / norm, 0, 1 / norm, (edge + slope * middle) / norm),
                (-slope / norm, 0, 1 / norm, (edge - slope * middle) / norm),
                (0, 1, 0, length),
                (0, -1, 0, 0),
                (0, 0, -1, -height),
            ]
        )
        bottom = (low[0] - eaves, 0.0, height)
        top = (high[0] + eaves, length, height + rise + slope * eaves)
        gable = front._replace(material=Material.PLAIN)
        parts = (roof, roof, gable, gable, roof)
        out.append(Primitive("solid", (at[0], at[1], 0.0), yaw, bottom, top, parts, planes))
        if rng.random() < 0.6:
            x, y = middle - side * 0.8, rng.uniform(1, max(1.5, length - 1.5))
            stack = Part(BUILDING, hsv(14, 0.4, 0.4), Material.PLAIN)
            peak = height + rise + 0.9
            out.append(box(at, yaw, (x - 0.4, y - 0.3, height), (x + 0.4, y + 0.3, peak), (stack,)))
    if shop and rng.random() < 0.4:  # an awning over the pavement
        awning = hsv(rng.choice((0, 130, 220, 40)), rng.uniform(0.3, 0.7), rng.uniform(0.4, 0.8))
        cloth = Part(BUILDING, awning, Material.PLAIN)
        reach = -side * rng.uniform(0.7, 1.3)
        start, end = length * 0.15, length * 0.85
        low, high = (min(0, reach), start, 2.6), (max(0, reach), end, 2.85)
        out.append(box(at, yaw, low, high, (cloth,)))
    return out
