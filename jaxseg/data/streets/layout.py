"""Places objects in a `streets` scene: along the kerbs, in traffic, people.

The street's centre line is x = bend * y^2.
"""

from typing import NamedTuple

import numpy as np

from jaxseg.data.streets import roadside, traffic
from jaxseg.data.streets.cars import any_car, darkened, lot_rows
from jaxseg.data.streets.domains import Details, Domain
from jaxseg.data.streets.frontage import backdrop, frontage
from jaxseg.data.streets.ground import Ground
from jaxseg.data.streets.plan import Street, uniform
from jaxseg.data.streets.primitives import BUS, PERSON, RIDER, TRAIN, TRUCK, Primitive
from jaxseg.data.streets.trees import planted


class Scene(NamedTuple):
    """Everything that is drawn."""

    ground: Ground
    primitives: list[Primitive]
    eye: float  # lateral position of the camera, which stands at y = 0
    wires: tuple = ()  # pairs of end points [3], metres


def layout(rng: np.random.Generator, domain: Domain) -> Scene:
    """Draws a random street with its objects.

    Args:
        rng: random generator; its state and `domain` determine the scene.
        domain: densities and palette.

    Returns:
        The scene, seen from a lane on the correct side for its traffic.
    """
    ground, details = _ground(rng, domain), domain.details
    if details is not None:
        ground = _widened(rng, ground, details)
    lane = ground.half - (2.2 if ground.parking[int(ground.hand > 0)] else 0.4)
    eye = lane * rng.uniform(0.25, 0.65) * ground.hand
    street = Street(rng, domain, ground, eye)
    if details is not None:
        shares = uniform(rng, details.bare), uniform(rng, details.evergreen)
        street = street._replace(bare=shares[0], evergreen=shares[1])
    out: list[Primitive] = []
    for side in (-1, 1):
        out += frontage(street, side)
        out += _kerb(street, side)
    out += _traffic(street)
    out += backdrop(street)
    if details is None:
        return Scene(ground, out, eye)
    people = (PERSON, RIDER)
    out = [
        darkened(p, uniform(rng, details.clothes)) if p.parts[0].label in people else p for p in out
    ]
    wires = _wires(street) if rng.random() < details.wires else ()
    return Scene(ground, out, eye, wires)


def _widened(rng, ground: Ground, details: Details) -> Ground:
    """Some streets meet a wide one, some have car parks behind their pavements."""
    if rng.random() < details.wide:
        y = rng.uniform(14, 40)
        half = min(rng.uniform(5, 12), y - 6)
        ground = ground._replace(
            crossing=y, crossing_half=half, zebra=min(ground.zebra, y - half - 3)
        )
    lots = tuple(rng.uniform(6, 24) if rng.random() < details.lots else 0.0 for _ in range(2))
    return ground._replace(lots=lots)


def _wires(street: Street) -> tuple:
    """Telephone lines along one side of the street, or wires across it."""
    rng, half = street.rng, street.ground.half
    out = []
    if rng.random() < 0.5:
        lateral, high = rng.choice((-1, 1)) * (half + rng.uniform(0.5, 3)), rng.uniform(5.5, 8)
        for y in np.arange(rng.uniform(-20, 5), 90, 32.0):
            for k in range(int(rng.integers(1, 4))):
                ends = [street.place(lateral + 0.2 * k, y + d)[0] for d in (0, 32.0)]
                out.append([(*end, high + 0.1 * k) for end in ends])
        return tuple(out)
    for y in rng.uniform(5, 60, int(rng.integers(1, 6))):
        high, slant = rng.uniform(5.5, 8), rng.uniform(-6, 6)
        left, right = street.place(-half - 4, y)[0], street.place(half + 4, y + slant)[0]
        out.append([(*left, high), (*right, high + rng.uniform(-1, 1))])
    return tuple(out)


def _ground(rng, domain: Domain) -> Ground:
    half = uniform(rng, domain.road_half_width)
    crossing = rng.random() < 0.4
    verge = tuple(rng.uniform(1.0, 2.5) if rng.random() < 0.25 else 0.0 for _ in range(2))
    y = rng.uniform(16, 50)
    zebra = y - 6.5 if crossing and rng.random() < 0.6 else rng.uniform(8, 40)
    crossing_half = rng.uniform(3, 5)
    return Ground(
        half=half,
        bend=rng.uniform(-0.0022, 0.0022) if rng.random() < 0.6 else 0.0,
        verge=verge,
        pavement=(rng.uniform(2.6, 6.0), rng.uniform(2.6, 6.0)),
        crossing=y if crossing else 1e6,
        crossing_half=crossing_half,
        zebra=min(zebra, y - crossing_half - 3) if crossing or rng.random() < 0.3 else 1e6,
        lanes=1 if half < 5.5 else 2,
        hand=-1 if rng.random() < domain.left_hand_traffic else 1,
        parking=tuple(bool(rng.random() < 0.7 and half > 4.2) for _ in range(2)),
    )


