"""Colours of the primitives in `streets`: windows, wheels, lights, leaves, bricks.

Patterns are defined in the primitives' local frames (metres), so they follow the perspective.
"""

import numpy as np

from jaxseg.data.streets.draw import Tables
from jaxseg.data.streets.primitives import Material
from jaxseg.data.streets.texture import band, grain, inside, joints, mix, sample, scatter, tiles


class Surface:
    """The pixels of one material and their inputs for painting, see `paint_primitives`."""

    def __init__(self, colour, local, normal, numbers, owner, reach, texture):
        self.colour, self.normal, self.owner = colour, normal, owner
        self.x, self.y, self.z = local
        self.numbers, self.reach, self.texture = numbers.T, reach, texture
        self.sideways = np.abs(normal[:, 0]) > np.abs(normal[:, 1])
        self.along = np.where(self.sideways, self.y, self.x)
        self.gloss = np.zeros(reach.shape, np.float32)  # set by the painters, 1 is clean glass


def _facade(s: Surface):
    ground, storey, pitch, half, high, shop, dice, top = s.numbers
    u, v, r = s.along, s.z, s.reach
    upper = v > ground
    level = np.where(upper, np.floor((v - ground) / storey), -1)
    fv = np.where(upper, (v - ground) % storey / storey, v / ground)
    column = np.floor(u / pitch)
    fu = (u / pitch) % 1 - 0.5
    dice_window = scatter(column, level, s.owner)
    height = np.where(upper, storey, ground)
    shopfront = ~upper & (shop > 0)
    door = ~upper & (shop == 0) & (scatter(column, s.owner) < 0.28)
    half_u = np.where(shopfront, 0.44, np.where(door, 0.2, half))
    centre = np.where(shopfront, 0.44, np.where(door, 0.32, 0.55))
    half_v = np.where(shopfront, 0.28, np.where(door, 0.32, high / 2))
    half_v = np.where(door & upper, 0, half_v)
    du, dv = (half_u - np.abs(fu)) * pitch, (half_v - np.abs(fv - centre)) * height
    edge = np.minimum(du, dv)
    edge = np.where(upper & (v > top - 0.45), -1.0, edge)
    frame = np.minimum(edge + 0.1, 1)
    pane = edge
    # Crosses in some windows.
    bars = np.minimum(np.abs(fu) * pitch, np.abs(fv - 0.6) * height) - 0.03
    pane = np.where((dice > 0.45) & ~shopfront & ~door, np.minimum(pane, bars), pane)
    colour = s.colour
    base = shopfront[:, None] | (~upper & (dice > 0.7))[:, None]
    tone = scatter(s.owner, 3, np.zeros_like(u))[:, None]
    shop_colour = (
        np.stack([scatter(s.owner, k, np.zeros_like(u)) for k in (11, 12, 13)], 1) * 0.5 + 0.15
    )
    colour = np.where(base, np.where(shopfront[:, None], shop_colour, colour * 0.75), colour)
    trim = np.where(dice[:, None] > 0.5, 0.85, colour * (0.6 + 0.3 * tone))
    colour = mix(colour, trim, band(v, ground, 0.12, r) * 0.8)
    colour = mix(colour, trim, inside(v - top + 0.35, r) * 0.8)
    sign = shopfront & (fv > 0.76) & (fv < 0.95)
    letters = scatter(np.floor(u * 3), s.owner) > 0.45
    letter = sign & letters & (np.abs(fv - 0.855) < 0.045)
    colour = np.where(sign[:, None], shop_colour[:, ::-1] * 0.9 + 0.1, colour)
    colour = mix(colour, (0.92, 0.9, 0.85), letter * np.clip(1.6 - r * 3, 0, 1))
    colour = mix(colour, trim, inside(frame, r))
    shade = 0.08 + 0.22 * dice_window * dice_window
    glass = np.stack((shade * 0.9, shade, shade * 1.12), 1)
    lit = (dice_window > 0.9)[:, None]
    glass = np.where(lit, np.float32((0.75, 0.66, 0.5)), glass)
    glass = np.where((shopfront & (dice_window > 0.4))[:, None], shop_colour * 0.7 + 0.1, glass)
    glass = np.where(door[:, None], shop_colour[:, ::-1] * 0.7, glass)
    s.gloss = inside(pane, r) * np.where(door, 0.1, 0.4 + 0.5 * dice_window) * ~lit[:, 0]
    return mix(colour, glass, inside(pane, r))


