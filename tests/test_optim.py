"""Schedules and optimisers against hand values."""

import jax.numpy as jnp
import numpy as np
import optax

from jaxseg.engine import optim, schedules


def test_poly_is_the_papers_schedule_and_ends_at_zero():
    schedule = schedules.poly(2.5e-4, 250_000, 0.9)
    for step in (0, 1, 120_000, 249_999):
        np.testing.assert_allclose(
            schedule(step),
            2.5e-4 * (1 - step / 250_000) ** 0.9,
            rtol=2e-3,
            atol=0,  # float32: 1 - i/n
        )
    assert float(schedule(250_000)) == float(schedule(300_000)) == 0.0


def test_cosine_falls_to_zero_and_power_zero_stays():
    schedule = schedules.cosine(1e-2, 5000)
    steps = (0, 1250, 2500, 5000, 6000)
    expected = [1e-2, 5e-3 * (1 + 0.5**0.5), 5e-3, 0.0, 0.0]
    np.testing.assert_allclose([schedule(i) for i in steps], expected, rtol=1e-5, atol=1e-12)
    constant = schedules.poly(1e-2, 100, 0.0)
    np.testing.assert_allclose([constant(i) for i in (0, 50, 99, 100)], 1e-2, rtol=1e-6)


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


def test_repeated_sgd_is_several_steps_with_one_gradient():
    """Two updates against float64: what PyTorch 0.4 did with a parameter it was given n times."""
    repeats = [(r"shortcut", 4), (r"conv", 3)]
    names, rates = {"shortcut": 4, "conv": 3, "stem": 1, "head": 1}, [0.1, 0.05]
    rng = np.random.default_rng(0)
    values = {name: rng.normal(size=3) for name in names}
    tx = optim.sgd(
        lambda step: jnp.asarray(rates)[step],
        momentum=0.9,
        weight_decay=0.01,
        multipliers=[("head", 10.0)],
        repeats=repeats,
    )
    params = {name: jnp.asarray(value, jnp.float32) for name, value in values.items()}
    state, buffers = tx.init(params), dict.fromkeys(names, 0.0)
    for rate in rates:
        gradients = {name: rng.normal(size=3) for name in names}
        updates, state = tx.update(
            {k: jnp.asarray(g, jnp.float32) for k, g in gradients.items()}, state, params
        )
        params = optax.apply_updates(params, updates)
        for name, times in names.items():
            for _ in range(times):
                gradients[name] = gradients[name] + 0.01 * values[name]  # kept, as PyTorch 0.4 did
                buffers[name] = 0.9 * buffers[name] + gradients[name]
                factor = 10.0 if name == "head" else 1.0
                values[name] = values[name] - factor * rate * buffers[name]
    for name, value in values.items():
        np.testing.assert_allclose(params[name], value, rtol=1e-5, atol=1e-6)


def test_repeating_once_is_plain_sgd():
    settings = dict(momentum=0.9, weight_decay=5e-4, multipliers=[("head", 10.0)])
    plain = optim.sgd(lambda step: 0.1 / (1 + step), **settings)
    once = optim.sgd(lambda step: 0.1 / (1 + step), **settings, repeats=[("nothing", 3)])
    params = {"head": jnp.arange(3.0), "net": jnp.ones(2)}
    states = [plain.init(params), once.init(params)]
    for _ in range(3):
        found = []
        for i, tx in enumerate((plain, once)):
            updates, states[i] = tx.update(params, states[i], params)
            found.append(updates)
        for a, b in zip(found[0].values(), found[1].values(), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6)
        params = optax.apply_updates(params, found[0])
