"""Steps that are not finite: passed over or stood still at, on one device, on two, in a sweep."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxseg import routes
from jaxseg.engine import feed, guard
from jaxseg.engine.method import AXIS, Carry, Method
from jaxseg.engine.update import init_state, make_update

NAN, INF = float("nan"), float("inf")


def method():
    """One weight drawn to the mean of the images; statistics and memory follow the images."""

    def init(key, batch):
        del key, batch
        params = {"gen": {"net": {"w": jnp.zeros(3)}}}
        return params, {"net": {"mean": jnp.zeros(())}}, {"seen": jnp.zeros((), jnp.int32)}

    def loss(params, carry, batch, key):
        del key
        x, w = batch["x"].mean(), params["gen"]["net"]["w"]
        # A negative mark spoils one thing only: -1 the loss, -2 the gradient, -3 the statistics.
        mark = batch["mark"].min()
        value = jnp.sum(jnp.square(w - x)) + jnp.where(mark == -1, NAN, 0.0)
        value += jnp.sum(jnp.sqrt(jnp.where(mark == -2, w * 0.0, 1.0)))  # slope 0 * infinity
        mean = 0.5 * carry.stats["net"]["mean"] + 0.5 * jnp.where(mark == -3, INF, x)
        memory = {"seen": carry.memory["seen"] + 1}
        metrics = {**carry.metrics, "term": value, "accuracy": jnp.float32(NAN)}
        stats = {"net": {"mean": mean}}
        return value, Carry(carry.step, stats, memory, carry.shared, metrics)

    return Method(init, {"gen": loss}, predict=None)


def batch(x, mark=0, where=0, size=2):
    marks = np.zeros((size, 1), np.float32)
    marks[where] = mark
    return {"x": np.full((size, 1), x, np.float32), "mark": marks}


@pytest.fixture(scope="module")
def steps():
    """(batches, skips, devices) -> (states, metrics) after each step; compiles once for each."""
    txs, made = {"gen": optax.adam(lambda count: 0.1 / (count + 1))}, {}

    def take(data, skips=0, devices=1):
        used = jax.devices()[:devices]
        if (skips, devices) not in made:
            made[skips, devices] = jax.pmap(
                make_update(method(), txs, 1, skips), AXIS, in_axes=(None, 0),
                out_axes=(None, None), devices=used,
            )  # fmt: skip
        state = jax.jit(lambda key: init_state(method(), txs, key, data[0]))(jax.random.PRNGKey(0))
        states, told = [jax.device_get(state)], []
        for each in data:
            state, metrics = made[skips, devices](state, feed.shard(each, used))
            states.append(jax.device_get(state))
            told.append({k: v.item() for k, v in jax.device_get(metrics).items()})
        return states, told

    return take


def same(a, b, but=()):
    for name in a._fields:
        if name not in but:
            jax.tree.map(np.testing.assert_array_equal, getattr(a, name), getattr(b, name))


@pytest.mark.parametrize("devices", [1, 2])
@pytest.mark.parametrize(
    ("mark", "names"),
    [
        (-1, {"loss/gen", "term", "accuracy"}),
        (-2, {"grad_norm/gen", "accuracy"}),
        (-3, {"the new stats"}),
    ],
)
def test_the_state_stands_still_before_the_first_bad_step(steps, devices, mark, names):
    # The image that spoils it is on the last device; good steps follow, as the host may be late.
    data = [batch(1.0), batch(2.0), batch(3.0, mark, where=1), batch(4.0), batch(5.0)]
    states, told = steps(data, 0, devices)
    assert [int(s.step) for s in states] == [0, 1, 2, 2, 2, 2]
    assert [int(s.skipped) for s in states] == [0, 0, 0, 1, 1, 1]
    for stood in states[3:]:
        same(stood, states[2], but=("skipped",))
    assert set(guard.wrong(told[2])) == names
    # An accuracy of nothing alone is not a reason.
    assert guard.wrong(told[1]) == [] and np.isnan(told[1]["accuracy"])


@pytest.mark.parametrize("devices", [1, 2])
def test_updates_are_passed_over_up_to_a_number(steps, devices):
    bad = batch(9.0, -1, where=1)
    states, told = steps([batch(1.0), bad, batch(2.0), bad, bad, batch(3.0)], 2, devices)
    assert [int(s.step) for s in states] == [0, 1, 2, 3, 4, 4, 4]
    assert [t["guard/skipped"] for t in told] == [0, 1, 1, 2, 3, 3]
    for before, after in ((1, 2), (3, 4)):
        same(states[after], states[before], but=("step", "opt", "skipped"))
        opts = [jax.tree.leaves(states[number].opt) for number in (before, after)]
        for old, new in zip(*opts, strict=True):
            counter = np.issubdtype(np.asarray(new).dtype, np.integer)
            np.testing.assert_array_equal(new, old + 1 if counter else old)
    same(states[5], states[4], but=("skipped",))
    # A good step between moves as it would have without the bad ones, but for Adam's counters.
    assert not np.array_equal(states[3].params["gen"]["net"]["w"],
                              states[2].params["gen"]["net"]["w"])  # fmt: skip


@pytest.mark.parametrize("skips", [0, 2])
def test_accelerators_choose_the_same_without_a_branch(steps, skips):
    bad = batch(9.0, -1, where=1)
    data = [batch(1.0), bad, batch(2.0), bad, bad]
    txs = {"gen": optax.adam(lambda count: 0.1 / (count + 1))}
    with routes.use("gpu"):
        update = jax.jit(jax.vmap(make_update(method(), txs, 1, skips), (None, 0), axis_name=AXIS))
        state = init_state(method(), txs, jax.random.PRNGKey(0), data[0])
        for each, wanted in zip(data, steps(data, skips)[0][1:], strict=True):
            state = jax.tree.map(
                lambda x: x[0], update(state, jax.tree.map(lambda x: x[None], each))[0]
            )
            same(state, wanted)


@pytest.mark.parametrize("mark", [0, -1])
def test_a_player_that_moved_first_goes_back_with_the_second(mark):
    """In turn, the second player's loss is bad after the first one has moved."""

    def init(key, batch):
        return {"gen": {"w": jnp.float32(1.0)}, "disc": {"v": jnp.float32(2.0)}}, {}, {}

    def gen(params, carry, batch, key):
        return params["gen"]["w"] * params["disc"]["v"], carry

    def disc(params, carry, batch, key):
        spoilt = jnp.where(batch["mark"].min() == -1, NAN, 0.0)
        return params["disc"]["v"] * params["gen"]["w"] + spoilt, carry

    play = Method(init, {"gen": gen, "disc": disc}, predict=None, alternate=True)
    txs = dict.fromkeys(("gen", "disc"), optax.sgd(0.1))
    state = init_state(play, txs, jax.random.PRNGKey(0), batch(1.0))
    update = jax.vmap(make_update(play, txs), (None, 0), axis_name=AXIS)
    after, _ = jax.tree.map(
        lambda x: x[0], update(state, jax.tree.map(lambda x: x[None], batch(1.0, mark)))
    )
    found = after.params["gen"]["w"], after.params["disc"]["v"]
    wanted = (1.0, 2.0) if mark else (1 - 0.1 * 2, 2 - 0.1 * (1 - 0.1 * 2))
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