def _roof(s: Surface):
    v = s.x  # down the slope
    rows = band((np.abs(v) * 2.5) % 1, 0.0, 0.18, s.reach * 2.5) * np.clip(1.3 - s.reach * 3, 0, 1)
    return s.colour * (1 - 0.22 * rows[:, None])


def _car_body(s: Surface):
    half, end, axle, waist, top, dice = s.numbers[:6]
    x, y, z, r = s.x, s.y, s.z, s.reach
    s.gloss += 0.3
    colour = s.colour * (0.82 + 0.22 * np.clip((z - 0.25) / (waist - 0.25), 0, 1))[:, None]
    side = s.sideways & (s.normal[:, 2] < 0.5)
    nearest = np.minimum(np.abs(y - axle), np.abs(y + axle))
    arch = inside(0.39 - np.hypot(nearest, z - 0.32), r) * side
    colour = mix(colour, colour * 0.35, band(y, 0.05, 0.015, r) * side * (z > 0.4))
    colour = mix(colour, colour * 0.5, band(z, 0.3, 0.06, r))
    colour = mix(colour, (0.04, 0.04, 0.045), arch)
    end_face = ~side & (s.normal[:, 2] < 0.5)
    back = end_face & (s.normal[:, 1] < 0)
    lamp = (
        inside(np.minimum(np.abs(x) - half * 0.62, 0.11 - np.abs(z - waist + 0.22)), r) * end_face
    )
    lamp_colour = np.where(back[:, None], (0.72, 0.05, 0.05), (0.95, 0.94, 0.88))
    colour = mix(colour, lamp_colour, lamp)
    plate = inside(np.minimum(0.26 - np.abs(x), 0.06 - np.abs(z - 0.5)), r) * end_face
    colour = mix(colour, np.where(back[:, None], (0.9, 0.85, 0.5), (0.9, 0.9, 0.9)), plate)
    grille = inside(np.minimum(half * 0.5 - np.abs(x), 0.05 - np.abs(z - waist + 0.2)), r)
    return mix(colour, (0.08, 0.08, 0.09), grille * end_face * ~back)


def _car_cabin(s: Surface):
    half, back, front, low, top, slant, slant_front, slant_back = s.numbers
    z = s.z
    rise = np.clip((z - low) / (top - low), 0, 1)
    x1 = half - slant * (z - low)
    y0, y1 = back + slant_back * (z - low), front - slant_front * (z - low)
    # Distances to the pillars and the roof's edge, along the face.
    along_side = np.minimum(s.y - y0, y1 - s.y) - 0.09
    pillar = np.abs(s.y - (y0 + y1) / 2) - 0.035
    across = x1 - np.abs(s.x) - 0.08
    edge = np.where(s.sideways, np.minimum(along_side, pillar), across)
    edge = np.minimum(edge, np.minimum(rise - 0.1, 0.86 - rise) * (top - low))
    glass = inside(edge, s.reach) * (s.normal[:, 2] < 0.9)
    s.gloss = np.maximum(glass, 0.3)
    shade = (0.1 + 0.22 * rise)[:, None] * np.float32((0.85, 0.95, 1.05))
    return mix(s.colour, shade, glass)