def _kerb(street: Street, side: int) -> list[Primitive]:
    """Objects on one pavement and along its kerb."""
    rng, domain, ground = street.rng, street.domain, street.ground
    i = int(side > 0)
    outer, edge = ground.half + ground.verge[i], street.edge(side)
    vivid = uniform(rng, domain.vivid)
    out = []
    density = uniform(rng, domain.leaf_density)
    share, y = uniform(rng, domain.trees) * (rng.random() < 0.6), rng.uniform(4, 12)
    while y < 90:
        if rng.random() < share and not street.side_street(y, 3):
            at, _ = street.place(side * (ground.half + 0.7), y)
            out += planted(street, at, density)
        y += rng.uniform(7, 11)
    y = rng.uniform(5, 25)
    while y < 100:
        at, yaw = street.place(side * (ground.half + 0.5), y)
        if not street.side_street(y, 1):
            out += roadside.lamp_post(rng, at, yaw, -side)
        y += rng.uniform(18, 30)
    for _ in range(rng.poisson(1.5)):
        at, _ = street.place(side * (ground.half + rng.uniform(0.35, 0.7)), rng.uniform(6, 45))
        if not street.side_street(at[1], 1):
            out += roadside.road_sign(rng, at, street.facing(at) * 0.5)
    if rng.random() < 0.25:  # a railing between road and pavement
        y, length = rng.uniform(5, 30), rng.uniform(5, 18)
        if not any(street.side_street(y + d, 1) for d in np.linspace(0, length, 8)):
            at, yaw = street.place(side * (ground.half + 0.25), y)
            out += roadside.fence(rng, at, yaw, length, vivid, high=1.05)
    for y in (ground.crossing - ground.crossing_half - 1.5, ground.zebra - 1.8):
        if 3 < y < 200 and rng.random() < 0.65:
            at, yaw = street.place(side * (ground.half + 0.5), y)
            out += roadside.traffic_light(rng, at, yaw, -side)
    for _ in range(rng.poisson(domain.people / 2)):
        spread = rng.uniform(4, 20) if rng.random() < 0.7 else rng.uniform(20, 45)
        at, _ = street.place(side * rng.uniform(outer + 0.3, edge - 0.2), spread)
        out += traffic.person(rng, at, street.facing(at), vivid)
    for _ in range(rng.poisson(domain.parked_two_wheelers / 2)):
        motor = rng.random() < 0.3
        at, yaw = street.place(side * (outer + rng.uniform(0.4, 0.9)), rng.uniform(5, 25))
        for _ in range(1 if motor else int(rng.integers(1, 5))):
            lying = street.facing(at) + rng.uniform(-0.9, 0.9)
            out += traffic.two_wheeler(rng, at, lying, vivid, motor=motor, rider=False, side=True)
            at = (at[0], at[1] + rng.uniform(0.5, 1.0))
    share, y = uniform(rng, domain.parked_cars), rng.uniform(4.5, 10)
    while ground.parking[i] and y < 80:
        if rng.random() < share and not street.side_street(y, 4) and abs(y - ground.zebra) > 4:
            at, yaw = street.place(side * (ground.half - 1.05), y)
            turned = yaw + (np.pi if side != ground.hand else 0.0)
            out += any_car(street, at, turned + rng.uniform(-0.03, 0.03), vivid)
        y += rng.uniform(5.4, 6.6)
    return out + (lot_rows(street, side, vivid) if ground.lots[i] else [])


def _traffic(street: Street) -> list[Primitive]:
    """Moving vehicles, and people who cross the road."""
    rng, domain, ground = street.rng, street.domain, street.ground
    vivid = uniform(rng, domain.vivid)
    taken: list[tuple[float, float, float]] = []
    out = []

    def room(lateral, y, reach):
        free = all(abs(lateral - a) > 2.2 or abs(y - b) > reach + c for a, b, c in taken)
        if free:
            taken.append((lateral, y, reach))
        return free

    def lane():
        ahead = rng.random() < 0.5
        inner = ground.half - (2.2 if any(ground.parking) else 0.5)
        lateral = max(inner, 2.4) * rng.uniform(0.5, 0.62) * ground.hand
        return (lateral if ahead else -lateral), (0.0 if ahead else np.pi)

    for kind in (BUS, TRUCK, TRAIN):
        chance = domain.heavy_vehicles if kind != TRAIN else 0.1
        if rng.random() < chance:
            (lateral, turn), y = lane(), rng.uniform(13, 42)
            if kind == TRAIN:
                lateral, turn, y = -1.6 * ground.hand, np.pi, rng.uniform(22, 45)
            if room(lateral, y, 9 if kind == TRAIN else 5.5):
                at, yaw = street.place(lateral, y)
                make = traffic.truck if kind == TRUCK else traffic.bus
                extra = {} if kind == TRUCK else {"label": kind}
                out += make(rng, at, yaw + turn, vivid, **extra)
    for _ in range(rng.poisson(domain.moving_cars)):
        (lateral, turn), y = (
            lane(),
            rng.uniform(7, 22) if rng.random() < 0.5 else rng.uniform(22, 70),
        )
        if turn == 0 and y < 8.5:
            y += 5
        if room(lateral, y, 2.5):
            at, yaw = street.place(lateral, y)
            out += any_car(street, at, yaw + turn, vivid)
    for _ in range(rng.poisson(domain.riders)):
        motor, y = rng.random() < 0.42, rng.uniform(5, 24)
        inner = ground.half - (2.6 if any(ground.parking) else 0.9)
        lateral = (1 if rng.random() < 0.6 else -1) * max(inner, 2.0)
        across = rng.random() < 0.35
        if across or room(lateral, y, 1.2):
            at, _ = street.place(rng.uniform(-1, 1) * max(inner, 2.0) if across else lateral, y)
            if across and not room(at[0], y, 1.2):
                continue
            out += traffic.two_wheeler(
                rng, at, street.facing(at), vivid, motor=motor, rider=True, side=across
            )
    crossers = rng.poisson(2.5) if ground.zebra < 100 else rng.poisson(0.4)
    for _ in range(crossers):
        y = ground.zebra + rng.uniform(-1, 1) if ground.zebra < 100 else rng.uniform(9, 35)
        at, _ = street.place(rng.uniform(-0.9, 0.9) * ground.half, y)
        out += traffic.person(rng, at, street.facing(at), vivid)
    return out
