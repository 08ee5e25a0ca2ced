"""Class shares: the prior, the size constraints and the memory of the source's labels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.engine.method import AXIS
from jaxseg.losses import class_ratio
from jaxseg.losses.entropy import highest
from jaxseg.methods.parts import memory as parts_memory

# One image of two pixels, three classes; the mean softmax is (0.35, 0.25, 0.4).
PROBABILITIES = np.array([[[[0.5, 0.25, 0.25], [0.2, 0.25, 0.55]]]])
LOGITS = jnp.asarray(np.log(PROBABILITIES), jnp.float32)


def test_label_shares_by_hand():
    labels = jnp.array([[[0, 0, 2, 255]], [[255, 255, 255, 255]]], jnp.uint8)
    found = class_ratio.label_shares(labels, 3)
    np.testing.assert_allclose(found, [[2 / 3, 0, 1 / 3], [0, 0, 0]], rtol=1e-6)


def test_class_prior_by_hand():
    # Half of the prior is (0.4, 0.05, 0.05): only the first class falls short, by 0.05.
    found = class_ratio.class_prior(LOGITS, jnp.array([0.8, 0.1, 0.1]), 0.5)
    np.testing.assert_allclose(found, [0.05], rtol=1e-5)
    # All of (0.5, 0.3, 0.2): 0.15 and 0.05 are missing.
    found = class_ratio.class_prior(LOGITS, jnp.array([0.5, 0.3, 0.2]), 1.0)
    np.testing.assert_allclose(found, [0.2], rtol=1e-5)


def test_class_prior_gradient_in_float64():
    """It raises the classes with too small a share, through the softmax only."""
    prior, mu = np.array([0.5, 0.3, 0.2]), 1.0

    def by_numpy(logits):
        p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
        return np.maximum(0, mu * prior - p.mean((1, 2))).sum()

    logits = np.log(PROBABILITIES)
    eye = np.eye(logits.size).reshape(-1, *logits.shape) * 1e-6
    differences = [(by_numpy(logits + e) - by_numpy(logits - e)) / 2e-6 for e in eye]
    found = jax.grad(lambda x: class_ratio.class_prior(x, prior, mu).sum())(LOGITS)
    np.testing.assert_allclose(found.reshape(-1), differences, atol=1e-6)


def test_present_by_hand():
    # The winners are class 0 and class 2, half of the image each.
    found = class_ratio.present(LOGITS, jnp.array([0.4, 0.0, 0.6]), 1.0)
    assert found.tolist() == [[True, False, False]]
    found = class_ratio.present(LOGITS, jnp.array([0.4, 0.0, 0.6]), 0.1)
    assert found.tolist() == [[True, False, True]]


def test_size_constraints_by_hand():
    held = jnp.array([[True, False, True]])
    lower, upper = jnp.array([0.5, 0.1, 0.1]), jnp.array([0.6, 0.5, 0.3])
    # 0.35 lacks 0.15 of its lower bound; 0.25 should not be there; 0.4 is 0.1 above its upper one.
    found = class_ratio.size_constraints(LOGITS, held, lower, upper)
    np.testing.assert_allclose(found, [[0.15, 0.25, 0.1]], rtol=1e-5)
    inside = class_ratio.size_constraints(LOGITS, jnp.full((1, 3), True), lower * 0, upper + 1)
    assert not inside.any()


def test_highest_by_hand():
    values = jnp.array([[[1.0, 5.0], [3.0, 2.0]], [[4.0, 4.0], [4.0, 1.0]]])
    np.testing.assert_allclose(highest(values, 0.5), [4.0, 4.0])
    np.testing.assert_allclose(highest(values, 0.25), [5.0, 4.0])
    np.testing.assert_allclose(highest(values, 0.26), [4.0, 4.0])  # two of four pixels
    np.testing.assert_allclose(highest(values, 1.0), [2.75, 3.25])
    gradient = jax.grad(lambda x: highest(x, 0.5)[0])(values)
    assert gradient.tolist() == [[[0, 0.5], [0.5, 0]], [[0, 0], [0, 0]]]
    for wrong in (0.0, 1.5):
        with pytest.raises(ValueError, match="a share of pixels of"):
            highest(values, wrong)


# --- memory ---


def over_devices(function, memory, labels, devices):
    """The memory after one call on each device with its part of the labels; all must agree."""
    cut = labels.reshape(-1, devices, *labels.shape[1:]).swapaxes(0, 1)
    found = jax.vmap(function, in_axes=(None, 0), axis_name=AXIS)(memory, cut)
    for leaf in jax.tree.leaves(found):
        assert (np.asarray(leaf) == np.asarray(leaf)[:1]).all()
    return jax.tree.map(lambda x: x[0], found)


@pytest.mark.parametrize("devices", [1, 2])
def test_the_histogram_is_the_mean_of_the_batches(devices):
    rng = np.random.default_rng(0)
    memory, shares = parts_memory.empty_histogram(3), []
    for _ in range(4):
        labels = rng.choice([0, 1, 2, 255], (2, 5, 7))
        memory = over_devices(parts_memory.histogram, memory, jnp.asarray(labels), devices)
        counts = np.bincount(labels[labels != 255], minlength=3)
        shares.append(counts / counts.sum())
    np.testing.assert_allclose(memory["shares"], np.mean(shares, 0), rtol=1e-6)
    assert int(memory["batches"]) == 4


@pytest.mark.parametrize("devices", [1, 2])
def test_percentiles_are_over_the_latest_images_that_hold_a_class(devices):
    rng = np.random.default_rng(1)
    room, memory, shares = 6, parts_memory.empty_ring(6, 4), []
    for _ in range(5):
        labels = rng.choice([0, 1, 2, 255], (2, 4, 6), p=[0.6, 0.04, 0.16, 0.2])
        memory = over_devices(parts_memory.remember, memory, jnp.asarray(labels), devices)
        for image in labels:
            counts = np.bincount(image[image != 255], minlength=4)
            shares.append(counts / counts.sum())
        lower, upper = parts_memory.bounds(memory, 10.0, 90.0)
        for k, kept in enumerate(np.array(shares[-room:]).T):
            kept = kept[kept > 0]
            expected = np.percentile(kept, [10, 90]) if len(kept) else (0, 1)
            np.testing.assert_allclose((lower[k], upper[k]), expected, rtol=1e-5)
    assert int(memory["seen"]) == 10


def test_a_batch_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="a batch of 4 images, and room for 3"):
        over_devices(
            parts_memory.remember, parts_memory.empty_ring(3, 2), jnp.zeros((4, 2, 2), int), 2
        )
