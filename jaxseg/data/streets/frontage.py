"""Background of a `streets` scene: houses and gardens behind the pavements, distant trees."""

from jaxseg.data.streets import roadside, shapes
from jaxseg.data.streets.plan import END, Street, uniform
from jaxseg.data.streets.primitives import (
    BUILDING,
    VEGETATION,
    Material,
    Part,
    Primitive,
    box,
    card,
)
from jaxseg.data.streets.trees import planted


def frontage(street: Street, side: int) -> list[Primitive]:
    """Houses, gardens and parks behind one pavement, nearest first."""
    rng, domain = street.rng, street.domain
    built_up = uniform(rng, domain.built_up)
    edge = street.edge(side)
    vivid = uniform(rng, domain.vivid)
    out = []
    y = rng.uniform(-8, -3)
    while y < END:
        length = rng.uniform(7, 20)
        crossing, gap = street.ground.crossing, street.ground.crossing_half + 2.2
        if y < crossing + gap and y + length > crossing - gap:
            length = crossing - gap - y
            if length < 4:
                y = crossing + gap
                continue
        if rng.random() < built_up:
            at, yaw = street.place(side * edge, y)
            look = (int(rng.integers(*domain.floors, endpoint=True)), *street.house_colours(), 0.5)
            depth = rng.uniform(8, 12)
            out += roadside.building(rng, at, yaw, length * 0.995, depth, side, look)
        else:
            out += _garden(street, side, edge, y, length, vivid)
        y += length
    return out


def _garden(street: Street, side, edge, y, length, vivid) -> list[Primitive]:
    rng, domain = street.rng, street.domain
    at, yaw = street.place(side * (edge + 0.4), y)
    border = rng.choice(4, p=(0.32, 0.38, 0.18, 0.12))
    out = []
    if border == 0:
        out += roadside.wall(rng, at, yaw, length)
    elif border == 1:
        out += roadside.fence(rng, at, yaw, length, vivid)
    elif border == 2:
        out += roadside.hedge(rng, at, yaw, length, street.foliage)
    setback = rng.uniform(4, 8)
    room = 6.0
    if rng.random() < 0.55:
        room = setback - 1.2  # trees stand in front of the house
        house, _ = street.place(side * (edge + setback), y + 0.8)
        look = (int(rng.integers(2, 4)), *street.house_colours(), 0.0)
        out += roadside.building(rng, house, yaw, max(length - 1.6, 5), 9, side, look)
    for _ in range(rng.poisson(length * 0.07 * (0.5 + uniform(rng, domain.trees)))):
        away, along = rng.uniform(1.3, room), rng.uniform(1.5, max(length - 1.5, 2.5))
        spot, _ = street.place(side * (edge + away), y + along)
        out += planted(street, spot, uniform(rng, domain.leaf_density))
    for _ in range(rng.poisson(0.9)):
        spot, _ = street.place(side * (edge + rng.uniform(1.2, 3.5)), y + rng.uniform(0, length))
        out += roadside.bush(rng, spot, street.foliage)
    return out


def backdrop(street: Street) -> list[Primitive]:
    """Trees and houses at the end of the street and in the side street."""
    rng, ground = street.rng, street.ground
    leaf = Part(VEGETATION, street.foliage(rng), Material.LEAVES)
    numbers = (rng.uniform(5, 9), rng.uniform(3, 7), rng.uniform(0, 250))
    out = [card((0.0, 260.0), 0.0, (-420, 0), (420, 20), (leaf,), shapes.treeline, numbers)]
    for x in rng.uniform(-90, 90, int(rng.integers(3, 8))):
        colour, roof = street.house_colours()
        front = Part(BUILDING, colour, Material.FACADE)
        top = Part(BUILDING, roof, Material.ROOF)
        high = rng.uniform(7, 28)
        size = (rng.uniform(7, 14), 12.0, high)
        numbers = (3.5, 3.0, 2.5, 0.3, 0.5, 0.0, rng.random(), high)
        at = (x, rng.uniform(140, 230))
        parts = (front,) * 4 + (top,) * 2
        out.append(box(at, 0.0, (-size[0], 0, 0), size, parts, numbers=numbers))
    if (
        street.domain.details is not None
    ):  # trees behind the houses, along the street and at its end
        for _ in range(rng.poisson(9 * uniform(rng, street.domain.trees))):
            at = (rng.uniform(12, 60) * rng.choice((-1, 1)), rng.uniform(25, 160))
            out += planted(street, at, 1.0, scale=rng.uniform(0.8, 1.5))
    if ground.crossing < 100:
        for side in (-1, 1):
            at, yaw = street.place(side * rng.uniform(35, 55), ground.crossing - 12)
            look = (int(rng.integers(2, 5)), *street.house_colours(), 0.2)
            out += roadside.building(rng, at, yaw, 24, 10, side, look)
    return out
