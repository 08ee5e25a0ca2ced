"""Vehicles and people of the `streets` scenes, as lists of primitives.

Every function takes a random generator, the position (`at`: x, y in metres), the heading (`yaw` in
radians, 0 along the street) and `vivid`, the saturation of the colours.
"""

import numpy as np

from jaxseg.data.streets import shapes
from jaxseg.data.streets.primitives import (
    BICYCLE,
    BUS,
    CAR,
    MOTORCYCLE,
    PERSON,
    RIDER,
    TRAIN,
    TRUCK,
    Material,
    Part,
    Primitive,
    box,
    card,
    hsv,
    tapered,
)


def _vehicle_colour(rng, vivid):
    kind = rng.random()
    if kind < 0.25:
        return hsv(220, 0.03, rng.uniform(0.75, 0.95))
    if kind < 0.5:
        return hsv(220, 0.06, rng.uniform(0.4, 0.65))
    if kind < 0.68:
        return hsv(220, 0.1, rng.uniform(0.08, 0.2))
    hue = rng.choice((0, 5, 15, 45, 130, 210, 220, 230))
    return hsv(hue, rng.uniform(0.5, 0.9) * vivid, rng.uniform(0.3, 0.8))


def wheels(at, yaw, half, length, radius, axle, label) -> Primitive:
    """The wheels below a vehicle: a box with a silhouette."""
    tyre = Part(label, (0.06, 0.06, 0.065), Material.PLAIN)
    hub = Part(label, (0.5, 0.5, 0.52), Material.PLAIN)
    low, high = (-half, -length / 2 + 0.15, 0.0), (half, length / 2 - 0.15, radius * 2)
    numbers = (-axle, axle, radius, half)
    parts = (tyre, hub, tyre, tyre, tyre, tyre)
    return box(at, yaw, low, high, parts, silhouette=shapes.undercarriage, numbers=numbers)


def car_body(at, yaw, low, high, cabin_end, part, numbers) -> Primitive:
    """The lower body: a tapered box with a sloping bonnet and bevelled edges."""
    base = tapered(at, yaw, low, high, 0.1, 0.16, 0.1, (part,) * 11, numbers)
    waist, end, half = high[2], high[1], high[0]
    bevels = (
        ((0, 0.16, 1), 0.16 * cabin_end + waist),  # the bonnet slopes down from the windscreen
        ((0, 1, 0.8), end - 0.1 + 0.8 * (waist - 0.12)),
        ((0, -1, 0.6), end - 0.02 + 0.6 * (waist - 0.12)),
        ((0.35, 1, 0), 0.35 * (half - 0.25) + end),  # bevelled corners, seen from above
    )
    planes = [(*n, k) / np.linalg.norm(n) for n, k in bevels]
    mirrored = planes[3] * (-1, 1, 1, 1)
    return base._replace(planes=np.concatenate((base.planes, planes, mirrored[None])))


def car(rng, at, yaw, vivid) -> list[Primitive]:
    """A passenger car or van with wheels, windows and lights."""
    style = rng.choice(("hatch", "saloon", "van"), p=(0.45, 0.35, 0.2))
    half = rng.uniform(0.84, 0.93)
    length = rng.uniform(3.8, 4.7) + (0.4 if style == "van" else 0)
    waist = rng.uniform(0.85, 0.98) + (0.1 if style == "van" else 0)
    top = waist + {"hatch": 0.58, "saloon": 0.52, "van": 0.85}[style] + rng.uniform(-0.04, 0.06)
    body = Part(CAR, _vehicle_colour(rng, vivid), Material.CAR_BODY)
    cabin = body._replace(material=Material.CAR_CABIN)
    axle = length * 0.31
    numbers = (half, length / 2, axle, waist, top, rng.random())
    back, front = {"hatch": (-0.48, 0.2), "saloon": (-0.33, 0.17), "van": (-0.49, 0.34)}[style]
    slants = {"hatch": (0.9, 0.35), "saloon": (0.95, 0.75), "van": (0.6, 0.05)}[style]
    low, high = (-half, -length / 2, 0.24), (half, length / 2, waist)
    return [
        car_body(at, yaw, low, high, front * length + 0.35, body, numbers),
        tapered(
            at,
            yaw,
            (-half * 0.97, back * length, waist),
            (half * 0.97, front * length + 0.35, top),
            0.28,
            *slants,
            (cabin,) * 6,
            (half * 0.97, back * length, front * length + 0.35, waist, top, 0.28, *slants),
        ),
        wheels(at, yaw, half - 0.02, length, 0.32, axle, CAR),
    ]


