"""Boundary IoU against masks eroded one by one, pixel by pixel."""

import numpy as np
import pytest

from jaxseg.errors import UserError
from jaxseg.evaluation.metrics import boundary


def inner_rim(mask, distance):
    """Pixels of a mask whose square of 2 d + 1 pixels leaves it (or the image)."""
    padded = np.pad(mask, distance)
    rim = np.zeros_like(mask)
    for y, x in np.argwhere(mask):
        rim[y, x] = not padded[y : y + 2 * distance + 1, x : x + 2 * distance + 1].all()
    return rim


@pytest.mark.parametrize(("size", "width", "distance"), [((31, 40), 0.02, 1), ((24, 33), 0.1, 4)])
def test_counts_equal_class_by_class_erosion(size, width, distance):
    draw = np.random.default_rng(distance)
    label = np.zeros(size, np.uint8)
    for kind in (1, 2, 3, 0, 1, 2, 3):
        top, left = draw.integers(0, size[0] - 8), draw.integers(0, size[1] - 8)
        label[top : top + 12, left : left + 10] = kind
    prediction = np.roll(label, (1, 2), (0, 1))
    prediction[3:7, 3:9] = 3
    label[5:9, 20:30] = 255
    label[-3:, :9] = 200
    valid = label < 5
    expected = np.zeros((3, 5), np.int64)  # class 4 does not occur
    for kind in range(5):
        truth = inner_rim((label == kind) & valid, distance)
        called = inner_rim((prediction == kind) & valid, distance)
        expected[:, kind] = (truth & called).sum(), truth.sum(), called.sum()
    assert (expected[0, :4] > 0).all() and (expected[0, :4] < expected[1, :4]).all()
    found = boundary.boundary_counts(prediction, label, 5, width)
    np.testing.assert_array_equal(found, expected)
    values = boundary.boundary_iou(found)
    np.testing.assert_allclose(
        values[:4], expected[0, :4] / (expected[1] + expected[2] - expected[0])[:4], rtol=1e-15
    )
    assert np.isnan(values[4])


def test_by_hand():
    # A square of 6x6 in the middle of 10x10, predicted one column too far to the right; d = 1.
    # Its rim has 20 pixels. Columns 2..7 and 3..8: the rims share the rows 2 and 7 in columns 3..7,
    # 10 pixels; the left and right sides are one apart.
    label, prediction = np.zeros((2, 10, 10), np.uint8)
    label[2:8, 2:8] = 1
    prediction[2:8, 3:9] = 1
    counts = boundary.boundary_counts(prediction, label, 2)
    assert (counts.both[1], counts.truth[1], counts.prediction[1]) == (10, 20, 20)
    assert boundary.boundary_iou(counts)[1] == 10 / 30
    mask_iou = 30 / 42
    assert boundary.boundary_iou(counts)[1] < mask_iou


def test_right_is_one_whatever_is_ignored_and_images_add_up():
    draw = np.random.default_rng(0)
    total = None
    for _ in range(2):
        label = draw.integers(0, 3, (6, 7)).repeat(4, 0).repeat(4, 1).astype(np.uint8)
        prediction = label.copy()
        label[draw.random(label.shape) < 0.1] = 255
        counts = boundary.boundary_counts(prediction, label, 4)
        total = counts if total is None else boundary.add(total, counts)
    found = boundary.scores(total, ("a", "b", "c", "d"))
    assert found == {
        "boundary_miou": 1.0,
        "boundary_iou": {"a": 1.0, "b": 1.0, "c": 1.0, "d": None},
    }
    assert total.truth.dtype == np.int64 and total.truth.sum() > counts.truth.sum()


def test_the_distance_is_in_diagonals():
    # 300 x 400 has a diagonal of 500: half a per cent is 2.5, to the even 2; two per cent are 10.
    label = np.zeros((300, 400), np.uint8)
    for width, distance in ((0.005, 2), (0.02, 10)):
        counts = boundary.boundary_counts(label, label, 1, width)
        inside = (300 - 2 * distance) * (400 - 2 * distance)
        assert counts.truth[0] == 300 * 400 - inside


def test_sizes_that_differ_are_named():
    with pytest.raises(UserError, match=r"prediction is \(2, 3\), its label \(3, 2\)"):
        boundary.boundary_counts(np.zeros((2, 3)), np.zeros((3, 2)), 2)
