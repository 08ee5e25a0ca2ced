"""Schedules and optimisers against hand values."""

import jax.numpy as jnp
import numpy as np
import optax

from jaxseg import optim


def test_poly_is_the_papers_schedule_and_ends_at_zero():
    schedule = optim.poly(2.5e-4, 250_000, 0.9)
    for step in (0, 1, 120_000, 249_999):
        np.testing.assert_allclose(
            schedule(step),
            2.5e-4 * (1 - step / 250_000) ** 0.9,
            rtol=2e-3,
            atol=0,  # float32: 1 - i/n
        )
    assert float(schedule(250_000)) == float(schedule(300_000)) == 0.0


def test_first_match_wins():
    groups = [("head/bias", 0.0), ("head", 10.0)]
    names = ["net/head/bias", "net/head/kernel", "net/backbone/kernel"]
    assert [optim.multiplier_of(n, groups) for n in names] == [0.0, 10.0, 1.0]


def test_sgd_two_steps_by_hand():
    params = {"net": {"head": {"kernel": jnp.array(2.0)}, "bn1": {"scale": jnp.array(3.0)}}}
    grads = {"net": {"head": {"kernel": jnp.array(0.5)}, "bn1": {"scale": jnp.array(1.0)}}}
    tx = optim.sgd(
        lambda step: 0.1,
        momentum=0.9,
        weight_decay=0.01,
        multipliers=[(r"/(\w*bn\d?)/(scale|bias)$", 0.0), ("head", 10.0)],
    )
    state, w, velocity = tx.init(params), 2.0, 0.0
    for _ in range(2):
        updates, state = tx.update(grads, state, params)
        params = optax.apply_updates(params, updates)
        velocity = 0.9 * velocity + 0.5 + 0.01 * w
        w -= 0.1 * 10 * velocity
    np.testing.assert_allclose(params["net"]["head"]["kernel"], w, rtol=1e-6)
    assert float(params["net"]["bn1"]["scale"]) == 3.0


def test_weight_decay_can_leave_parameters_out():
    params = {"a": {"bias": jnp.array(1.0)}, "b": {"kernel": jnp.array(1.0)}}
    zeros = {"a": {"bias": jnp.array(0.0)}, "b": {"kernel": jnp.array(0.0)}}
    tx = optim.sgd(lambda step: 1.0, momentum=0.0, weight_decay=0.5, no_decay="bias$")
    updates, _ = tx.update(zeros, tx.init(params), params)
    assert float(updates["a"]["bias"]) == 0.0 and float(updates["b"]["kernel"]) == -0.5


def test_clip_limits_the_global_norm_before_momentum():
    params = {"x": jnp.zeros(2)}
    tx = optim.sgd(lambda step: 1.0, momentum=0.0, weight_decay=0.0, clip=1.0)
    updates, _ = tx.update({"x": jnp.array([3.0, 4.0])}, tx.init(params), params)
    np.testing.assert_allclose(updates["x"], [-0.6, -0.8], rtol=1e-6)


def test_adam_moves_by_the_rate_at_first():
    tx = optim.adam(lambda step: 1e-4)
    updates, _ = tx.update({"x": jnp.array(7.0)}, tx.init({"x": jnp.array(0.0)}))
    np.testing.assert_allclose(updates["x"], -1e-4, rtol=1e-5)
