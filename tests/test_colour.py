"""Brightness, contrast, saturation, hue and blur against hand values and float64 loops."""

import colorsys
import itertools
import math

import numpy as np
import pytest

from jaxseg.data import colour


def draw(seed, *shape, high=256):
    return np.random.default_rng(seed).integers(0, high, shape).astype(np.uint8)


def test_colour_by_hand():
    image = np.array([[(100, 50, 200), (10, 20, 30)]], np.uint8)

    def of(**factors):
        return colour.adjust(image, **factors)[0].tolist()

    assert of() == image[0].tolist()
    assert of(brightness=1.5) == [[150, 75, 255], [15, 30, 45]]
    # Greys 0.299 r + 0.587 g + 0.114 b are 82.05 and 18.15, their mean 50.1.
    assert of(contrast=0.5) == [[75, 50, 125], [30, 35, 40]]
    assert of(contrast=0) == [[50, 50, 50]] * 2
    assert of(saturation=0) == [[82, 82, 82], [18, 18, 18]]
    assert of(saturation=2) == [[118, 18, 255], [2, 22, 42]]
    assert of(hue=1 / 3) == [[200, 100, 50], [30, 10, 20]]
    assert of(hue=0.5) == of(hue=-0.5) == [[150, 200, 50], [30, 20, 10]]
    # Brightness, then contrast: 300 is cut only at the end, 75 + (300 - 75.2) / 2 = 187.5 or so.
    assert of(brightness=1.5, contrast=0.5)[0] == [113, 75, 188]
    assert of(brightness=2, hue=1 / 3)[0] == [255, 200, 100]


def test_hue_turns_as_the_standard_library_would():
    image = draw(0, 12, 20, 3)
    image[:2] = image[:2, :, :1]  # greys have no hue
    image[2:4, :, 1] = image[2:4, :, 0]  # two channels alike
    image[4, :, 0] = image[4, :, 1] = image[4, :, 2] // 2
    for hue in (-0.5, -0.21, 0.07, 1 / 3, 0.4, 1.0):
        expected = np.zeros_like(image)
        for place in np.ndindex(image.shape[:2]):
            h, s, v = colorsys.rgb_to_hsv(*(image[place] / 255))
            expected[place] = [round(255 * c) for c in colorsys.hsv_to_rgb((h + hue) % 1, s, v)]
        got = colour.adjust(image, hue=hue).astype(int)
        assert np.abs(got - expected).max() <= (hue != 1)  # float32 at most turns a .5 around
        assert (got != expected).mean() < 0.01


def test_factors_as_a_float64_loop_would():
    image = draw(3, 7, 9, 3)
    for b, c, s in ((0.7, 1.3, 0.2), (1.3, 0.7, 1.8), (1, 1.2, 1), (0.9, 1, 1.1)):
        expected = np.zeros(image.shape)
        grey = np.array([0.299, 0.587, 0.114])
        mean = np.mean([grey @ (b * pixel.astype(float)) for row in image for pixel in row])
        for place in np.ndindex(image.shape[:2]):
            pixel = [mean + c * (b * float(v) - mean) for v in image[place]]
            own = grey @ pixel
            expected[place] = [min(max(own + s * (v - own), 0), 255) for v in pixel]
        got = colour.adjust(image, brightness=b, contrast=c, saturation=s)
        assert got.dtype == np.uint8
        assert np.abs(got - expected).max() < 0.51


def reflected(index, length):
    if length == 1:
        return 0
    index = abs(index) % (2 * length - 2)
    return min(index, 2 * length - 2 - index)


@pytest.mark.parametrize("size", [(1, 1), (2, 5), (9, 6)])
@pytest.mark.parametrize("sigma", [0.15, 0.8, 2.5])
def test_blur_as_a_float64_loop_would(size, sigma):
    image, radius = draw(4, *size, 3), math.ceil(3 * sigma)
    taps = range(-radius, radius + 1)
    weights = {t: math.exp(-(t**2) / (2 * sigma**2)) for t in taps}
    total = sum(weights.values()) ** 2
    expected = np.zeros((*size, 3))
    for y, x in np.ndindex(size):
        for dy, dx in itertools.product(taps, taps):
            pixel = image[reflected(y + dy, size[0]), reflected(x + dx, size[1])]
            expected[y, x] += weights[dy] * weights[dx] / total * pixel
    got = colour.blur(image, sigma)
    assert got.dtype == np.uint8 and np.abs(got - expected).max() < 0.51


def test_blur_spreads_a_point_and_leaves_a_plane():
    assert (colour.blur(np.full((9, 9, 3), 201, np.uint8), 1.7) == 201).all()
    point = np.zeros((9, 9, 3), np.uint8)
    point[4, 4] = 255
    # exp(-0.5) = 0.60653, exp(-2) = 0.13534, exp(-4.5) = 0.01111; their two-sided sum 2.50596.
    row = [round(255 * w / 2.50596**2) for w in (0.01111, 0.13534, 0.60653, 1)]
    assert colour.blur(point, 1.0)[4, 1:8, 0].tolist() == row + row[-2::-1]
