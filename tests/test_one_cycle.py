"""The one-cycle schedules and Adam with a cycled beta1 against PyTorch's own numbers.

RUN was recorded once with torch 2.13 in float64: torch.optim.Adam(lr=0.1, betas=(0.5, 0.99)) and
OneCycleLR(max_lr=0.1, total_steps=20, pct_start=0.3, base_momentum=0.5, max_momentum=0.95) on
0.5 * sum(CURVATURE * (w - LOWEST)^2) from START; for each step its learning rate, its beta1, and w
after it. DECAYED is the same with weight_decay=0.1, w after the last step. SHORT are the learning
rates and momenta of OneCycleLR(max_lr=2, div_factor=10, final_div_factor=100, base_momentum=0.85,
max_momentum=0.9) for some (total_steps, pct_start).
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxseg.engine import optim, schedules
from jaxseg.errors import UserError

START, CURVATURE, LOWEST = [1.0, -2.0, 0.5], [1.0, 10.0, 0.1], [0.3, -0.4, 2.0]
RUN = [
    (4.000000000e-03, 0.950000000, 0.996000000, -1.996000000, 0.504000000),
    (1.316718427e-02, 0.907028824, 0.985737424, -1.985731766, 0.514267941),
    (3.716718427e-02, 0.794528824, 0.962360338, -1.962275647, 0.537719992),
    (6.683281573e-02, 0.655471176, 0.918060470, -1.917473873, 0.582496117),
    (9.083281573e-02, 0.542971176, 0.849500307, -1.846879829, 0.652987293),
    (1.000000000e-01, 0.500000000, 0.769163031, -1.761396273, 0.738213739),
    (9.874640062e-02, 0.505641220, 0.691153445, -1.674336279, 0.824826811),
    (9.504846320e-02, 0.522282005, 0.620831638, -1.590897723, 0.907623244),
    (8.909161776e-02, 0.549087916, 0.560690760, -1.514211224, 0.983503792),
    (8.117456539e-02, 0.584714795, 0.511278336, -1.446042553, 1.050760468),
    (7.169430018e-02, 0.627376159, 0.471972964, -1.387249023, 1.108606279),
    (6.112620219e-02, 0.674932790, 0.441567425, -1.338060998, 1.156880469),
    (5.000020000e-02, 0.725000000, 0.418658901, -1.298251832, 1.195868021),
    (3.887419781e-02, 0.775067210, 0.401877651, -1.267244080, 1.226186541),
    (2.830609982e-02, 0.822623841, 0.390001187, -1.244194715, 1.248698407),
    (1.882583461e-02, 0.865285205, 0.382004051, -1.228101266, 1.264406637),
    (1.090878224e-02, 0.900912084, 0.377076529, -1.217940273, 1.274322306),
    (4.951936799e-03, 0.927717995, 0.374589874, -1.212735576, 1.279401870),
    (1.253999376e-03, 0.944358780, 0.373886560, -1.211250507, 1.280851660),
    (4.000000000e-07, 0.950000000, 0.373886327, -1.211250013, 1.280852142),
]  # fmt: skip
DECAYED = (0.362756315, -1.210959249, 1.011716364)
SHORT = {
    (7, 0.5): (
        [0.2, 0.821884705, 1.828115295, 1.901067899, 1.223298413, 0.378133688, 0.002],
        [0.9, 0.882725425, 0.854774575, 0.852475778, 0.869436977, 0.890587245, 0.9],
    ),
    (10, 0.05): (  # the top would be before the first step
        [1.986374942, 1.879594277, 1.67760429, 1.402293729, 1.083496766, 0.755759998, 0.45459879,
         0.212648631, 0.056128576, 0.002],
        [0.850340967, 0.853013156, 0.858067961, 0.864957614, 0.872935516, 0.881137137, 0.888673704,
         0.894728513, 0.898645431, 0.9],
    ),
    (5, 1.0): (
        [0.2, 0.463603897, 1.1, 1.736396103, 2.0],
        [0.9, 0.89267767, 0.875, 0.85732233, 0.85],
    ),
}  # fmt: skip


def cycled(**settings):
    return optim.adam(
        schedules.one_cycle(0.1, 20),
        betas=(0.5, 0.99),
        beta1_schedule=schedules.one_cycle_momentum(0.5, 0.95, 20),
        **settings,
    )


def descend(tx, steps=20):
    """Parameters after each step of the quadratic problem, [steps, 3], and the last state."""
    curvature, lowest = jnp.array(CURVATURE), jnp.array(LOWEST)

    @jax.jit
    def step(w, state):
        updates, state = tx.update({"w": curvature * (w["w"] - lowest)}, state, w)
        return optax.apply_updates(w, updates), state

    w = {"w": jnp.array(START)}
    state, path = tx.init(w), []
    for _ in range(steps):
        w, state = step(w, state)
        path.append(np.asarray(w["w"]))
    return np.array(path), state


def test_twenty_steps_are_pytorchs():
    steps = np.arange(20)
    rates, momenta = schedules.one_cycle(0.1, 20), schedules.one_cycle_momentum(0.5, 0.95, 20)
    # The smallest rate is 4e-6 of the largest and still has its digits, all that float32 has.
    np.testing.assert_allclose(rates(steps), [row[0] for row in RUN], rtol=5e-6)
    np.testing.assert_allclose(momenta(steps), [row[1] for row in RUN], rtol=1e-6)
    path, state = descend(cycled())
    np.testing.assert_allclose(path, [row[2:] for row in RUN], rtol=2e-6)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(state))
    path, _ = descend(cycled(weight_decay=0.1))
    np.testing.assert_allclose(path[-1], DECAYED, rtol=2e-6)


@pytest.mark.parametrize("case", SHORT)
def test_other_shares_of_warm_up_are_pytorchs(case):
    steps, warm = case
    rates = schedules.one_cycle(2.0, steps, warm, start=10.0, end=100.0)
    momenta = schedules.one_cycle_momentum(0.85, 0.9, steps, warm)
    for i, (rate, momentum) in enumerate(zip(*SHORT[case], strict=True)):
        np.testing.assert_allclose(rates(i), rate, rtol=2e-6)
        np.testing.assert_allclose(momenta(jnp.int32(i)), momentum, rtol=2e-6)
    assert float(rates(steps - 1)) == float(rates(10 * steps))  # PyTorch would stop with an error


def test_a_whole_cycle_of_many_steps_is_float64s():
    steps, warm = 90_000, 0.3
    schedule, turn = schedules.one_cycle(2e-4, steps, warm), warm * steps - 1
    for step in (0, 1, 13_000, 26_999, 27_000, 60_000, 89_998, 89_999):
        begin, end, share = 8e-6, 2e-4, step / turn
        if step > turn:
            begin, end, share = 2e-4, 8e-10, (step - turn) / (steps - 1 - turn)
        expected = end + (begin - end) * (1 + np.cos(np.pi * share)) / 2
        np.testing.assert_allclose(schedule(step), expected, rtol=1e-4, atol=0)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: schedules.one_cycle(0.1, 0), "one cycle of 0 steps"),
        (lambda: schedules.one_cycle(0.1, 10, 1.5), "1.5 of them warm-up"),
        (lambda: schedules.one_cycle(0.1, 10, start=0.0), "start=0.0"),
        (lambda: schedules.one_cycle_momentum(0.9, 0.5, 10), "momentum from 0.9 to 0.5"),
        (lambda: schedules.one_cycle_momentum(0.5, 1.0, 10), "maximum < 1"),
    ],
)
def test_cycles_that_cannot_be_are_refused(make, words):
    with pytest.raises(UserError, match=words):
        make()


def test_a_constant_beta1_is_plain_adam_and_its_state_is_optaxs():
    plain = optim.adam(lambda step: 0.1, betas=(0.5, 0.99))
    constant = optim.adam(lambda step: 0.1, betas=(0.9, 0.99), beta1_schedule=lambda step: 0.5)
    library = optax.adam(lambda step: 0.1, b1=0.5, b2=0.99)
    paths, states = zip(*(descend(tx, 5) for tx in (plain, constant, library)), strict=True)
    np.testing.assert_array_equal(paths[0], paths[2])
    np.testing.assert_allclose(paths[1], paths[2], rtol=1e-6)
    assert len({jax.tree.structure(state) for state in states}) == 1  # old checkpoints fit


def test_groups_clipping_and_decay_are_float64s():
    tx = optim.adam(
        schedules.one_cycle(0.1, 4),
        betas=(0.5, 0.99),
        beta1_schedule=schedules.one_cycle_momentum(0.5, 0.95, 4),
        multipliers=[("fixed", 0.0), ("head", 10.0)],
        clip=1.0,
        weight_decay=0.3,
        no_decay="bias$",
    )
    values = {"net/kernel": 2.0, "net/bias": -1.0, "head/kernel": 0.5, "net/fixed": 3.0}
    gradients = [[3.0, -4.0, 1.0, 2.0], [0.1, 0.2, -0.1, 0.3], [1.0, 1.0, 0.0, -5.0]]
    params = {name: jnp.float32(value) for name, value in values.items()}
    state = tx.init(params)
    mean, square = dict.fromkeys(values, 0.0), dict.fromkeys(values, 0.0)
    rates, momenta = schedules.one_cycle(0.1, 4), schedules.one_cycle_momentum(0.5, 0.95, 4)
    for t, row in enumerate(gradients):
        gradient = dict(zip(values, row, strict=True))
        given = {name: jnp.float32(value) for name, value in gradient.items()}
        updates, state = tx.update(given, state, params)
        params = optax.apply_updates(params, updates)
        norm = np.sqrt(np.sum(np.square(row)))
        rate, beta = float(rates(t)), float(momenta(t))
        for name, value in values.items():
            g = gradient[name] / max(norm, 1.0)
            g += 0.0 if name.endswith("bias") else 0.3 * value
            mean[name] = beta * mean[name] + (1 - beta) * g
            square[name] = 0.99 * square[name] + 0.01 * g * g
            root = np.sqrt(square[name] / (1 - 0.99 ** (t + 1))) + 1e-8
            factor = 0.0 if "fixed" in name else 10.0 if "head" in name else 1.0
            values[name] -= factor * rate * mean[name] / (1 - beta ** (t + 1)) / root
    for name, value in values.items():
        np.testing.assert_allclose(params[name], value, rtol=1e-5)