def test_members_of_a_sweep_stand_still_one_by_one():
    """Under vmap, as a sweep computes them: the second member's weights overflow its loss."""
    txs = {"gen": optax.sgd(0.1)}
    start = init_state(method(), txs, jax.random.PRNGKey(0), batch(1.0))
    wild = start._replace(params=jax.tree.map(lambda w: w + 1e30, start.params))
    state = jax.tree.map(lambda *leaves: jnp.stack(leaves), start, wild)
    update = jax.vmap(make_update(method(), txs), (0, None))
    taken = jax.pmap(update, AXIS, in_axes=(None, 0), out_axes=(None, None),
                     devices=jax.devices()[:2])  # fmt: skip
    for _ in range(2):
        state, metrics = taken(state, feed.shard(batch(1.0), jax.devices()[:2]))
    assert state.step.tolist() == [2, 0] and guard.skipped(metrics) == [0, 1]
    np.testing.assert_array_equal(state.params["gen"]["net"]["w"][1], np.full(3, np.float32(1e30)))
    np.testing.assert_allclose(state.params["gen"]["net"]["w"][0], 0.36, rtol=1e-6)


def test_norms_are_those_of_the_mean_gradient(steps):
    states, told = steps([batch(2.0)], 0, 2)
    # d/dw sum((w - 2)^2) = -4 for each of three weights that are 0
    assert told[0]["grad_norm/gen"] == pytest.approx(4 * np.sqrt(3), rel=1e-6)
    assert guard.norm({"a": jnp.float32([3.0]), "b": jnp.float32([[4.0]])}) == 5.0


def test_sound_steps_are_those_of_the_optimiser():
    """Against two steps of SGD with momentum by hand."""
    tx = optax.sgd(0.1, momentum=0.9)
    data = [batch(1.0), batch(3.0)]
    update = jax.pmap(make_update(method(), {"gen": tx}), AXIS, in_axes=(None, 0),
                      out_axes=(None, None), devices=jax.devices()[:1])  # fmt: skip
    state = init_state(method(), {"gen": tx}, jax.random.PRNGKey(0), data[0])
    w, trace = np.zeros(3, np.float32), np.zeros(3, np.float32)
    for each in data:
        state, _ = update(state, feed.shard(each, jax.devices()[:1]))
        gradient = np.float32(2) * (w - np.float32(each["x"].mean()))
        trace = gradient + np.float32(0.9) * trace
        w = w - np.float32(0.1) * trace
    np.testing.assert_allclose(state.params["gen"]["net"]["w"], w, rtol=1e-6)


def test_large_leaves_are_examined_as_well():
    leaf = np.zeros(2 * guard.SMALL, np.float32)
    for value in (NAN, INF, -INF):
        bad = leaf.copy()
        bad[-7] = value
        assert not guard._finite({"a": 0}, {"a": jnp.asarray(bad)})
    assert guard._finite({"a": 0, "n": 0}, {"a": jnp.asarray(leaf), "n": jnp.int32(3)})
