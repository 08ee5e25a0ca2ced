"""Plan of one `streets` scene: the course of the street, and placing objects along it."""

from typing import NamedTuple

import numpy as np

from jaxseg.data.streets.domains import Domain, Range
from jaxseg.data.streets.ground import Ground
from jaxseg.data.streets.primitives import hsv

END = 120.0  # metres; objects are placed up to here

# Hue, saturation and value of walls.
_WALLS = [
    (14, 0.5, 0.5), (20, 0.42, 0.6), (38, 0.3, 0.78), (42, 0.15, 0.85), (30, 0.1, 0.6),
    (210, 0.1, 0.62), (0, 0.02, 0.72), (350, 0.25, 0.68),
]  # fmt: skip
# Render, yellow and soot-dark brick, stone, cladding.
_MORE_WALLS = [
    (40, 0.03, 0.93), (45, 0.06, 0.9), (44, 0.3, 0.62), (40, 0.28, 0.5), (16, 0.4, 0.32),
    (35, 0.18, 0.42), (220, 0.08, 0.24),
]  # fmt: skip


def uniform(rng: np.random.Generator, bounds: Range) -> float:
    """Draws a number uniformly from a range."""
    return float(rng.uniform(*bounds))


class Street(NamedTuple):
    """The random generator and all that placing objects depends on.

    `lateral` is the distance to the right of the centre line x = bend * y^2; `side` is -1 on the
    left of the street and +1 on the right.
    """

    rng: np.random.Generator
    domain: Domain
    ground: Ground
    eye: float  # lateral position of the camera
    bare: float = 0.0  # shares of trees, for domains with details
    evergreen: float = 0.0

    def place(self, lateral: float, y: float) -> tuple[tuple[float, float], float]:
        """World position (x, y), and the direction of the street there."""
        bend = self.ground.bend
        return (lateral + bend * y * y, y), float(-np.arctan(2 * bend * y))

    def facing(self, at) -> float:
        """Yaw of a card at `at` that faces the camera."""
        return float(-np.arctan2(at[0] - self.eye, at[1]))

    def side_street(self, y: float, margin: float = 0.0) -> bool:
        """Whether y is in the side street or its margin."""
        return abs(y - self.ground.crossing) < self.ground.crossing_half + margin

    def foliage(self, rng) -> tuple[float, float, float]:
        """Draws a colour of leaves."""
        d = self.domain
        return hsv(
            uniform(rng, d.foliage_hue), uniform(rng, d.foliage_saturation),
            uniform(rng, d.foliage_value),
        )  # fmt: skip

    def edge(self, side: int) -> float:
        """Distance from the centre line to the fronts behind the pavement, just inside its edge."""
        i = int(side > 0)
        g = self.ground
        return g.half + g.verge[i] + g.pavement[i] + g.lots[i] - 0.6

    def house_colours(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Draws a colour for the walls and one for the roof."""
        rng, factor = self.rng, self.domain.wall_saturation
        walls = _WALLS if self.domain.details is None else _WALLS + _MORE_WALLS
        hue, saturation, value = walls[rng.integers(len(walls))]
        colour = hsv(hue + rng.uniform(-6, 6), saturation * factor, value * rng.uniform(0.85, 1.12))
        roof = (
            hsv(12, 0.5 * factor, rng.uniform(0.35, 0.55))
            if rng.random() < 0.5
            else hsv(220, 0.1, rng.uniform(0.22, 0.4))
        )
        return colour, roof
