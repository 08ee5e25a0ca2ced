"""Losses against hand values and float64 NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.errors import UserError
from jaxseg.losses import adversarial
from jaxseg.losses.entropy import charbonnier, entropy, self_information
from jaxseg.losses.segmentation import cross_entropy


def test_cross_entropy_by_hand():
    logits = jnp.log(jnp.array([[[[0.2, 0.3, 0.5], [0.7, 0.2, 0.1]]]]))
    loss, valid = cross_entropy(logits, jnp.array([[[2, 0]]]))
    np.testing.assert_allclose(loss, [[[np.log(2), -np.log(0.7)]]], rtol=1e-6)
    assert valid.all()


def test_cross_entropy_ignores_255_and_stays_finite():
    logits = jnp.array([[[[1e4, -1e4], [0.0, 0.0]]]])
    loss, valid = cross_entropy(logits, jnp.array([[[1, 255]]], jnp.uint8))
    np.testing.assert_allclose(loss, [[[2e4, 0.0]]])
    assert valid.tolist() == [[[True, False]]]
    grad = jax.grad(lambda x: cross_entropy(x, jnp.array([[[1, 255]]]))[0].sum())(logits)
    np.testing.assert_allclose(grad, [[[[1.0, -1.0], [0.0, 0.0]]]])


def test_cross_entropy_names_shapes_that_do_not_fit():
    with pytest.raises(ValueError, match=r"\(1, 2, 2, 3\).*\(1, 4, 4\)"):
        cross_entropy(jnp.zeros((1, 2, 2, 3)), jnp.zeros((1, 4, 4), jnp.int32))


def test_self_information_is_the_papers_formula():
    logits = np.random.default_rng(0).normal(0, 4, (2, 3, 5, 7))
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    expected = -p * np.log2(p + 1e-30) / np.log2(7)
    np.testing.assert_allclose(self_information(jnp.array(logits)), expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(entropy(jnp.array(logits)), expected.sum(-1), rtol=1e-4, atol=1e-6)


def test_entropy_is_one_when_uniform_and_zero_with_finite_gradient_when_certain():
    np.testing.assert_allclose(entropy(jnp.zeros((1, 19))), 1.0, rtol=1e-6)
    certain = jnp.array([1e4, 0.0, -1e4])
    assert float(entropy(certain)) == 0.0
    assert np.isfinite(jax.grad(entropy)(certain)).all()


def test_entropy_gradient_matches_differences_in_float64():
    logits = np.random.default_rng(1).normal(0, 2, 5)

    def by_numpy(x):
        p = np.exp(x) / np.exp(x).sum()
        return -(p * np.log(p)).sum() / np.log(5)

    eye = np.eye(5) * 1e-6
    differences = [(by_numpy(logits + e) - by_numpy(logits - e)) / 2e-6 for e in eye]
    np.testing.assert_allclose(jax.grad(entropy)(jnp.array(logits)), differences, atol=1e-6)


def test_domain_losses_by_hand():
    scores = jnp.array([0.0, 2.0, -3.0])
    np.testing.assert_allclose(
        adversarial.vanilla(scores, adversarial.SOURCE), np.log1p(np.exp([0, 2, -3])), rtol=1e-6
    )
    np.testing.assert_allclose(
        adversarial.vanilla(scores, adversarial.TARGET), np.log1p(np.exp([0, -2, 3])), rtol=1e-6
    )
    np.testing.assert_allclose(adversarial.least_squares(scores, adversarial.TARGET), [1, 1, 16])
    with pytest.raises(UserError, match="unknown adversarial loss 'wgan'"):
        adversarial.by_name("wgan")


def test_charbonnier_by_hand():
    """(e^2 + 1e-8)^2, and its slope 4 e (e^2 + 1e-8)."""
    values = jnp.array([0.0, 0.1, 0.5, 1.0])
    np.testing.assert_allclose(charbonnier(values, 2.0), [1e-16, 1e-4, 0.0625, 1.0], rtol=1e-4)
    slope = jax.vmap(jax.grad(lambda e: charbonnier(e, 2.0)))(values)
    np.testing.assert_allclose(slope, [0.0, 4e-3, 0.5, 4.0], rtol=1e-4, atol=1e-12)