def _bus(s: Surface):
    half, end, axle, low, top, dice = s.numbers[:6]
    x, y, z, r = s.x, s.y, s.z, s.reach
    side = s.sideways
    colour = mix(s.colour, (0.88, 0.88, 0.86), inside(z - 1.3, r) * (dice > 0.5))
    colour = mix(colour, colour * 0.45, inside(0.55 - z, r))
    pillar = 0.62 - np.abs((y / 1.45) % 1 - 0.5) * 1.45
    rows = 0.5 - np.abs(z - 1.85)
    rows = np.where(top > 3.9, np.maximum(rows, 0.42 - np.abs(z - 3.45)), rows)
    window = np.minimum(np.minimum(pillar, rows), end - 0.4 - np.abs(y))
    screen = np.minimum(half - 0.14 - np.abs(x), np.maximum(rows, 0.7 - np.abs(z - 1.8)))
    back = ~side & (s.normal[:, 1] < 0)
    screen = np.where(back, np.minimum(screen, z - 1.5), screen)
    glass = inside(np.where(side, window, screen), r) * (np.abs(s.normal[:, 2]) < 0.5)
    s.gloss = 0.2 + 0.6 * glass
    colour = mix(colour, (0.1, 0.12, 0.14), glass)
    board = inside(np.minimum(0.75 - np.abs(x), 0.14 - np.abs(z - top + 0.25)), r) * ~side
    colour = mix(colour, (0.06, 0.06, 0.06), board)
    text = (scatter(np.floor(x * 7), s.owner) > 0.5) & (np.abs(z - top + 0.25) < 0.08)
    colour = mix(colour, (0.95, 0.7, 0.15), board * text)
    lamp = inside(np.minimum(np.abs(x) - half * 0.72, 0.12 - np.abs(z - 0.85)), r) * ~side
    colour = mix(colour, np.where(back[:, None], (0.75, 0.05, 0.05), (0.95, 0.94, 0.88)), lamp)
    nearest = np.minimum(np.abs(y - axle), np.abs(y + axle))
    return mix(colour, (0.05, 0.05, 0.05), inside(0.56 - np.hypot(nearest, z - 0.48), r) * side)


def _truck_cab(s: Surface):
    half, end, axle, low, top = s.numbers[:5]
    y, z, r = s.y, s.z, s.reach
    front = ~s.sideways & (s.normal[:, 1] > 0)
    door = np.minimum(0.5 - np.abs(y - end + 0.8), 0.4 - np.abs(z - 1.95))
    screen = np.minimum(half - 0.12 - np.abs(s.x), 0.45 - np.abs(z - 2.0))
    edge = np.where(s.sideways, door, np.where(front, screen, -1.0))
    colour = mix(s.colour, (0.1, 0.12, 0.15), inside(edge, r))
    grille = np.minimum(0.7 - np.abs(s.x), 0.25 - np.abs(z - 1.0))
    colour = mix(colour, (0.1, 0.1, 0.1), inside(grille, r) * front)
    lamp = np.minimum(np.abs(s.x) - half * 0.7, 0.1 - np.abs(z - 0.75))
    return mix(colour, (0.95, 0.94, 0.88), inside(lamp, r) * front)


def _cargo(s: Surface):
    half, end, axle, low, top, dice = s.numbers[:6]
    x, y, z, r = s.x, s.y, s.z, s.reach
    stripe = band(z, 2.0, 0.35, r) * s.sideways * (dice > 0.4) * (np.abs(y) < end * 0.6)
    colour = mix(s.colour, s.colour[:, [2, 0, 1]] * 0.6, stripe)
    back = ~s.sideways & (s.normal[:, 1] < 0)
    colour = mix(colour, colour * 0.5, inside(0.02 - np.abs(x), r) * back)
    colour = mix(colour, (0.15, 0.15, 0.16), inside(0.95 - z, r))
    lamp = np.minimum(np.abs(x) - half * 0.75, 0.09 - np.abs(z - 0.86))
    return mix(colour, (0.75, 0.05, 0.05), inside(lamp, r) * back)


def _signal(s: Surface):
    state, top, tall = s.numbers[:3]
    colour = s.colour
    lamps = ((0.95, 0.1, 0.08), (0.98, 0.65, 0.1), (0.1, 0.85, 0.4))
    for i, on in enumerate(lamps):
        disc = np.hypot(s.along, s.z - top + tall * (0.2 + 0.3 * i))
        glow = np.where((state == i)[:, None], on, np.float32(on) * 0.25)
        colour = mix(colour, glow, inside(0.12 - disc, s.reach) * ~s.sideways)
    return colour


