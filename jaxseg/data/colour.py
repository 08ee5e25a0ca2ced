"""Adjusts colour and sharpness of one image on the host, by textbook formulas.

All adjustments are made in float32 and rounded to uint8 once, at the end: contrast can bring back
values that brightness raised above 255.
"""

import math

import numpy as np

# Luma weights of ITU-R BT.601: the grey that contrast and saturation use.
_GREY = np.array((0.299, 0.587, 0.114), np.float32)


def adjust(
    image: np.ndarray,
    *,
    brightness: float = 1.0,
    contrast: float = 1.0,
    saturation: float = 1.0,
    hue: float = 0.0,
) -> np.ndarray:
    """Adjusts brightness, contrast, saturation and hue, in this order.

    Args:
      image: uint8 [H, W, 3] RGB.
      brightness: factor on all values.
      contrast: factor on the distance from the image's mean grey.
      saturation: factor on each pixel's distance from its own grey.
      hue: rotation in turns of the colour circle (1/3 makes red green); HSV saturation and value
        stay.

    Returns:
      uint8 [H, W, 3].
    """
    out = image.astype(np.float32)
    if brightness != 1:
        out = out * np.float32(brightness)
    if contrast != 1:
        mean = np.float32((out @ _GREY).mean())
        out = mean + (out - mean) * np.float32(contrast)
    if saturation != 1:
        grey = (out @ _GREY)[..., None]
        out = grey + (out - grey) * np.float32(saturation)
    if hue != 0:
        out = _turn(np.clip(out, 0, 255), hue)
    return np.clip(np.round(out), 0, 255).astype(np.uint8)


def _turn(image: np.ndarray, hue: float) -> np.ndarray:
    """Rotates the HSV hue of float32 [H, W, 3]."""
    red, green, blue = image[..., 0], image[..., 1], image[..., 2]
    value = image.max(-1)
    chroma = value - image.min(-1)
    divisor = np.where(chroma > 0, chroma, 1)
    # Hue angle in sixths of the circle from red; may be negative, it is taken mod 6 below.
    angle = np.where(
        value == red,
        (green - blue) / divisor,
        np.where(value == green, 2 + (blue - red) / divisor, 4 + (red - green) / divisor),
    )
    angle += np.float32(6 * hue)
    out = np.empty_like(image)
    # A channel is value - chroma where the hue is more than 2 sixths away from the channel's own
    # hue, and value where it is less than 1 sixth away.
    for channel, offset in enumerate((5, 3, 1)):
        position = (angle + np.float32(offset)) % np.float32(6)
        lacking = np.clip(np.minimum(position, 4 - position), 0, 1)
        out[..., channel] = value - chroma * lacking
    return out


def blur(image: np.ndarray, sigma: float) -> np.ndarray:
    """Convolves with a Gaussian, cut off at three sigma; the image is reflected at its edges.

    Args:
      image: uint8 [H, W, 3].
      sigma: standard deviation in pixels, above 0.

    Returns:
      uint8 [H, W, 3].
    """
    radius = math.ceil(3 * sigma)
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    weights = (weights / weights.sum()).astype(np.float32)
    out = image.astype(np.float32)
    for axis in (0, 1):
        widths = [(radius, radius) if a == axis else (0, 0) for a in range(3)]
        padded, length = np.pad(out, widths, "reflect"), out.shape[axis]
        out = np.zeros_like(out)
        for start, weight in enumerate(weights):
            part = slice(start, start + length)
            out += weight * (padded[part] if axis == 0 else padded[:, part])
    return np.clip(np.round(out), 0, 255).astype(np.uint8)
