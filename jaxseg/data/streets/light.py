"""The sky, and the effects of optics, sensor and film on the light, for `streets` images."""

import numpy as np

from jaxseg.data.streets.domains import Domain
from jaxseg.data.streets.texture import sample, tiles

_MIDDLE = 0.24  # target mean of the light metering


def sky(directions: np.ndarray, cloudiness: float, seed: float, soft: float):
    """Colours [n, 3] of the sky in directions [3, n]; `soft` = 0 draws clouds with sharp edges."""
    length = np.sqrt((directions**2).sum(0))
    up = np.clip(directions[2] / length, 0, 1)
    zenith, horizon = np.float32((0.25, 0.47, 0.8)), np.float32((0.72, 0.83, 0.93))
    blend = np.clip(up * 2.2, 0, 1)[:, None] ** 0.6
    colour = horizon + (zenith - horizon) * blend
    grey = np.float32((0.78, 0.8, 0.83))
    colour = colour + (grey - colour) * np.clip(cloudiness * 1.4 - 0.5, 0, 0.9)
    scale = 1 / np.maximum(up + 0.12, 0.05)
    u, v = directions[0] / length * scale * 14 + seed, directions[1] / length * scale * 14 + seed
    smooth, fractal = tiles()
    value = sample(fractal, u, v) + (0.3 * sample(fractal, u * 3, v * 3) if soft else 0)
    cover = np.clip((value - 1.1 + 1.6 * cloudiness) * (1.3 if soft else 4.0), 0, 1)
    cover = cover * np.clip(up * 6, 0.15, 1) * 0.85
    if soft:
        white = (0.9 - 0.2 * cloudiness * np.clip(value, 0, 1))[:, None] * np.float32(
            (0.98, 1.0, 1.03)
        )
    else:
        white = np.float32((0.95, 0.96, 0.98))
    return colour + (white - colour) * cover[:, None]


def detailed_sky(directions, sun, sunny: bool, cloudiness: float, seed: float, pale: float):
    """Light [n, 3] of real skies: clear to milky, broken clouds, or overcast with dark bases.

    Args:
        directions: [3, n].
        sun: [3] unit vector.
        sunny: whether the sun shines.
        cloudiness: 0 to 1.
        seed: place of the clouds.
        pale: 0 is a blue sky, 1 a white one.
    """
    unit = directions / np.sqrt((directions**2).sum(0))
    up = np.clip(unit[2], 0, 1)
    zenith, horizon = np.float32((0.3, 0.52, 0.83)), np.float32((0.8, 0.88, 0.95))
    colour = horizon + (zenith - horizon) * (np.clip(up * 1.6, 0, 1) ** 0.7)[:, None]
    white = np.float32((0.93, 0.95, 0.97))
    colour = colour + (white - colour) * pale
    scale = 14 / np.maximum(up + 0.15, 0.08)
    u, v = unit[0] * scale + seed, unit[1] * scale + seed
    fractal = tiles()[1]
    value = sample(fractal, u, v) + 0.35 * sample(fractal, u * 3, v * 3)
    if sunny:
        cover = np.clip((value - 1.6 + 2.4 * cloudiness) * 0.9, 0, 1) * np.clip(up * 6, 0.2, 1)
        cloud = white * (1 - 0.22 * cloudiness * np.clip(value, 0, 1))[:, None]
        colour = colour + (cloud - colour) * cover[:, None]
        near = np.clip(unit.T @ sun.astype(np.float32), 0, 1)
        return colour * colour * (1 + 1.2 * near**12 + 6 * near**200)[:, None]
    grey = np.float32((0.86, 0.88, 0.92)) * (1 - 0.3 * cloudiness * (1 - pale))
    base = grey * (1 + 0.13 * cloudiness * (1.2 - pale) * value + 0.1 * (1 - up))[:, None]
    return np.maximum(base, 0.1) ** 2


def film(linear: np.ndarray, rng: np.random.Generator, domain: Domain) -> np.ndarray:
    """Simulates the camera: blur, exposure, white balance, tone curve, noise.

    Args:
        linear: [H, W, 3] light, 1 is white.
        rng: random generator for the image's settings and noise.
        domain: ranges of the settings.

    Returns:
        uint8 [H, W, 3].
    """
    height, width = linear.shape[:2]

    def draw(bounds):
        return float(rng.uniform(*bounds))

    blur, gain = draw(domain.blur) * np.sqrt(width / 256), 2 ** draw(domain.exposure)
    temperature, tint = draw(domain.temperature), draw(domain.tint)
    saturation, contrast = draw(domain.saturation), draw(domain.contrast)
    noise, vignette = draw(domain.noise), draw(domain.vignette)
    mean = float(np.sqrt(np.maximum(linear, 0)).mean()) ** 2
    gain *= (_MIDDLE / max(mean, 1e-3)) ** domain.metering
    radius = max(1, int(np.ceil(2.5 * blur)))
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / max(blur, 1e-3)) ** 2)
    kernel = (kernel / kernel.sum()).astype(np.float32)
    image = linear.astype(np.float32)
    for axis in (0, 1):
        pad = [(0, 0)] * 3
        pad[axis] = (radius, radius)
        padded = np.pad(image, pad, mode="edge")
        n = image.shape[axis]
        image = sum(
            k * (padded[i : i + n] if axis == 0 else padded[:, i : i + n])
            for i, k in enumerate(kernel)
        )
    y = (np.arange(height, dtype=np.float32)[:, None] + 0.5) / height * 2 - 1
    x = (np.arange(width, dtype=np.float32)[None] + 0.5) / width * 2 - 1
    falloff = 1 - vignette * (0.6 * x * x + 0.4 * y * y)
    balance = np.float32((1 + temperature, 1 - tint, 1 - temperature)) * gain
    image = image * falloff[..., None] * balance
    grey = image.mean(-1, keepdims=True)
    image = np.maximum(grey + (image - grey) * saturation, 0)
    knee = 0.75  # with a film look, highlights are compressed above this value
    image = np.where(image > knee, knee + (1 - knee) * np.tanh((image - knee) / (1 - knee)), image)
    image = np.sqrt(image)
    image = 0.45 + (image - 0.45) * contrast
    if noise > 0:
        grains = rng.standard_normal(image.shape, dtype=np.float32)
        if domain.details is not None:
            share = domain.details.grey_noise
            grains = np.sqrt(1 - share) * grains + np.sqrt(share) * grains[..., 1:2]
        image = image + noise * (1.3 - 0.6 * np.clip(image, 0, 1)) * grains
    return (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)
