"""Weighted, focal and hard-pixel cross-entropy against hand values and float64 NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxseg.engine.method import AXIS, global_mean
from jaxseg.errors import UserError
from jaxseg.losses import balance, region, segmentation

WEIGHTS = (0.5, 2.0, 1.0, 0.25)
PIXEL_LOSSES = {
    "weighted": lambda x, y: segmentation.weighted_cross_entropy(x, y, WEIGHTS),
    "focal": segmentation.focal,
    "focal, gamma 0.5": lambda x, y: segmentation.focal(x, y, 0.5),
    "focal, gamma 0": lambda x, y: segmentation.focal(x, y, 0.0),
    "ohem": lambda x, y: segmentation.ohem(x, y, 0.3, 0.4),
}
LOSSES = {**PIXEL_LOSSES, "dice": region.dice, "lovasz": region.lovasz_softmax}

# p = 0.5 of class 2, p = 0.7 of class 0, one pixel that is ignored
LOGITS = jnp.log(jnp.array([[[[0.2, 0.3, 0.5], [0.7, 0.2, 0.1], [0.1, 0.1, 0.8]]]]))
LABELS = jnp.array([[[2, 0, 255]]])


def images(seed=0, batch=4, size=(5, 6), classes=4):
    """Logits and labels; the images differ in how much is ignored, the last is all ignored."""
    draw = np.random.default_rng(seed)
    logits = draw.normal(0, 2, (batch, *size, classes))
    labels = draw.integers(0, classes, (batch, *size))
    for i in range(batch):
        labels[i][draw.random(size) < 0.3 * i] = 255
    labels[-1] = 255
    labels[0][labels[0] == 3] = 1  # a class that one image lacks
    return logits, labels


def by_numpy(logits, labels):
    """Cross-entropy per pixel in float64, nan where ignored."""
    shifted = logits - logits.max(-1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    loss = np.full(labels.shape, np.nan)
    for place in np.argwhere(labels < logits.shape[-1]):
        loss[tuple(place)] = -log_p[tuple(place)][labels[tuple(place)]]
    return loss


def test_weighted_by_hand():
    loss, weight = segmentation.weighted_cross_entropy(LOGITS, LABELS, (2.0, 1.0, 0.5))
    expected = [0.5 * np.log(2), -2 * np.log(0.7), 0]
    np.testing.assert_allclose(loss, [[expected]], rtol=1e-6)
    np.testing.assert_array_equal(weight, [[[0.5, 2.0, 0.0]]])
    mean = jax.pmap(lambda x, y: global_mean(*(x, y)), AXIS)(loss, weight)
    np.testing.assert_allclose(mean, [sum(expected) / 2.5], rtol=1e-6)  # as PyTorch divides


def test_weighted_is_float64s_and_plain_with_equal_weights():
    logits, labels = images()
    loss, weight = segmentation.weighted_cross_entropy(jnp.array(logits), labels, WEIGHTS)
    of_class = np.append(WEIGHTS, np.zeros(252))[labels]
    np.testing.assert_array_equal(weight, of_class.astype(np.float32))
    expected = np.nan_to_num(of_class * by_numpy(logits, labels))
    np.testing.assert_allclose(loss, expected, rtol=1e-5, atol=1e-6)
    plain, valid = segmentation.cross_entropy(jnp.array(logits), labels)
    loss, weight = segmentation.weighted_cross_entropy(jnp.array(logits), labels, [1.0] * 4)
    np.testing.assert_array_equal(loss, plain)
    np.testing.assert_array_equal(weight, valid)


@pytest.mark.parametrize(
    ("weights", "words"),
    [((1, 2), "2 class weights for 3 classes"), ((1, -1, 1), "negative"), ((1, 1, np.nan), "nan")],
)
def test_weights_that_cannot_be_are_named(weights, words):
    with pytest.raises(UserError, match=words):
        segmentation.weighted_cross_entropy(LOGITS, LABELS, weights)


def test_focal_by_hand():
    loss, valid = segmentation.focal(LOGITS, LABELS)
    np.testing.assert_allclose(loss, [[[0.25 * np.log(2), -0.09 * np.log(0.7), 0]]], rtol=1e-5)
    assert valid.tolist() == [[[True, True, False]]]
    np.testing.assert_array_equal(
        segmentation.focal(LOGITS, LABELS, 0.0)[0], segmentation.cross_entropy(LOGITS, LABELS)[0]
    )
    with pytest.raises(UserError, match="gamma of at least 0, not -1"):
        segmentation.focal(LOGITS, LABELS, -1)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0, 5.0])
def test_focal_and_its_gradient_are_float64s(gamma):
    logits, labels = images()

    def total(x):
        loss = np.nan_to_num(by_numpy(x, labels))
        return (1 - np.exp(-loss)) ** gamma * loss

    found = segmentation.focal(jnp.array(logits), labels, gamma)[0]
    np.testing.assert_allclose(found, total(logits), rtol=1e-4, atol=1e-6)

    pixel = (0, 1, 2)
    label = labels[pixel]
    eye = np.eye(4) * 1e-6
    moved = [
        [total(logits + sign * step * _at(pixel, logits))[pixel] for sign in (1, -1)]
        for step in eye
    ]
    differences = [(up - down) / 2e-6 for up, down in moved]
    grad = jax.grad(lambda x: segmentation.focal(x, labels, gamma)[0].sum())(jnp.array(logits))
    np.testing.assert_allclose(grad[pixel], differences, rtol=1e-3, atol=1e-5)

    # With a constant factor it is the cross-entropy's gradient, (p - truth), times the factor.
    def constant(x):
        return segmentation.focal(x, labels, gamma, constant_factor=True)[0].sum()

    p = np.exp(logits[pixel]) / np.exp(logits[pixel]).sum()
    expected = (1 - p[label]) ** gamma * (p - np.eye(4)[label])
    found = jax.grad(constant)(jnp.array(logits))[pixel]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def _at(pixel, logits):
    mask = np.zeros((*logits.shape[:-1], 1))
    mask[pixel] = 1
    return mask


def test_ohem_by_hand():
    p = np.array([0.9, 0.8, 0.6, 0.3, 0.95, 0.85, 0.1, 0.5])
    logits = jnp.log(jnp.array(np.stack([p, 1 - p], -1))).reshape(1, 1, 8, 2)
    labels = np.zeros((1, 1, 8), np.int32)
    labels[..., 6] = 255

    def kept(threshold, minimum):
        loss, mask = segmentation.ohem(logits, labels, threshold, minimum)
        expected = np.where(mask, -np.log(p), 0)
        np.testing.assert_allclose(loss, expected, rtol=1e-5)
        return sorted(p[np.asarray(mask)[0, 0]].tolist())

    assert kept(0.7, 0.0) == [0.3, 0.5, 0.6]
    assert kept(0.7, 1 / 7) == [0.3, 0.5, 0.6]  # the minimum is met
    assert kept(0.7, 5 / 7) == [0.3, 0.5, 0.6, 0.8, 0.85]  # of the seven that are labelled
    assert kept(0.0, 2 / 7) == [0.3, 0.5]
    assert kept(0.05, 0.0) == []
    assert kept(1.0, 0.0) == kept(0.0, 1.0) == sorted(np.delete(p, 6).tolist())
    with pytest.raises(UserError, match=r"threshold=7 and minimum=0.1 must be in 0..1"):
        segmentation.ohem(logits, labels, 7, 0.1)


def test_ohem_chooses_in_each_image():
    logits, labels = images(seed=3)
    exact = by_numpy(logits, labels)
    loss, kept = segmentation.ohem(jnp.array(logits), labels, 0.1, 0.4)
    for i in range(4):
        of_image = np.sort(exact[i][~np.isnan(exact[i])])[::-1]
        minimum = round(0.4 * len(of_image))
        number = max(minimum, int((of_image > -np.log(0.1)).sum()))
        assert int(kept[i].sum()) == number
        np.testing.assert_allclose(loss[i].sum(), of_image[:number].sum(), rtol=1e-5)
    assert not kept[3].any()


@pytest.mark.parametrize("name", LOSSES)
def test_saturated_logits_have_finite_gradients(name):
    # Right, wrong and undecided beyond what float32's exponential holds, and ignored.
    logits = jnp.array([[1e4, -1e4, 0, 0], [-1e4, 1e4, 0, 0], [0, 0, 0, 0], [80, 0, 0, -80]])
    logits, labels = logits.reshape(1, 2, 2, 4), jnp.array([[[0, 0], [1, 255]]])
    graded = jax.jit(jax.value_and_grad(lambda x, y: LOSSES[name](x, y)[0].sum()))
    value, grad = graded(logits, labels)
    assert np.isfinite(value) and np.isfinite(grad).all()
    assert np.asarray(grad).any() and not np.asarray(grad)[0, 1, 1].any()
    value, grad = graded(logits, jnp.full_like(labels, 255))
    assert float(value) == 0 and not np.asarray(grad).any()


@pytest.mark.parametrize("name", LOSSES)
def test_the_number_of_devices_does_not_matter(name):
    logits, labels = images(seed=1)

    def mean(scale, logits, labels):
        def of_scale(scale):
            return global_mean(*LOSSES[name](scale * logits, labels))

        return lax.pmean(jax.value_and_grad(of_scale)(scale), AXIS)

    results = []
    for devices in (1, 2):
        parts = [np.reshape(x, (devices, -1, *x.shape[1:])) for x in (logits, labels)]
        pmapped = jax.pmap(mean, AXIS, in_axes=(None, 0, 0), devices=jax.devices()[:devices])
        results.append([np.asarray(x)[0] for x in pmapped(jnp.float32(1), *parts)])
    np.testing.assert_allclose(results[0], results[1], rtol=1e-5)
    values, counted = (np.asarray(x, np.float64) for x in jax.jit(LOSSES[name])(logits, labels))
    expected = values.sum() / counted.sum()
    np.testing.assert_allclose(results[1][0], expected, rtol=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_shapes_that_do_not_fit_are_named(name):
    with pytest.raises(ValueError, match=r"\(1, 2, 2, 4\).*\(1, 4, 4\)"):
        LOSSES[name](jnp.zeros((1, 2, 2, 4)), jnp.zeros((1, 4, 4), jnp.int32))


# Classes 0, 1, 2 have 14, 2 and 4 of 20 pixels; 1 is in the first image only, 2 in the second.
COUNTS = np.array([[8, 2, 0], [6, 0, 4]])


def test_class_weights_by_hand():
    inverse = balance.class_weights(COUNTS, "inverse")
    np.testing.assert_allclose(inverse, [20 / 42, 20 / 6, 20 / 12])
    np.testing.assert_allclose((inverse * COUNTS.sum(0)).sum() / 20, 1)
    np.testing.assert_allclose(balance.class_weights(COUNTS.sum(0), "inverse"), inverse)
    np.testing.assert_allclose(balance.class_weights(COUNTS.sum(0) / 20, "inverse"), inverse)
    # Frequencies 14/20, 2/10, 4/10.
    np.testing.assert_allclose(balance.class_weights(COUNTS, "median"), [4 / 7, 2, 1])
    np.testing.assert_allclose(balance.class_weights(COUNTS.sum(0), "median"), [2 / 7, 2, 1])


@pytest.mark.parametrize("kind", balance.KINDS)
def test_a_class_without_pixels_weighs_as_the_rarest(kind):
    counts = np.insert(COUNTS, 1, 0, axis=1)
    found = balance.class_weights(counts, kind)
    np.testing.assert_allclose(np.delete(found, 1), balance.class_weights(COUNTS, kind))
    assert found[1] == found.max()


@pytest.mark.parametrize(
    ("counts", "kind", "words"),
    [
        (COUNTS, "mean", "'mean'; choose one of inverse, median"),
        (COUNTS * 0, "median", "not all 0"),
        (-COUNTS, "median", "not negative"),
        (COUNTS[None], "inverse", r"\(1, 2, 3\)"),
    ],
)
def test_counts_that_cannot_be_are_named(counts, kind, words):
    with pytest.raises(UserError, match=words):
        balance.class_weights(counts, kind)
