"""Convolution, BatchNorm and pooling against float64 loops, finite differences and two devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from kit.tensors import loop_conv

from jaxseg import routes
from jaxseg.models.backbones import resnet
from jaxseg.models.layers import conv, layers
from jaxseg.models.layers.conv import _convolve, conv2d

SAME = ((1, 1), (1, 1))
CASES = {
    "one by one": ((1, 1, 5, 3), (1, 1), ((0, 0), (0, 0)), (1, 1), 1),
    "one by one, stride": ((1, 1, 5, 3), (2, 3), ((0, 0), (0, 0)), (1, 1), 1),
    "dilated": ((3, 3, 3, 4), (1, 1), ((2, 2), (3, 3)), (2, 3), 1),
    "strided": ((3, 3, 3, 4), (2, 2), SAME, (1, 1), 1),
    "discriminator": ((4, 4, 3, 2), (2, 2), SAME, (1, 1), 1),
    "stem": ((7, 7, 3, 2), (2, 2), ((3, 3), (3, 3)), (1, 1), 1),
    "narrow stem": ((7, 7, 3, 20), (2, 2), ((3, 3), (3, 3)), (1, 1), 1),
    "blocks": ((4, 4, 19, 16), (2, 2), SAME, (1, 1), 1),
    "uneven blocks": ((3, 5, 9, 4), (2, 2), ((1, 0), (0, 3)), (1, 1), 1),
    "odd channels": ((3, 3, 18, 6), (1, 1), SAME, (1, 1), 1),
    "uneven": ((2, 3, 3, 4), (3, 2), ((3, 0), (0, 4)), (1, 1), 1),
    "strided and dilated": ((3, 3, 2, 3), (2, 2), SAME, (2, 2), 1),
    "head": ((3, 3, 8, 2), (1, 1), ((4, 4), (4, 4)), (4, 4), 1),
    "head, no padding": ((3, 2, 8, 2), (1, 1), ((0, 5), (0, 0)), (2, 1), 1),
    "wide": ((3, 3, 96, 96), (1, 1), SAME, (1, 1), 1),
    "wide, uneven": ((2, 3, 96, 100), (1, 1), ((3, 0), (0, 4)), (2, 1), 1),
    "wide, strided": ((3, 3, 96, 96), (2, 2), SAME, (1, 1), 1),
    "fewer features, one by one": ((1, 1, 9, 4), (1, 1), ((0, 0), (0, 0)), (1, 1), 1),
    "groups": ((3, 3, 2, 6), (2, 1), SAME, (1, 1), 3),
    "many groups": ((3, 3, 1, 9), (2, 1), SAME, (1, 1), 9),
}


@pytest.mark.parametrize(
    "platform, name",
    [
        *(("cpu", name) for name in (*CASES, "wide, on large maps", "wide, uneven, on large maps")),
        *(("gpu", name) for name in CASES),
    ],
)
def test_conv_and_its_gradients(platform, name, monkeypatch):
    if name.endswith("on large maps"):
        monkeypatch.setattr(conv, "GATHERED", 0)
    name = name.removesuffix(", on large maps")
    shape, stride, padding, dilation, groups = CASES[name]
    generator = np.random.default_rng(0)
    x = generator.normal(size=(2, 9, 10, shape[2] * groups)).astype(np.float32)
    kernel = generator.normal(size=shape).astype(np.float32)
    expected, gradients = loop_conv(x, kernel, stride, padding, dilation, groups)
    dy = generator.normal(size=expected.shape).astype(np.float32)

    @jax.jit
    def run(x, kernel, dy):
        y, back = jax.vjp(lambda x, k: conv2d(x, k, stride, padding, dilation, groups), x, kernel)
        return y, *back(dy)

    with routes.use(platform):
        found = run(x, kernel, dy)
    for got, want in zip(found, (expected, *gradients(dy)), strict=True):
        np.testing.assert_allclose(got, want, atol=2e-6 * np.abs(want).max())


def test_conv_bfloat16_and_second_derivative():
    generator = np.random.default_rng(2)
    x = jnp.asarray(generator.normal(size=(1, 6, 6, 3)), jnp.float32)
    kernel = jnp.asarray(generator.normal(size=(3, 3, 3, 2)), jnp.float32)
    half = conv2d(x.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16), (1, 1), SAME)
    assert half.dtype == jnp.bfloat16
    np.testing.assert_allclose(half.astype(jnp.float32), conv2d(x, kernel, padding=SAME), atol=0.2)

    def penalty(convolve):  # gradient of a gradient, as gradient penalties need it
        inner = jax.grad(lambda x, k: jnp.sum(convolve(x, k, (2, 2), SAME) ** 3))
        return jax.grad(lambda k: jnp.sum(inner(x, k) ** 2))(kernel)

    np.testing.assert_allclose(penalty(conv2d), penalty(_convolve), rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize(
    "name",
    ["one by one", "dilated", "discriminator", "head", "narrow stem", "blocks", "wide, uneven"],
)
def test_gradient_of_the_squared_gradient_of_the_input(name):
    """As in the R1 penalty of a discriminator, for every route, with respect to both arguments."""
    shape, stride, padding, dilation, _ = CASES[name]
    generator = np.random.default_rng(6)
    x = jnp.asarray(generator.normal(size=(1, 6, 8, shape[2])), jnp.float32)
    kernel = jnp.asarray(generator.normal(size=shape), jnp.float32)

    def penalty(convolve):
        def inner(x, kernel):
            return jnp.sum(jnp.tanh(convolve(x, kernel, stride, padding, dilation)))

        outer = lambda x, k: jnp.sum(jnp.square(jax.grad(inner)(x, k)))  # noqa: E731
        return jax.jit(jax.grad(outer, (0, 1)))(x, kernel)

    for got, want in zip(penalty(conv2d), penalty(_convolve), strict=True):
        np.testing.assert_allclose(got, want, atol=1e-4 * np.abs(want).max())


def test_conv_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="do not fit"):
        conv2d(jnp.ones((1, 4, 4, 3)), jnp.ones((3, 3, 4, 2)))
    with pytest.raises(ValueError, match="wants"):
        conv2d(jnp.ones((4, 4, 3)), jnp.ones((3, 3, 3, 2)))


def norm_apply(mode, train=True, axis_name=None):
    module = layers.Norm(mode, axis_name)

    def apply(params, stats, x):
        y, changed = module.apply(
            {"params": params, "batch_stats": stats}, x, train, mutable=["batch_stats"]
        )
        return y, changed["batch_stats"]

    return apply


PARAMS = {"scale": jnp.array([1.5, -0.5]), "bias": jnp.array([0.25, 2.0])}
STATS = {"mean": jnp.array([1.0, -1.0]), "var": jnp.array([4.0, 0.25])}


def batch():
    # A mean far from zero: a variance by E[x^2] - E[x]^2 would be off in float32.
    x = np.random.default_rng(3).normal(size=(4, 3, 5, 2)) * [1, 3] + [1000, 20]
    return x.astype(np.float32)


@pytest.mark.parametrize("mode", layers.BATCH_NORM_MODES)
def test_norm_statistics(mode):
    x = batch()
    x64 = x.astype(np.float64)
    y, stats = norm_apply(mode)(PARAMS, STATS, x)
    if mode == "frozen":
        mean, var = np.array([1.0, -1.0]), np.array([4.0, 0.25])
        expected_stats = STATS
    else:
        mean, var = x64.mean((0, 1, 2)), x64.var((0, 1, 2))
        expected_stats = {
            "mean": 0.9 * np.asarray(STATS["mean"]) + 0.1 * mean,
            "var": 0.9 * np.asarray(STATS["var"]) + 0.1 * x64.var((0, 1, 2), ddof=1),
        }
    expected = (x64 - mean) / np.sqrt(var + 1e-5) * PARAMS["scale"] + PARAMS["bias"]
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-3)
    for name in STATS:
        np.testing.assert_allclose(stats[name], expected_stats[name], rtol=1e-5)
    y, stats = norm_apply(mode, train=False)(PARAMS, STATS, x)
    expected = (x64 - [1, -1]) / np.sqrt(np.array([4, 0.25]) + 1e-5) * PARAMS["scale"]
    np.testing.assert_allclose(y, expected + PARAMS["bias"], rtol=1e-5)
    np.testing.assert_array_equal(stats["var"], STATS["var"])


@pytest.mark.parametrize("mode", layers.BATCH_NORM_MODES)
def test_norm_gradients(mode):
    x = batch()[:, :, :2].astype(np.float64) - [1000, 20]
    weight = np.random.default_rng(4).normal(size=x.shape)

    def loss(x, scale, bias):
        mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
        if mode == "frozen":
            mean, var = np.array([1.0, -1.0]), np.array([4.0, 0.25])
        return np.sum(weight * np.sin((x - mean) / np.sqrt(var + 1e-5) * scale + bias))

    values = [x, np.array([1.5, -0.5]), np.array([0.25, 2.0])]
    numeric = []
    for position, value in enumerate(values):
        slope = np.zeros(value.shape)
        for index in np.ndindex(value.shape):
            sides = []
            for step in (1e-5, -1e-5):
                moved = [v.copy() for v in values]
                moved[position][index] += step
                sides.append(loss(*moved))
            slope[index] = (sides[0] - sides[1]) / 2e-5
        numeric.append(slope)
    apply = norm_apply(mode)
    gradients = jax.grad(
        lambda x, params: jnp.sum(weight * jnp.sin(apply(params, STATS, x)[0])), (0, 1)
    )(jnp.asarray(x, jnp.float32), PARAMS)
    np.testing.assert_allclose(gradients[0], numeric[0], atol=1e-4)
    for name, slope in zip(("scale", "bias"), numeric[1:], strict=True):
        expected = np.zeros(2) if mode in layers.FIXED_AFFINE else slope
        np.testing.assert_allclose(gradients[1][name], expected, rtol=1e-4, atol=1e-4)


def test_norm_over_two_devices_equals_one():
    x = batch() - np.float32([990, 0])

    def step(axis_name):
        apply = norm_apply("train", axis_name=axis_name)

        def run(params, stats, x):
            def loss(params, x):
                y, new_stats = apply(params, stats, x)
                return jnp.mean(jnp.sin(y) * jnp.arange(y.size).reshape(y.shape)), (y, new_stats)

            (_, (y, new_stats)), (to_params, to_x) = jax.value_and_grad(loss, (0, 1), has_aux=True)(
                params, x
            )
            if axis_name:
                to_params = jax.lax.pmean(to_params, axis_name)
            return y, new_stats, to_params, to_x

        return run

    def expected_step(params, stats, x):  # the two halves' losses, averaged, on one device
        apply = norm_apply("train")

        def loss(params, x):
            y, new_stats = apply(params, stats, x)
            halves = y.reshape(2, 2, *y.shape[1:])
            weight = jnp.arange(halves[0].size).reshape(halves[0].shape)
            return jnp.mean(jnp.sin(halves) * weight), (y, new_stats)

        (_, (y, new_stats)), grads = jax.value_and_grad(loss, (0, 1), has_aux=True)(params, x)
        return y, new_stats, *grads

    y, stats, to_params, to_x = jax.jit(expected_step)(PARAMS, STATS, x)
    halves = x.reshape(2, 2, *x.shape[1:])
    got = jax.pmap(step("devices"), "devices", in_axes=(None, None, 0), devices=jax.devices()[:2])(
        PARAMS, STATS, halves
    )

    def close(got, want):
        scale = float(jnp.abs(want).max())
        np.testing.assert_allclose(got, want, atol=1e-6 * scale)

    close(got[0].reshape(y.shape), y)
    close(got[3].reshape(to_x.shape) / 2, to_x)  # each device's loss counts half
    for device in range(2):
        jax.tree.map(lambda a, b: close(a[device], b), got[1], stats)  # noqa: B023
        jax.tree.map(lambda a, b: close(a[device], b), got[2], to_params)  # noqa: B023


@pytest.mark.parametrize("ceil_mode", [True, False])
@pytest.mark.parametrize("size", [(6, 7), (5, 8)])
@pytest.mark.parametrize("geometry", [(3, 2, 1), (2, 2, 0), (3, 2, 0), (2, 3, 1)])
def test_max_pool(ceil_mode, size, geometry):
    window, stride, padding = geometry
    x = np.random.default_rng(5).normal(size=(2, *size, 3)).astype(np.float32)

    def starts(length):
        found, start = [], -padding
        while start + window <= length + padding or (ceil_mode and start < length and (
            found and found[-1] + window < length + padding
        )):  # fmt: skip
            found.append(start)
            start += stride
        return found

    rows, columns = starts(size[0]), starts(size[1])
    expected = np.zeros((2, len(rows), len(columns), 3), np.float32)
    gradient = np.zeros_like(x)
    for index in np.ndindex(expected.shape):
        n, i, j, c = index
        top, left = max(rows[i], 0), max(columns[j], 0)
        patch = x[n, top : rows[i] + window, left : columns[j] + window, c]
        at = np.unravel_index(patch.argmax(), patch.shape)
        expected[index] = patch[at]
        gradient[n, top + at[0], left + at[1], c] += i + 2 * j + 1
    y, back = jax.vjp(lambda x: layers.max_pool(x, window, stride, padding, ceil_mode), x)
    np.testing.assert_array_equal(y, expected)
    weight = np.arange(len(rows))[:, None, None] + 2 * np.arange(len(columns))[None, :, None] + 1.0
    (got,) = back(jnp.broadcast_to(weight, y.shape).astype(jnp.float32))
    np.testing.assert_allclose(got, gradient)


def test_max_pool_gives_a_tie_to_the_first():
    (got,) = jax.vjp(lambda x: layers.max_pool(x, 2, 2), jnp.zeros((1, 2, 2, 1)))[1](
        jnp.ones((1, 1, 1, 1))
    )
    np.testing.assert_array_equal(got.ravel(), [1, 0, 0, 0])


def test_the_end_of_a_residual_block_is_relu_of_the_sum():
    random = np.random.default_rng(0)
    x, y = random.standard_normal((2, 2, 5, 7, 3)).astype(np.float32)
    y[:, 0] = -x[:, 0]

    def plain(x, y):
        return jax.nn.relu(x + y)

    np.testing.assert_array_equal(resnet.add_relu(x, y), plain(x, y))
    weight = random.standard_normal(x.shape).astype(np.float32)
    for own, wanted in zip(
        jax.grad(lambda x, y: (weight * resnet.add_relu(x, y)).sum(), (0, 1))(x, y),
        jax.grad(lambda x, y: (weight * plain(x, y)).sum(), (0, 1))(x, y),
        strict=True,
    ):
        np.testing.assert_array_equal(own, wanted)


def test_preprocess():
    image = np.full((1, 1, 1, 3), 0, np.uint8) + np.array([10, 20, 30], np.uint8)
    caffe = layers.preprocess(image, layers.CAFFE_MEAN_BGR, (1, 1, 1), "BGR")
    expected = [30 - 104.00698793, 20 - 116.66876762, 10 - 122.67891434]
    np.testing.assert_allclose(caffe.ravel(), expected, rtol=1e-6)
    plain = layers.preprocess(image, (10, 10, 10), (1, 2, 4))
    np.testing.assert_allclose(plain.ravel(), [0, 5, 5])
    with pytest.raises(ValueError, match="RGBA"):
        layers.preprocess(image, order="RGBA")