def _leaves(s: Surface):
    smooth, fractal = tiles()
    seed, fade = s.numbers[2], np.clip(1.4 - s.reach * 6, 0, 1)
    u, v, w = s.x * 12 + seed, s.z * 12 + seed, s.y * 12 + seed
    clumps = 0.7 * (sample(fractal, u, v) + sample(fractal, w, v))
    twigs = 0.7 * fade * (sample(smooth, u, v) + sample(smooth, w, v))
    value = 1 + (0.12 + 0.1 * s.texture) * clumps + 0.2 * s.texture * twigs
    value = value * (0.85 + 0.2 * s.normal[:, 2])
    return s.colour * np.clip(value, 0.25, 1.9)[:, None]


def _bricks(s: Surface):
    brick = s.numbers[0] > 0
    joint = joints(s.along, s.z, 0.5, 0.17, 0.02, s.reach) * brick
    return mix(s.colour, s.colour * 0.65 + 0.1, joint * 0.7)


def _plain(s: Surface):
    return s.colour


_PAINT = {
    Material.FACADE: _facade, Material.ROOF: _roof, Material.CAR_BODY: _car_body,
    Material.CAR_CABIN: _car_cabin, Material.BUS: _bus, Material.TRUCK_CAB: _truck_cab,
    Material.CARGO: _cargo, Material.SIGNAL: _signal, Material.LEAVES: _leaves,
    Material.BRICKS: _bricks,
}  # fmt: skip
# Factor of each material on the domain's texture strength.
_ROUGHNESS = {
    Material.FACADE: 1.0, Material.ROOF: 1.3, Material.BRICKS: 1.3, Material.PLAIN: 0.4,
    Material.CLOTH: 0.5, Material.BARK: 1.5, Material.CARGO: 0.5, Material.LEAVES: 0.8,
    Material.METAL: 0.4, Material.BUS: 0.25, Material.CAR_BODY: 0.2, Material.CAR_CABIN: 0.15,
}  # fmt: skip


def paint_primitives(tables: Tables, owner, part, world, reach, texture: float):
    """Colours and world normals of pixels that show primitives.

    Args:
        tables: the scene's tables.
        owner, part: [n] from the geometry pass.
        world: [3, n] world positions.
        reach: [n] metres per pixel at that depth.
        texture: strength of the texture; 0 leaves plain colours.

    Returns:
        colour [n, 3], normal [n, 3], gloss [n] (float32; gloss is 1 for clean glass).
    """
    colour = tables.colour[owner, part]
    material = tables.material[owner, part]
    normal, gloss = tables.normal[owner, part], np.zeros(owner.size, np.float32)
    yaw = tables.yaw[owner].astype(np.float32)
    cos, sin = np.cos(yaw), np.sin(yaw)
    offset = world - tables.origin[owner].T.astype(np.float32)
    local = np.stack(
        (cos * offset[0] + sin * offset[1], cos * offset[1] - sin * offset[0], offset[2])
    )
    ball = np.flatnonzero(tables.low[owner, 2] < 0)  # only ellipsoids extend below their origin
    if ball.size:
        gradient = local[:, ball].T / tables.high[owner[ball]] ** 2
        normal[ball] = gradient / np.linalg.norm(gradient, axis=1, keepdims=True)
    for kind in np.unique(material):
        rows = np.flatnonzero(material == kind)
        surface = Surface(
            colour[rows], local[:, rows], normal[rows], tables.numbers[owner[rows]], owner[rows],
            reach[rows], texture,
        )  # fmt: skip
        painted = _PAINT.get(kind, _plain)(surface)
        gloss[rows] = surface.gloss
        rough = _ROUGHNESS.get(kind, 0.3) * texture
        if rough > 0:
            seed = owner[rows] * 37.3
            value = grain(surface.along + surface.x * 0.3 + seed, surface.z + seed, reach[rows])
            painted = painted * (1 + rough * (value - 1))[:, None]
        colour[rows] = painted
    turned = np.stack(
        (
            cos * normal[:, 0] - sin * normal[:, 1],
            sin * normal[:, 0] + cos * normal[:, 1],
            normal[:, 2],
        ),
        1,
    )
    return colour, turned, gloss