def bus(rng, at, yaw, vivid, label=BUS) -> list[Primitive]:
    """A bus, or a tram if `label` says so."""
    half = 1.25
    tram = label == TRAIN
    length = rng.uniform(18, 26) if tram else rng.uniform(9, 12)
    top = 3.3 if tram else (4.3 if rng.random() < 0.25 else rng.uniform(2.9, 3.2))
    colour = hsv(
        rng.choice((0, 40, 130, 210)), rng.uniform(0.6, 0.9) * vivid, rng.uniform(0.5, 0.85)
    )
    body = Part(label, colour, Material.BUS)
    numbers = (half, length / 2, length * 0.3, 0.4, top, rng.random())
    parts = [
        box(at, yaw, (-half, -length / 2, 0.35), (half, length / 2, top), (body,), numbers=numbers),
        wheels(at, yaw, half - 0.03, length, 0.48, length * 0.3, label),
    ]
    return parts


def truck(rng, at, yaw, vivid) -> list[Primitive]:
    """A lorry: cab in front, box behind."""
    half, length, top = 1.2, rng.uniform(6, 9), rng.uniform(2.9, 3.7)
    cab_colour = _vehicle_colour(rng, vivid)
    cargo_colour = hsv(rng.uniform(0, 360), rng.choice((0.03, 0.4 * vivid)), rng.uniform(0.6, 0.9))
    cab = Part(TRUCK, cab_colour, Material.TRUCK_CAB)
    cargo = Part(TRUCK, cargo_colour, Material.CARGO)
    numbers = (half, length / 2, length * 0.3, 0.8, top, rng.random())
    split = length / 2 - 2.0
    return [
        tapered(
            at,
            yaw,
            (-half, split, 0.45),
            (half, length / 2, 2.7),
            0.02,
            0.12,
            0.0,
            (cab,) * 6,
            numbers,
        ),
        box(
            at, yaw, (-half, -length / 2, 0.75), (half, split - 0.1, top), (cargo,), numbers=numbers
        ),
        wheels(at, yaw, half - 0.05, length, 0.48, length * 0.32, TRUCK),
    ]


def _clothes(rng, label, vivid):
    shirt = hsv(rng.uniform(0, 360), rng.uniform(0.05, 0.85) * vivid, rng.uniform(0.15, 0.9))
    trousers = hsv(rng.choice((30, 220)), rng.uniform(0.1, 0.5), rng.uniform(0.1, 0.45))
    tone = rng.uniform(0.35, 0.9)
    skin = (tone, tone * 0.78, tone * 0.64)
    hair = hsv(30, 0.4, rng.uniform(0.05, 0.4))
    bag = hsv(rng.uniform(0, 360), 0.5 * vivid, rng.uniform(0.2, 0.6))
    colours = (shirt, trousers, skin, hair, (0.08, 0.07, 0.07), bag)
    return [Part(label, c, Material.CLOTH) for c in colours]


def person(rng, at, yaw, vivid) -> list[Primitive]:
    """A pedestrian, on a card that faces a viewer who looks along `yaw`."""
    height = rng.uniform(1.5, 1.88) if rng.random() < 0.88 else rng.uniform(1.0, 1.3)
    stride = rng.uniform(-1, 1) if rng.random() < 0.7 else 0.15
    numbers = (height, stride, rng.uniform(0.9, 1.2), float(rng.random() < 0.3))
    reach = 0.36 * height
    parts = _clothes(rng, PERSON, vivid)
    return [card(at, yaw, (-reach, 0), (reach, height * 1.01), parts, shapes.person, numbers)]


def two_wheeler(rng, at, yaw, vivid, *, motor, rider, side) -> list[Primitive]:
    """A bicycle or motorcycle, parked or ridden, seen from the side or from an end."""
    vehicle = MOTORCYCLE if motor else BICYCLE
    paint = hsv(rng.uniform(0, 360), 0.8 * vivid, rng.uniform(0.25, 0.8))
    lamp = (0.85, 0.1, 0.08) if rng.random() < 0.5 else (0.95, 0.93, 0.8)
    colours = ((0.07, 0.07, 0.07), paint, (0.4, 0.4, 0.42), paint, lamp)
    if motor:
        colours = (colours[0], (0.3, 0.3, 0.32), *colours[2:])
    parts = _clothes(rng, RIDER, vivid)
    if motor or rng.random() < 0.4:  # a helmet
        helmet = hsv(rng.uniform(0, 360), rng.choice((0.05, 0.8)) * vivid, rng.uniform(0.1, 0.9))
        parts[shapes.HAIR] = Part(RIDER, helmet, Material.CLOTH)
    parts += [Part(vehicle, c, Material.CLOTH) for c in colours]
    numbers = (float(motor), float(side), float(rider), float(rng.random() < 0.5))
    reach = (1.05 if motor else 0.9) if side else 0.55
    top = (1.85 if rider else 1.3) if side or rider else 1.3
    return [card(at, yaw, (-reach, 0), (reach, top), parts, shapes.two_wheeler, numbers)]
