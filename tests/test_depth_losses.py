"""Depth losses and encodings against hand values and float64 NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxseg.engine.method import AXIS, global_mean
from jaxseg.errors import UserError
from jaxseg.losses import depth

METRES = np.array([0.5, 1.0, 2.0, 7.3, 40.0, 80.0, 200.0])
LOSSES = {"l1": depth.l1, "berhu": depth.berhu}


def maps(seed=0, size=(4, 5, 6)):
    """Prediction, truth and which pixels count; the last image has no truth."""
    draw = np.random.default_rng(seed)
    prediction, target = draw.normal(0.5, 0.4, size), draw.random(size)
    counted = draw.random(size) < np.array([0.9, 0.6, 0.3, 0.0])[:, None, None]
    return prediction, target, counted


def berhu64(prediction, target, counted, threshold=None):
    """Laina et al., equation 1, pixel by pixel in float64."""
    error = np.abs(prediction - target)
    c = error[counted].max() / 5 if threshold is None else threshold
    loss = np.zeros(error.shape)
    for place in np.argwhere(counted):
        e = error[tuple(place)]
        loss[tuple(place)] = e if e <= c else (e * e + c * c) / (2 * c)
    return loss


def test_encodings_by_hand():
    def encoded(kind):
        return depth.encode(jnp.array(METRES), kind, 1.0, 80.0)

    np.testing.assert_allclose(
        encoded("inverse"), [1, 1, 1 / 2, 1 / 7.3, 1 / 40, 1 / 80, 1 / 200], rtol=1e-6
    )
    expected = [0.5 / 80, 1 / 80, 2 / 80, 7.3 / 80, 0.5, 1, 1]
    np.testing.assert_allclose(encoded("linear"), expected, rtol=1e-6)
    expected = [0, 0, *(np.log([2, 7.3, 40]) / np.log(80)), 1, 1]
    np.testing.assert_allclose(encoded("log"), expected, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(depth.encode(jnp.array([10.0]), "inverse", 5.0, 50.0), [0.5])


@pytest.mark.parametrize("kind", depth.KINDS)
def test_encodings_round_trip_within_their_range(kind):
    for near, far in ((1.0, 80.0), (0.3, 655.0)):
        metres = jnp.array(METRES)
        found = depth.decode(depth.encode(metres, kind, near, far), kind, near, far)
        assert found.dtype == jnp.float32
        np.testing.assert_allclose(found, np.clip(METRES, near, far), rtol=1e-5)


@pytest.mark.parametrize("kind", depth.KINDS)
def test_missing_depth_is_zero_and_anything_regressed_decodes(kind):
    missing = jnp.array([0.0, -1.0, jnp.nan])
    assert depth.valid(missing).tolist() == [False] * 3
    np.testing.assert_array_equal(depth.encode(missing, kind), np.zeros(3))
    endless = float(depth.encode(jnp.array(jnp.inf), kind))
    assert endless == (0.0 if kind == "inverse" else 1.0)
    wild = jnp.array([-5.0, 0.0, 1.0, 9.0])
    ends = [80.0, 80.0, 1.0, 1.0] if kind == "inverse" else [1.0, 1.0, 80.0, 80.0]
    np.testing.assert_allclose(depth.decode(wild, kind), ends, rtol=1e-5)
    gradient = jax.grad(lambda x: depth.decode(x, kind).sum())(wild)
    assert np.isfinite(gradient).all()
    gradient = jax.grad(lambda x: depth.encode(x, kind).sum())(jnp.array([0.0, 0.5, 3.0, 90.0]))
    assert np.isfinite(gradient).all() and gradient[0] == 0


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (("disparity",), "unknown depth encoding 'disparity'; choose one of inverse, linear, log"),
        (("log", 0.0, 80.0), "near=0.0 to far=80.0"),
        (("linear", 5.0, 5.0), "0 < near < far"),
    ],
)
def test_encodings_that_cannot_be_are_refused(settings, words):
    for function in (depth.encode, depth.decode):
        with pytest.raises(UserError, match=words):
            function(jnp.ones(2), *settings)


def test_berhu_by_hand():
    # The largest error that counts is 1, so c = 0.2; the 9 does not count.
    error = jnp.array([[[0.1, -0.2, 0.4, -1.0, 9.0]]])
    counted = jnp.array([[[True, True, True, True, False]]])
    loss, mask = depth.berhu(error, jnp.zeros_like(error), counted)
    np.testing.assert_allclose(loss, [[[0.1, 0.2, 0.5, 2.6, 0.0]]], rtol=1e-6)
    np.testing.assert_array_equal(mask, counted)
    slope = jax.grad(lambda x: depth.berhu(x, jnp.zeros_like(x), counted)[0].sum())(error)
    np.testing.assert_allclose(slope, [[[1, -1, 2, -5, 0]]], rtol=1e-6)
    loss, _ = depth.berhu(error, jnp.zeros_like(error), counted, 0.5)
    np.testing.assert_allclose(loss, [[[0.1, 0.2, 0.4, 1.25, 0.0]]], rtol=1e-6)


def test_losses_and_gradients_are_float64s():
    prediction, target, counted = maps()
    arguments = [jnp.asarray(x) for x in (prediction, target, counted)]
    loss, mask = depth.l1(*arguments)
    expected = np.abs(prediction - target) * counted
    np.testing.assert_allclose(loss, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(mask, counted)
    loss, mask = depth.berhu(*arguments)
    np.testing.assert_allclose(loss, berhu64(prediction, target, counted), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(mask, counted)
    # The threshold is a number of the batch, not something that is learnt.
    c = 0.2 * np.abs(prediction - target)[counted].max()
    np.testing.assert_allclose(depth.berhu_threshold(*arguments), c, rtol=1e-6)
    error = prediction - target
    beyond = np.abs(error) > c
    expected = np.where(beyond, error / c, np.sign(error)) * counted
    slope = jax.grad(lambda x: depth.berhu(x, *arguments[1:])[0].sum())(arguments[0])
    np.testing.assert_allclose(slope, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_what_does_not_count_changes_nothing(name):
    prediction, target, counted = maps()
    loss = LOSSES[name]
    clean = loss(*map(jnp.asarray, (prediction, target, counted)))[0]
    dirty = np.where(counted, prediction, np.inf), np.where(counted, target, np.nan)
    found, slope = jax.value_and_grad(
        lambda x: loss(x, jnp.asarray(dirty[1]), jnp.asarray(counted))[0].sum()
    )(jnp.asarray(dirty[0]))
    np.testing.assert_allclose(found, clean.sum(), rtol=1e-6)
    assert np.isfinite(slope).all() and not np.asarray(slope)[~counted].any()


@pytest.mark.parametrize("name", LOSSES)
def test_without_a_pixel_or_an_error_value_and_gradient_are_zero(name):
    prediction, target, counted = (jnp.asarray(x) for x in maps())
    for case in ((prediction, target, counted & False), (target, target, counted)):
        value, slope = jax.value_and_grad(lambda x, case=case: LOSSES[name](x, *case[1:])[0].sum())(
            case[0]
        )
        assert float(value) == 0 and not np.asarray(slope).any()


@pytest.mark.parametrize("name", LOSSES)
def test_the_number_of_devices_does_not_matter(name):
    arrays = [x.astype(np.float32) if x.dtype != bool else x for x in maps(1)]
    loss = depth.by_name(name, AXIS)

    def mean(scale, prediction, target, counted):
        def of_scale(scale):
            return global_mean(*loss(scale * prediction, target, counted))

        return lax.pmean(jax.value_and_grad(of_scale)(scale), AXIS)

    results = []
    for devices in (1, 2):
        parts = [np.reshape(x, (devices, -1, *x.shape[1:])) for x in arrays]
        pmapped = jax.pmap(mean, AXIS, in_axes=(None, 0, 0, 0), devices=jax.devices()[:devices])
        results.append([np.asarray(x)[0] for x in pmapped(jnp.float32(1), *parts)])
    np.testing.assert_allclose(results[0], results[1], rtol=1e-5)
    prediction, target, counted = maps(1)
    expected = berhu64(prediction, target, counted)
    if name == "l1":
        expected = np.abs(prediction - target) * counted
    np.testing.assert_allclose(results[0][0], expected.sum() / counted.sum(), rtol=1e-5)


def test_names_and_shapes_that_do_not_fit_are_named():
    assert depth.by_name("l1") is depth.l1 and depth.by_name("berhu") is depth.berhu
    with pytest.raises(UserError, match="unknown depth loss 'l2'; choose one of l1, berhu"):
        depth.by_name("l2")
    small, large = jnp.ones((1, 2, 2)), jnp.ones((1, 4, 4))
    for loss in LOSSES.values():
        with pytest.raises(ValueError, match=r"\(1, 2, 2\) does not fit truth \(1, 4, 4\)"):
            loss(small, large, large > 0)
