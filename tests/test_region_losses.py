"""Dice and Lovasz-softmax against hand values and float64 NumPy."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.losses import region


def images(seed=0, batch=3, size=(4, 5), classes=4):
    """Logits and labels; some classes are absent, some pixels and one image are ignored."""
    draw = np.random.default_rng(seed)
    logits = draw.normal(0, 2, (batch, *size, classes))
    labels = draw.integers(0, classes, (batch, *size))
    labels[draw.random(labels.shape) < 0.2] = 255
    labels[0][labels[0] == 3] = 1
    labels[-1] = 255
    return logits, labels


def softmax(logits):
    e = np.exp(logits - logits.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def dice_by_numpy(logits, labels, squared=False):
    """Dice loss of one image in float64; nan without labels."""
    valid = labels < logits.shape[-1]
    p, labels = softmax(logits)[valid], labels[valid]
    losses = []
    for kind in np.unique(labels):
        truth = labels == kind
        mass = (p[:, kind] ** 2).sum() if squared else p[:, kind].sum()
        losses.append(1 - 2 * p[truth, kind].sum() / (mass + truth.sum()))
    return np.mean(losses) if losses else np.nan


def lovasz_by_numpy(logits, labels):
    """Loss of one image in float64, from the definition: the Jaccard loss of growing sets of wrong
    pixels, |wrong| / |truth or wrong|."""
    valid = labels < logits.shape[-1]
    p, labels = softmax(logits)[valid], labels[valid]
    losses = []
    for kind in np.unique(labels):
        truth = labels == kind
        errors = np.abs(truth - p[:, kind])
        wrong, before, loss = np.zeros(len(truth), bool), 0.0, 0.0
        for i in np.argsort(-errors):
            wrong[i] = True
            jaccard = wrong.sum() / (truth | wrong).sum()
            loss += errors[i] * (jaccard - before)
            before = jaccard
        losses.append(loss)
    return np.mean(losses) if losses else np.nan


# Compiled as in training, which is also quicker than one operation at a time.
dice = jax.jit(region.dice, static_argnames=("per_image", "squared"))
lovasz_softmax = jax.jit(region.lovasz_softmax, static_argnames="per_image")
CASES = {
    "dice": (dice, dice_by_numpy),
    "squared dice": (partial(dice, squared=True), partial(dice_by_numpy, squared=True)),
    "lovasz": (lovasz_softmax, lovasz_by_numpy),
}


@pytest.mark.parametrize("case", CASES)
def test_equals_float64(case):
    ours, by_numpy = CASES[case]
    logits, labels = images()
    loss, valid = ours(jnp.array(logits), jnp.array(labels))
    assert loss.shape == (3,) and valid.tolist() == [True, True, False]
    expected = [by_numpy(x, y) for x, y in zip(logits, labels, strict=True)]
    np.testing.assert_allclose(loss, np.nan_to_num(expected), rtol=1e-5)
    # Pooled, the batch is one tall image.
    loss, valid = ours(jnp.array(logits), jnp.array(labels), per_image=False)
    assert loss.shape == (1,) and valid.tolist() == [True]
    expected = by_numpy(logits.reshape(1, -1, 4), labels.reshape(1, -1))
    np.testing.assert_allclose(loss, [expected], rtol=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_gradient_equals_differences_in_float64(case):
    ours, by_numpy = CASES[case]
    logits, labels = images(seed=2, batch=2, size=(3, 3))
    grad = jax.jit(jax.grad(lambda x: ours(x, labels[:1])[0][0]))(logits[:1])
    differences = np.zeros_like(logits[0])
    for place in np.ndindex(differences.shape):
        step = np.zeros_like(differences)
        step[place] = 1e-6
        up, down = (by_numpy(logits[0] + sign * step, labels[0]) for sign in (1, -1))
        differences[place] = (up - down) / 2e-6
    np.testing.assert_allclose(grad[0], differences, rtol=1e-3, atol=1e-6)
    assert not np.asarray(grad[0])[labels[0] == 255].any()


def test_dice_by_hand():
    # Class 0: p 0.75 and 0.25, truth 1 and 0: overlap 0.75, mass 1, one pixel; class 1 likewise.
    logits = jnp.log(jnp.array([[[[0.75, 0.25], [0.25, 0.75]]]]))
    labels = jnp.array([[[0, 1]]])
    np.testing.assert_allclose(dice(logits, labels)[0], [1 - 1.5 / 2], rtol=1e-6)
    squared, _ = dice(logits, labels, squared=True)
    np.testing.assert_allclose(squared, [1 - 1.5 / (0.5625 + 0.0625 + 1)], rtol=1e-6)
    # Class 1 alone is present: overlap 1, mass 1, two pixels.
    np.testing.assert_allclose(dice(logits, jnp.ones((1, 1, 2), int))[0], [1 - 2 / 3], rtol=1e-6)


def test_lovasz_by_hand():
    # Class 0, errors 0.6 (truth), 0.5 (other), 0.2 (truth). Wrong one by one: 1/2, then 2/3, then
    # 3/3 of the Jaccard loss. Class 1 mirrors it: truth in the middle alone: 0.6 -> 1/2 (other),
    # 0.5 -> 2/2 (truth), then 2 others' worth 3/3.
    logits = jnp.log(jnp.array([[[[0.4, 0.6], [0.5, 0.5], [0.8, 0.2]]]]))
    labels = jnp.array([[[0, 1, 0]]])
    first = 0.6 * 1 / 2 + 0.5 * (2 / 3 - 1 / 2) + 0.2 * (1 - 2 / 3)
    second = 0.6 * 1 / 2 + 0.5 * (1 - 1 / 2) + 0.2 * 0
    loss, _ = lovasz_softmax(logits, labels)
    np.testing.assert_allclose(loss, [(first + second) / 2], rtol=1e-6)


@pytest.mark.parametrize("case", ["dice", "lovasz"])
def test_certain_predictions_have_the_discrete_score(case):
    # The Lovasz extension meets the Jaccard loss, soft Dice the Dice score, where p is 0 or 1.
    draw = np.random.default_rng(4)
    labels, called = draw.integers(0, 3, (2, 1, 6, 6))
    logits = jnp.array(1e4 * np.eye(3)[called], jnp.float32)
    expected = []
    for kind in range(3):
        both, either = ((labels == kind) & (called == kind)), ((labels == kind) | (called == kind))
        iou = both.sum() / either.sum()
        expected.append(1 - iou if case == "lovasz" else 1 - 2 * iou / (1 + iou))
    loss, _ = CASES[case][0](logits, jnp.array(labels))
    np.testing.assert_allclose(loss, [np.mean(expected)], rtol=1e-6)
    right, _ = CASES[case][0](logits, jnp.array(called))
    np.testing.assert_allclose(right, [0], atol=1e-7)


def test_lovasz_weights_keep_their_digits_with_many_pixels():
    # Two classes, 2**16 pixels. Differences of Jaccard values in float32 are wrong by 0.2 % here.
    draw = np.random.default_rng(5)
    count = 2**16
    labels = draw.integers(0, 2, count)
    margin = draw.permutation(np.linspace(-3, 3, count))  # logit of the true class over the other's
    logits = np.stack([np.where(labels == k, margin, 0) for k in (0, 1)], -1)

    def total(x):
        return region.lovasz_softmax(x, labels.reshape(1, 256, 256))[0][0]

    grad = jax.jit(jax.grad(total))(jnp.array(logits.reshape(1, 256, 256, 2)))
    p = 1 / (1 + np.exp(-margin))
    order = np.argsort(p)  # an error is 1 - p in both classes: the true one's and the other's
    expected = np.zeros(count)
    for kind in (0, 1):
        truth = (labels == kind)[order]
        union = truth.sum() + np.cumsum(~truth)
        jaccard = 1 - (truth.sum() - np.cumsum(truth)) / union
        expected[order] += np.diff(jaccard, prepend=0) / 2
    found = np.asarray(grad).reshape(count, 2)[np.arange(count), labels]
    np.testing.assert_allclose(found, -expected * p * (1 - p), rtol=2e-5)
