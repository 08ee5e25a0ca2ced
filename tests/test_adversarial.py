"""Label smoothing and R1 against hand values, and R1 through convolutions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxseg.errors import UserError
from jaxseg.losses import adversarial
from jaxseg.models.layers.conv import conv2d


def test_smoothing_moves_the_label_of_real_images_alone():
    scores = np.array([0.0, 2.0, -3.0])
    softplus = np.log1p(np.exp(scores))
    for name in ("vanilla", "ls"):
        loss = adversarial.by_name(name)
        plain = loss(jnp.array(scores), adversarial.SOURCE)
        np.testing.assert_array_equal(loss(jnp.array(scores), adversarial.SOURCE, 0.1), plain)
    found = adversarial.vanilla(jnp.array(scores), adversarial.TARGET, 0.1)
    np.testing.assert_allclose(found, softplus - 0.9 * scores, rtol=1e-6)
    found = adversarial.least_squares(jnp.array(scores), adversarial.TARGET, 0.1)
    np.testing.assert_allclose(found, (scores - 0.9) ** 2, rtol=1e-6)
    # The best score of a smoothed real image is finite: log(0.9 / 0.1).
    slope = jax.grad(adversarial.vanilla)(jnp.log(9.0), adversarial.TARGET, 0.1)
    np.testing.assert_allclose(slope, 0, atol=1e-6)
    assert adversarial.label(adversarial.TARGET) == adversarial.TARGET
    for wrong in (-0.1, 0.5):
        with pytest.raises(UserError, match=f"label smoothing of {wrong}"):
            adversarial.vanilla(jnp.zeros(2), adversarial.SOURCE, wrong)


def test_r1_by_hand():
    images = jnp.array([[[[1.0, 2.0]]], [[[3.0, -1.0]]]])  # two images of one pixel
    weights = jnp.array([0.5, -2.0])

    def penalty(weights):  # the score is sum of w x^2, its slope 2 w x
        return adversarial.r1(lambda x: jnp.sum(weights * x**2, -1), images)

    np.testing.assert_allclose(penalty(weights), [1 + 64, 9 + 16], rtol=1e-6)
    slopes = jax.jacobian(penalty)(weights)  # 8 w x^2
    np.testing.assert_allclose(slopes, [[4, -64], [36, -16]], rtol=1e-6)


def test_r1_passes_through_every_route_of_the_projects_convolution():
    """Value and second derivatives against convolutions that are all XLA's."""
    shapes = [(4, 4, 3, 96), (3, 3, 96, 96), (1, 1, 96, 16), (3, 3, 16, 1)]
    draw = np.random.default_rng(0)
    kernels = [
        jnp.asarray(draw.normal(0, np.prod(shape[:3]) ** -0.5, shape), jnp.float32)
        for shape in shapes
    ]
    images = jnp.asarray(draw.normal(size=(2, 8, 12, 3)), jnp.float32)

    def xlas(x, kernel, stride, padding):
        names = ("NHWC", "HWIO", "NHWC")
        return lax.conv_general_dilated(x, kernel, stride, padding, dimension_numbers=names)

    def score(convolve, kernels, x):
        for number, kernel in enumerate(kernels):
            padding = (kernel.shape[0] - 1) // 2
            x = x if number == 0 else jnp.where(x > 0, x, 0.2 * x)
            stride = (1, 1) if number else (2, 2)
            x = convolve(x, kernel, stride, ((padding, padding),) * 2)
        return x

    found = []
    for convolve in (conv2d, xlas):

        def penalty(kernels, convolve=convolve):
            each = adversarial.r1(lambda x: score(convolve, kernels, x), images)
            return jnp.mean(each), each

        found.append(jax.jit(jax.grad(penalty, has_aux=True))(kernels))
    (slopes, each), (expected, of_each) = found
    assert each.shape == (2,) and (np.asarray(each) > 0).all()
    np.testing.assert_allclose(each, of_each, rtol=1e-4)
    for a, b in zip(slopes, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4 * float(jnp.abs(b).max()))
