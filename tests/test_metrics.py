"""Scores against a loop over pixels and against hand values."""

import jax
import numpy as np
import pytest

from jaxseg.evaluation.metrics import confusion


@pytest.mark.parametrize("shape", [(7,), (2, 5, 9)])
def test_confusion_equals_a_loop(shape):
    draw = np.random.default_rng(0)
    label = draw.choice([0, 1, 2, 3, 200, 255], size=shape).astype(np.uint8)
    prediction = draw.integers(0, 4, size=shape).astype(np.uint8)
    expected = np.zeros((4, 4), np.int64)
    for truth, called in zip(label.ravel(), prediction.ravel(), strict=True):
        if truth < 4:
            expected[truth, called] += 1
    found = jax.jit(confusion.confusion, static_argnums=2)(prediction, label, 4)
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, expected)


def test_confusion_is_exact_past_the_integers_of_float32():
    # One pixel more than 2**24, where float32 stops counting.
    label = np.zeros(2**24 + 1, np.uint8)
    found = jax.jit(confusion.confusion, static_argnums=2)(label, label, 2)
    assert int(found[0, 0]) == 2**24 + 1


# Truth 0 0 0 1 1 2, predicted 0 0 1 1 3 3, and 4 nowhere:
# class 0: 2 / 3, class 1: 1 / 3, class 2: 0 / 1, class 3: 0 / 2 (only predicted), class 4: absent.
MATRIX = confusion.confusion(np.array([0, 0, 1, 1, 3, 3]), np.array([0, 0, 0, 1, 1, 2]), 5)


def test_iou_by_hand():
    np.testing.assert_allclose(confusion.iou(MATRIX), [2 / 3, 1 / 3, 0, 0, np.nan])
    assert confusion.mean_iou(MATRIX) == pytest.approx((2 / 3 + 1 / 3) / 4)
    assert confusion.pixel_accuracy(MATRIX) == pytest.approx(3 / 6)


def test_subset_scores_by_hand():
    assert confusion.mean_iou(MATRIX, (0, 1, 4)) == pytest.approx(1 / 2)
    assert confusion.pixel_accuracy(MATRIX, (0, 1, 4)) == pytest.approx(3 / 5)


def test_class_accuracy_and_frequency_weighted_iou_by_hand():
    np.testing.assert_allclose(confusion.class_accuracy(MATRIX), [2 / 3, 1 / 2, 0, np.nan, np.nan])
    assert confusion.mean(confusion.class_accuracy(MATRIX)) == pytest.approx((2 / 3 + 1 / 2) / 3)
    # Three, two and one of six pixels.
    expected = 3 / 6 * 2 / 3 + 2 / 6 * 1 / 3
    assert confusion.frequency_weighted_iou(MATRIX) == pytest.approx(expected)
    subset = (0, 1, 4)
    expected = 3 / 5 * 2 / 3 + 2 / 5 * 1 / 3
    assert confusion.frequency_weighted_iou(MATRIX, subset) == pytest.approx(expected)


def test_mean_adds_one_by_one():
    values = np.random.default_rng(0).random(19)
    total = 0.0
    for value in values.tolist():
        total += value
    assert confusion.mean([*values, np.nan]) == total / 19


def test_nothing_labelled_has_no_score():
    empty = np.zeros((3, 3), np.int64)
    assert np.isnan(confusion.mean_iou(empty)) and np.isnan(confusion.pixel_accuracy(empty))
    assert np.isnan(confusion.iou(empty)).all() and np.isnan(confusion.class_accuracy(empty)).all()
    assert np.isnan(confusion.frequency_weighted_iou(empty)) and np.isnan(confusion.mean([]))
