"""Cars of many bodies for the detailed look of `streets`."""

import numpy as np

from jaxseg.data.streets import traffic
from jaxseg.data.streets.plan import Street, uniform
from jaxseg.data.streets.primitives import CAR, Material, Part, Primitive, box, hsv, tapered

# Length, waist, roof height above the waist; where the cabin starts and ends, as shares of the
# length; tangents of the slants at front and back of the cabin, and at its sides.
_BODIES = {
    "mini": (3.5, 0.92, 0.56, -0.47, 0.24, 0.75, 0.25, 0.24),
    "hatch": (4.0, 0.92, 0.55, -0.46, 0.22, 1.1, 0.45, 0.3),
    "saloon": (4.5, 0.9, 0.5, -0.34, 0.18, 1.2, 1.1, 0.34),
    "estate": (4.6, 0.92, 0.54, -0.48, 0.18, 1.1, 0.3, 0.3),
    "people carrier": (4.4, 0.98, 0.68, -0.48, 0.32, 1.0, 0.25, 0.26),
    "off-roader": (4.4, 1.08, 0.68, -0.48, 0.16, 0.55, 0.15, 0.2),
    "coupe": (4.2, 0.84, 0.44, -0.3, 0.12, 1.5, 1.7, 0.38),
    "van": (5.0, 1.15, 1.0, -0.495, 0.36, 0.55, 0.03, 0.08),
}
_COMMON = (0.12, 0.28, 0.14, 0.14, 0.1, 0.07, 0.05, 0.1)


def _paint(rng, vivid: float, factor: float):
    """Paint as on British streets: silver, black, blue and red, less often white or another."""
    kind = rng.choice(7, p=(0.24, 0.2, 0.16, 0.14, 0.12, 0.06, 0.08))
    value = rng.uniform(0.7, 1.0)
    if kind == 0:
        return hsv(215, rng.uniform(0.02, 0.08), value * 0.72)
    if kind == 1:
        return hsv(220, 0.1, value * 0.12)
    if kind == 2:
        return hsv(rng.uniform(212, 235), rng.uniform(0.4, 0.8) * vivid, value * 0.4)
    if kind == 3:
        return hsv(rng.uniform(-8, 6), rng.uniform(0.7, 0.95) * vivid, value * 0.6)
    if kind == 4:
        return hsv(210, 0.02, value * (0.6 + 0.4 * factor))
    if kind == 5:
        return hsv(rng.uniform(110, 180), rng.uniform(0.3, 0.7) * vivid, value * 0.4)
    return hsv(rng.uniform(0, 360), rng.uniform(0.2, 0.9) * vivid, value * 0.6 * factor)


def detailed_car(rng, at, yaw, vivid: float, paint) -> list[Primitive]:
    """A car of one of eight bodies; `paint` is the range of the brightness of bright paint."""
    name = rng.choice(list(_BODIES), p=_COMMON)
    length, waist, rise, back, front, lean, rear, side = _BODIES[name]
    length, waist = length * rng.uniform(0.94, 1.08), waist * rng.uniform(0.96, 1.05)
    rise *= rng.uniform(0.93, 1.1)
    half = rng.uniform(0.82, 0.92) + (0.06 if name in ("van", "off-roader") else 0)
    colour = _paint(rng, vivid, uniform(rng, paint))
    body = Part(CAR, colour, Material.CAR_BODY)
    cabin = body._replace(material=Material.CAR_CABIN)
    axle, top = length * rng.uniform(0.28, 0.32), waist + rise
    numbers = (half, length / 2, axle, waist, top, rng.random())
    low, high = (-half, -length / 2, 0.22), (half, length / 2, waist)
    start, end = back * length, front * length + 0.35
    cabin_numbers = (half * 0.97, start, end, waist, top, side, lean, rear)
    bumper = Part(CAR, tuple(0.5 * c + 0.03 for c in colour), Material.PLAIN)
    nose = length / 2
    out = [
        traffic.car_body(at, yaw, low, high, end, body, numbers),
        tapered(
            at, yaw, (-half * 0.97, start, waist), (half * 0.97, end, top), side, lean, rear,
            (cabin,) * 6, cabin_numbers,
        ),
        traffic.wheels(at, yaw, half - 0.02, length, rng.uniform(0.29, 0.35), axle, CAR),
        box(at, yaw, (-half * 0.9, -nose - 0.05, 0.3), (half * 0.9, nose + 0.05, 0.5), (bumper,)),
    ]  # fmt: skip
    if np.hypot(*at) > 30:  # small parts are not seen from afar
        return out
    # A rounded roof: a flatter, narrower piece on top.
    taper = (half * 0.97 - side * rise) * 0.86
    y0, y1 = start + rear * rise + 0.12, end - lean * rise - 0.12
    if y1 - y0 > 0.5:
        roof = body._replace(material=Material.PLAIN)
        low, high = (-taper, y0, top), (taper, y1, top + 0.06)
        out.append(tapered(at, yaw, low, high, 1.2, 2.5, 2.5, (roof,) * 6))
    mirror = Part(CAR, tuple(0.7 * c for c in colour), Material.PLAIN)
    for x in (-half - 0.08, half - 0.08):
        y = end - 0.45
        out.append(box(at, yaw, (x, y, waist - 0.02), (x + 0.16, y + 0.1, waist + 0.14), (mirror,)))
    return out


def any_car(street: Street, at, yaw, vivid: float) -> list[Primitive]:
    """A car in the style of the street's domain."""
    details = street.domain.details
    if details is None:
        return traffic.car(street.rng, at, yaw, vivid)
    return detailed_car(street.rng, at, yaw, vivid, details.paint)


def darkened(primitive: Primitive, factor: float) -> Primitive:
    """The same primitive with all colours scaled."""
    parts = tuple(p._replace(colour=tuple(factor * c for c in p.colour)) for p in primitive.parts)
    return primitive._replace(parts=parts)


def lot_rows(street: Street, side: int, vivid: float) -> list[Primitive]:
    """Rows of cars that stand across the street's direction in a car park behind the pavement."""
    ground, rng = street.ground, street.rng
    i = int(side > 0)
    wide, inner = ground.lots[i], ground.half + ground.verge[i] + ground.pavement[i]
    out = []
    for row in np.arange(3.0, wide - 2.5, 8.0):
        y, share = rng.uniform(4, 9), rng.uniform(0.4, 0.95)
        while y < 45:
            if rng.random() < share and not street.side_street(y, 3):
                at, yaw = street.place(side * (inner + row), y)
                turn = rng.choice((-1, 1)) * np.pi / 2 + rng.normal(0, 0.03)
                out += any_car(street, at, yaw + turn, vivid)
            y += rng.uniform(2.5, 2.9)
    return out
