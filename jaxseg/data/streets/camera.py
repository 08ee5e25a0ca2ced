"""Pinhole camera of the `streets` renderer: rays through pixels, and screen boxes of solids.

World axes: x right, y along the street, z up, metres. A ray is `position + t * direction` with
`direction . forward == 1`, so the ray parameter `t` is the depth along the optical axis.
"""

from typing import NamedTuple

import numpy as np

NEAR = 0.3  # metres; nothing closer than this is drawn

# Corner k of a box has the upper bound on axis a if bit a of k is set, else the lower one.
_CORNERS = np.array([[(k >> a) & 1 for a in range(3)] for k in range(8)])
_EDGES = np.array([(k, k | (1 << a)) for k in range(8) for a in range(3) if not (k >> a) & 1])


class Camera(NamedTuple):
    """Position, the three axes of the image, and the focal length in image widths."""

    position: np.ndarray
    right: np.ndarray
    forward: np.ndarray
    up: np.ndarray
    focal: float


def make_camera(
    position: np.ndarray, yaw: float, pitch: float, roll: float, field_of_view: float
) -> Camera:
    """Returns a camera from angles in degrees.

    Args:
        position: [3] world position in metres.
        yaw: rotation to the left, from the street's direction.
        pitch: rotation upwards.
        roll: rotation about the optical axis.
        field_of_view: full horizontal angle.
    """
    yaw, pitch, roll = np.radians((yaw, pitch, roll))
    forward = np.array((-np.sin(yaw) * np.cos(pitch), np.cos(yaw) * np.cos(pitch), np.sin(pitch)))
    level = np.array((np.cos(yaw), np.sin(yaw), 0.0))
    top = np.cross(level, forward)
    right = np.cos(roll) * level + np.sin(roll) * top
    up = np.cos(roll) * top - np.sin(roll) * level
    focal = 0.5 / np.tan(np.radians(field_of_view) / 2)
    return Camera(np.asarray(position, float), right, forward, up, float(focal))


def rays(camera: Camera, size: tuple[int, int]) -> np.ndarray:
    """Ray directions [3, H, W] float32 through the pixel centres; their `forward` part is 1."""
    height, width = size
    focal = camera.focal * width
    across = (np.arange(width) + 0.5 - width / 2) / focal
    upward = (height / 2 - np.arange(height) - 0.5) / focal
    directions = (
        camera.forward[:, None, None]
        + camera.right[:, None, None] * across[None, None, :]
        + camera.up[:, None, None] * upward[None, :, None]
    )
    return directions.astype(np.float32)


def rectangles(
    camera: Camera,
    size: tuple[int, int],
    origin: np.ndarray,
    yaw: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
) -> np.ndarray:
    """Pixel rectangles that contain boxes, clipped by the near plane and the image.

    Args:
        camera: the camera.
        size: (height, width) in pixels.
        origin: [n, 3] world positions of the boxes' local frames.
        yaw: [n] rotation of the frames about the vertical, radians.
        low, high: [n, 3] bounds of the boxes in their frames.

    Returns:
        int [n, 4]: y0, y1, x0, x1, half open; empty if the box is out of view.
    """
    height, width = size
    corner = np.where(_CORNERS[None], high[:, None], low[:, None])
    cos, sin = np.cos(yaw)[:, None], np.sin(yaw)[:, None]
    world = np.stack(
        (
            origin[:, None, 0] + cos * corner[..., 0] - sin * corner[..., 1],
            origin[:, None, 1] + sin * corner[..., 0] + cos * corner[..., 1],
            origin[:, None, 2] + corner[..., 2],
        ),
        -1,
    )
    axes = np.stack((camera.right, camera.up, camera.forward), 1)
    view = (world - camera.position) @ axes
    start, end = view[:, _EDGES[:, 0]], view[:, _EDGES[:, 1]]
    depth_start, depth_end = start[..., 2:], end[..., 2:]
    step = depth_end - depth_start
    crossing = start + (end - start) * np.clip(
        (NEAR - depth_start) / np.where(np.abs(step) < 1e-9, 1.0, step), 0, 1
    )
    start = np.where(depth_start < NEAR, crossing, start)
    end = np.where(depth_end < NEAR, crossing, end)
    seen = (np.maximum(depth_start, depth_end) >= NEAR)[..., 0]
    points = np.concatenate((start, end), 1)
    seen = np.concatenate((seen, seen), 1)
    focal = camera.focal * width
    scale = focal / np.maximum(points[..., 2], NEAR * 0.99)
    x = width / 2 + points[..., 0] * scale
    y = height / 2 - points[..., 1] * scale
    far = 1e9
    x0 = np.where(seen, x, far).min(1)
    x1 = np.where(seen, x, -far).max(1)
    y0 = np.where(seen, y, far).min(1)
    y1 = np.where(seen, y, -far).max(1)
    box = np.stack((np.floor(y0), np.ceil(y1) + 1, np.floor(x0), np.ceil(x1) + 1), 1)
    limit = np.array((height, height, width, width))
    return np.clip(box, 0, limit).astype(int)
