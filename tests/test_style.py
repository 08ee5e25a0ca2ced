"""Looks of other images: identities, moments and a float64 twin of the Fourier transform."""

import numpy as np
import pytest

from jaxseg.data import style


def picture(seed, size=(24, 40), low=30, high=220):
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(low, high, (4, 5, 3))
    image = np.kron(coarse, np.ones((size[0] // 4, size[1] // 5, 1)))
    return np.clip(image + rng.normal(0, 12, image.shape), 0, 255).astype(np.uint8)


def test_lab_of_known_colours():
    """Published values of the primaries for D65."""
    colours = np.array([[255, 255, 255], [0, 0, 0], [255, 0, 0], [0, 0, 255]], np.uint8)
    expected = [[100, 0, 0], [0, 0, 0], [53.24, 80.09, 67.20], [32.30, 79.19, -107.86]]
    np.testing.assert_allclose(style.to_lab(colours), expected, atol=0.02)


def test_lab_comes_back():
    colours = np.random.default_rng(0).integers(0, 256, (500, 3)).astype(np.uint8)
    assert np.array_equal(style.from_lab(style.to_lab(colours)), colours)


@pytest.mark.parametrize(
    "change",
    [style.match_lab, style.match_histograms, lambda a, b: style.match_spectrum(a, b, 0.1)],
)
def test_its_own_look_changes_nothing(change):
    image = picture(1)
    assert np.abs(change(image, image).astype(int) - image).max() <= 1


def test_lab_takes_over_mean_and_covariance():
    image, reference = picture(1, low=100, high=160), picture(2, low=90, high=170)
    found = style.to_lab(style.match_lab(image, reference)).reshape(-1, 3)
    wanted = style.to_lab(reference).reshape(-1, 3)
    np.testing.assert_allclose(found.mean(0), wanted.mean(0), atol=0.5)
    deviation = np.sqrt(np.diag(np.cov(wanted.T)))
    difference = np.cov(found.T) - np.cov(wanted.T)
    assert np.abs(difference / np.outer(deviation, deviation)).max() < 0.05


def test_histograms_take_over_quantiles():
    image, reference = picture(1), picture(2, low=5, high=120)
    found = style.match_histograms(image, reference)
    for channel in range(3):
        for q in (0.1, 0.5, 0.9):
            a, b = (np.quantile(x[..., channel], q) for x in (found, reference))
            assert abs(a - b) <= 4
    # Ranks stay: what was brighter is not darker afterwards.
    order = np.argsort(image[..., 0].ravel(), kind="stable")
    assert (np.diff(found[..., 0].ravel()[order].astype(int)) >= 0).all()


def test_spectrum_by_hand():
    """The definition with an explicit Fourier matrix, one channel."""
    image, reference = picture(3, (8, 10)), picture(4, (8, 10))
    beta, rows, columns = 0.25, 8, 10
    b = 2
    f = [np.exp(-2j * np.pi * np.outer(range(n), range(n)) / n) for n in (rows, columns)]
    for channel in range(3):
        ours, theirs = (f[0] @ x[..., channel].astype(float) @ f[1] for x in (image, reference))
        mixed = ours.copy()
        for u in range(rows):
            for v in range(columns):
                if (u < b or u >= rows - b) and (v < b or v >= columns - b):
                    mixed[u, v] = abs(theirs[u, v]) * ours[u, v] / abs(ours[u, v])
        back = (np.conj(f[0]) @ mixed @ np.conj(f[1])).real / (rows * columns)
        found = style.match_spectrum(image, reference, beta)[..., channel]
        assert np.abs(np.clip(back, 0, 255) - found).max() <= 0.51


def test_spectrum_with_a_narrow_band():
    image, reference = picture(1), picture(2, low=5, high=120)
    assert np.array_equal(style.match_spectrum(image, reference, 0.01), image)  # 24 * 0.01 < 1
    found = style.match_spectrum(image, reference, 0.05)  # b = 1: the mean is the reference's
    assert abs(found.mean() - reference.mean()) < 2
    with pytest.raises(ValueError, match="cannot take"):
        style.match_spectrum(image, reference[:-1], 0.1)
