"""The Fréchet distance by hand and by scipy's matrix root."""

import numpy as np
import pytest
from scipy.linalg import sqrtm

from jaxseg.errors import UserError
from jaxseg.evaluation import frechet


def test_by_hand():
    """In one dimension it is (m1 - m2)^2 + (s1 - s2)^2."""
    first, second = np.array([[0.0], [2.0]]), np.array([[1.0], [5.0], [9.0]])
    expected = (1 - 5) ** 2 + (np.sqrt(2) - 4) ** 2
    assert frechet.distance(first, second) == pytest.approx(expected, rel=1e-12)
    assert frechet.distance(second, second) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("images", [200, 5])  # more and fewer than features
def test_by_the_matrix_root(images):
    draw = np.random.default_rng(0)
    first = draw.normal(size=(images, 8)) @ draw.normal(size=(8, 8))
    second = draw.normal(0.3, 1.5, size=(images + 2, 8))
    a, b = np.cov(first, rowvar=False), np.cov(second, rowvar=False)
    root = np.real(sqrtm((a + 1e-12 * np.eye(8)) @ (b + 1e-12 * np.eye(8))))
    expected = ((first.mean(0) - second.mean(0)) ** 2).sum() + np.trace(a + b - 2 * root)
    assert frechet.distance(first, second) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("shapes", [((1, 3), (4, 3)), ((4, 3), (4, 2)), ((4,), (4, 3))])
def test_what_has_no_distance(shapes):
    with pytest.raises(UserError, match="two images or more"):
        frechet.distance(*map(np.zeros, shapes))


def test_variety_is_the_trace_of_the_covariance():
    rows = np.random.default_rng(3).normal(size=(9, 4)).astype(np.float32)
    expected = np.trace(np.cov(rows.astype(np.float64), rowvar=False))
    assert frechet.variety(rows) == pytest.approx(expected, rel=1e-12)
    assert frechet.variety(np.tile(rows[:1], (5, 1))) == 0
    with pytest.raises(UserError, match="two images or more"):
        frechet.variety(rows[:1])
