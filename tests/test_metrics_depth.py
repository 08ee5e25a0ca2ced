"""Depth metrics against float64 NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.engine.method import AXIS
from jaxseg.evaluation.metrics import depth

NAMES = ("abs_rel", "sq_rel", "rmse", "rmse_log", "delta1", "delta2", "delta3")


def by_numpy(prediction, truth, cap):
    """One image after the other, one pixel after the other."""
    images = []
    for p, t in zip(prediction, truth, strict=True):
        counted = (t > 0) & (t <= cap)
        if not counted.any():
            continue
        p, t = np.clip(p[counted].astype(np.float64), 1e-3, cap), t[counted].astype(np.float64)
        ratio = np.maximum(p / t, t / p)
        images.append(
            (
                np.mean(np.abs(p - t) / t),
                np.mean((p - t) ** 2 / t),
                np.sqrt(np.mean((p - t) ** 2)),
                np.sqrt(np.mean((np.log(p) - np.log(t)) ** 2)),
                *(np.mean(ratio < 1.25**k) for k in (1, 2, 3)),
            )
        )
    return dict(zip(NAMES, np.mean(images, 0), strict=True)) | {"images": len(images)}


def maps(images=6, size=(13, 17), seed=0):
    """Truth with holes and far pixels; an image without any, and one with but one pixel."""
    draw = np.random.default_rng(seed)
    truth = np.exp(draw.uniform(np.log(1), np.log(150), (images, *size))).astype(np.float32)
    prediction = (truth * np.exp(draw.normal(0, 0.3, truth.shape))).astype(np.float32)
    truth[draw.random(truth.shape) < 0.3] = 0
    truth[1] = 0
    truth[2], truth[2, 3, 4] = 200.0, 10.0
    prediction[0, :2], prediction[3, 0], prediction[4, 0] = 0.0, -5.0, np.inf
    return prediction, truth


def compare(found, expected):
    assert set(found) == set(expected) and found["images"] == expected["images"]
    for name in NAMES:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-5, err_msg=name)


def test_by_hand():
    truth = jnp.array([[[2.0, 4.0, 0.0, 90.0]], [[10.0, 0.0, 0.0, 0.0]]])
    prediction = jnp.array([[[3.0, 4.0, 7.0, 7.0]], [[13.0, 1.0, 1.0, 1.0]]])
    rows = depth.rows(prediction, truth, 80.0)
    expected = [
        [2, 0.5, 0.5, 1, np.log(1.5) ** 2, 1, 2, 2],  # 3 / 2 is below 1.25^2 = 1.5625
        [1, 0.3, 0.9, 9, np.log(1.3) ** 2, 0, 1, 1],
    ]
    np.testing.assert_allclose(rows, expected, rtol=1e-5)
    found = depth.scores(rows)
    assert found["images"] == 2
    np.testing.assert_allclose(found["abs_rel"], (0.25 + 0.3) / 2, rtol=1e-6)
    np.testing.assert_allclose(found["sq_rel"], (0.25 + 0.9) / 2, rtol=1e-6)
    np.testing.assert_allclose(found["rmse"], (np.sqrt(0.5) + 3) / 2, rtol=1e-6)
    np.testing.assert_allclose(found["delta1"], 0.25)
    np.testing.assert_allclose(found["delta2"], 1.0)


@pytest.mark.parametrize("cap", [80.0, 50.0, 655.35])
def test_scores_are_float64s(cap):
    prediction, truth = maps()
    rows = depth.rows(jnp.asarray(prediction), jnp.asarray(truth), cap)
    assert rows.shape == (6, 8) and rows.dtype == jnp.float32
    assert rows[1].tolist() == [0.0] * 8
    compare(depth.scores(rows), by_numpy(prediction, truth, cap))


def test_a_perfect_prediction_has_no_error():
    _, truth = maps()
    found = depth.scores(depth.rows(jnp.asarray(truth), jnp.asarray(truth)))
    assert [found[name] for name in NAMES] == [0, 0, 0, 0, 1, 1, 1]


def test_large_images_keep_their_digits():
    prediction, truth = maps(images=5, size=(512, 1024), seed=2)
    rows = depth.rows(jnp.asarray(prediction), jnp.asarray(truth), 80.0)
    compare(depth.scores(rows), by_numpy(prediction, truth, 80.0))
    counted = ((truth > 0) & (truth <= 80)).sum((1, 2))
    np.testing.assert_array_equal(rows[:, 0], counted)


def test_devices_and_the_order_of_images_do_not_matter():
    prediction, truth = maps()
    found = {}
    for devices in (1, 2):
        parts = [x.reshape(devices, -1, *x.shape[1:]) for x in (prediction, truth)]
        count = jax.pmap(lambda p, t: depth.rows(p, t, 80.0), AXIS, devices=jax.devices()[:devices])
        found[devices] = np.asarray(count(*parts)).reshape(-1, 8)
    np.testing.assert_array_equal(found[1], found[2])
    forwards, backwards = (depth.scores(x) for x in (found[1], found[1][::-1]))
    for name in NAMES:
        np.testing.assert_allclose(forwards[name], backwards[name], rtol=1e-12)


def test_without_truth_there_are_no_scores_and_nan_is_not_hidden():
    nothing = depth.scores(depth.rows(jnp.ones((2, 3, 4)), jnp.zeros((2, 3, 4))))
    assert nothing == dict.fromkeys(NAMES) | {"images": 0}
    assert depth.scores(np.zeros((0, 8)))["images"] == 0
    prediction = jnp.ones((1, 2, 2)).at[0, 0, 0].set(jnp.nan)
    found = depth.scores(depth.rows(prediction, jnp.ones((1, 2, 2))))
    assert found["rmse"] is None and found["delta1"] == 0.75
    unknown = jnp.ones((1, 2, 2)).at[0, 0, 0].set(jnp.nan)
    found = depth.scores(depth.rows(jnp.ones((1, 2, 2)), unknown))
    assert found["rmse"] == 0


def test_what_does_not_fit_is_named():
    with pytest.raises(ValueError, match=r"\(1, 2, 2\) does not fit truth \(1, 4, 4\)"):
        depth.rows(jnp.ones((1, 2, 2)), jnp.ones((1, 4, 4)))
    with pytest.raises(ValueError, match="a depth cap of 0"):
        depth.rows(jnp.ones((1, 2, 2)), jnp.ones((1, 2, 2)), 0)
