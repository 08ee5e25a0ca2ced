"""Bilinear resize against hand values, a float64 loop and its own adjoint."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg import routes
from jaxseg.resize import resize_bilinear


def loop_resize(image, size, align_corners):
    """Interpolates [h, w, C] pixel by pixel in float64."""
    image = np.asarray(image, np.float64)
    (h, w), (H, W) = image.shape[:2], size
    result = np.zeros((H, W, image.shape[2]))
    for i in range(H):
        for j in range(W):
            if align_corners:
                y, x = i * (h - 1) / max(H - 1, 1), j * (w - 1) / max(W - 1, 1)
            else:
                y, x = max((i + 0.5) * h / H - 0.5, 0), max((j + 0.5) * w / W - 0.5, 0)
            y0, x0 = min(int(y), h - 1), min(int(x), w - 1)
            y1, x1, v, u = min(y0 + 1, h - 1), min(x0 + 1, w - 1), y - y0, x - x0
            top = (1 - u) * image[y0, x0] + u * image[y0, x1]
            bottom = (1 - u) * image[y1, x0] + u * image[y1, x1]
            result[i, j] = (1 - v) * top + v * bottom
    return result


def test_hand_values():
    line = jnp.array([0.0, 1.0, 4.0]).reshape(1, 1, 3, 1)
    aligned = resize_bilinear(line, (1, 5))
    np.testing.assert_allclose(aligned.ravel(), [0, 0.5, 1, 2.5, 4], atol=1e-7)
    pair = jnp.array([0.0, 4.0]).reshape(1, 2, 1, 1)
    half_pixel = resize_bilinear(pair, (4, 1), align_corners=False)
    np.testing.assert_allclose(half_pixel.ravel(), [0, 1, 3, 4], atol=1e-7)


@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize("size", [(11, 17), (4, 9), (3, 2), (1, 1), (7, 5)])
def test_against_float64_loop(align_corners, size):
    images = np.random.default_rng(0).normal(size=(2, 7, 5, 3)).astype(np.float32)
    result = resize_bilinear(jnp.asarray(images), size, align_corners)
    expected = [loop_resize(image, size, align_corners) for image in images]
    np.testing.assert_allclose(result, expected, atol=1e-6)


def test_corners_keep_their_values_and_planes_stay_planes():
    rows, columns = np.mgrid[0:9, 0:17].astype(np.float32)
    plane = jnp.asarray(2 * rows - columns + 1)[None, :, :, None]
    result = np.asarray(resize_bilinear(plane, (65, 129)))[0, :, :, 0]
    fine_rows, fine_columns = np.mgrid[0:65, 0:129] / 8
    np.testing.assert_allclose(result, 2 * fine_rows - fine_columns + 1, atol=1e-5)


def run(platform, x, weight, size, align_corners):
    with routes.use(platform):
        return jax.value_and_grad(
            lambda x: (weight * resize_bilinear(x, size, align_corners)).sum()
        )(x)


@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize("size", [(9, 4), (1, 13), (3, 2), (6, 9)])
def test_both_ways_agree(size, align_corners):
    """The CPU's route and that of other devices agree, also in their gradients."""
    generator = np.random.default_rng(2)
    x = jnp.asarray(generator.normal(size=(2, 6, 7, 3)), jnp.float32)
    weight = jnp.asarray(generator.normal(size=(2, *size, 3)), jnp.float32)
    own, wanted = (run(platform, x, weight, size, align_corners) for platform in ("cpu", "gpu"))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), own, wanted)


def test_gradient_is_the_adjoint():
    generator = np.random.default_rng(1)
    x = jnp.asarray(generator.normal(size=(1, 3, 4, 2)), jnp.float32)
    y = jnp.asarray(generator.normal(size=(1, 8, 6, 2)), jnp.float32)
    gradient = jax.grad(lambda x: jnp.vdot(resize_bilinear(x, (8, 6)), y))(x)
    np.testing.assert_allclose(
        jnp.vdot(gradient, x), jnp.vdot(resize_bilinear(x, (8, 6)), y), rtol=1e-5
    )


def test_dtype_and_errors():
    half = jnp.ones((1, 2, 2, 1), jnp.bfloat16)
    assert resize_bilinear(half, (4, 4)).dtype == jnp.bfloat16
    for wrong, size in (
        (jnp.ones((2, 2, 1)), (4, 4)),
        (jnp.ones((1, 2, 2, 1), jnp.int32), (4, 4)),
        (jnp.ones((1, 2, 2, 1)), (0, 4)),
    ):
        with pytest.raises(ValueError, match="resize"):
            resize_bilinear(wrong, size)
