"""The image pool and the moving average against plain Python and float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from kit.small import run

from jaxseg.engine.method import AXIS, Method
from jaxseg.methods.parts import memory as parts_memory

SHAPE = (2, 3, 1)


def numbered(first, count):
    """Images filled with their number."""
    values = jnp.arange(first, first + count, dtype=jnp.float32)
    return jnp.broadcast_to(values[:, None, None, None], (count, *SHAPE))


@functools.cache
def over_devices(devices):
    """(memory, images [N, ...], key, chance) -> (shown images of all devices, memory)."""
    function = jax.pmap(
        parts_memory.pooled, AXIS, in_axes=(None, 0, 0, None), devices=jax.devices()[:devices]
    )

    def pooled(memory, images, key, chance):
        keys = jnp.stack([jax.random.fold_in(key, i) for i in range(devices)])  # they differ
        cut = images.reshape(-1, devices, *images.shape[1:]).swapaxes(0, 1)
        shown, found = jax.device_get(function(memory, cut, keys, chance))
        for leaf in jax.tree.leaves(found):
            assert (leaf == leaf[:1]).all()  # the same on every device
        return shown.swapaxes(0, 1).reshape(images.shape), jax.tree.map(lambda x: x[0], found)

    return pooled


def pool_run(devices, steps=12, batch=4, room=5, chance=0.5):
    """Numbers of the images shown and kept, step by step."""
    memory, shown, kept = parts_memory.empty_pool(room, SHAPE), [], []
    for step in range(steps):
        key = jax.random.PRNGKey(step)
        given = numbered(step * batch, batch)
        images, memory = over_devices(devices)(memory, given, key, chance)
        assert (images == images[:, :1, :1, :1]).all()  # images come out whole
        shown += images[:, 0, 0, 0].tolist()
        kept.append(memory["images"][:, 0, 0, 0].tolist())
        assert int(memory["seen"]) == min(room, (step + 1) * batch)
    return shown, kept


def test_the_pool_follows_the_rules_of_cyclegans():
    """Shown images reveal the draws; a plain list with the same draws ends in the same state."""
    room, batch = 5, 4
    shown, kept = pool_run(1, room=room, batch=batch)
    pool, swaps = [], 0
    for number, seen in enumerate(shown):
        if len(pool) < room:
            assert seen == number  # while it fills, everything is kept and shown
            pool.append(number)
        elif seen != number:
            pool[pool.index(seen)] = number  # IndexError: what was shown was not in the pool
            swaps += 1
        if number % batch == batch - 1:
            step = number // batch
            assert kept[step][: len(pool)] == pool
    assert 10 <= swaps <= 33  # of 43 with a chance of one half


def test_the_number_of_devices_does_not_matter():
    assert pool_run(1) == pool_run(2)


def test_chances_of_zero_and_one():
    shown, kept = pool_run(2, chance=0.0)
    assert shown == list(range(48)) and kept[-1] == [0, 1, 2, 3, 4]
    shown, kept = pool_run(2, chance=1.0)
    assert all(seen < number for number, seen in enumerate(shown) if number >= 5)
    assert len(set(shown[5:])) == 43  # nothing leaves the pool twice


def test_the_pool_keeps_its_type_and_passes_no_gradient():
    memory = parts_memory.empty_pool(2, SHAPE, jnp.bfloat16)
    images = jax.random.normal(jax.random.PRNGKey(0), (1, 2, *SHAPE))

    def total(x, memory):
        shown, memory = parts_memory.pooled(memory, x, jax.random.PRNGKey(1))
        return shown.sum(), memory

    graded = jax.pmap(jax.grad(total, has_aux=True), AXIS, in_axes=(0, None),
                      devices=jax.devices()[:1])  # fmt: skip
    slope, found = graded(images, memory)
    assert not np.asarray(slope).any()
    assert found["images"].dtype == jnp.bfloat16 and found["seen"].dtype == jnp.int32
    np.testing.assert_allclose(
        found["images"][0].astype(jnp.float32), images[0], rtol=1e-2, atol=1e-6
    )
    with pytest.raises(ValueError, match="a pool of 0 images"):
        parts_memory.empty_pool(0, SHAPE)


def test_the_average_is_float64s_and_starts_as_a_plain_mean():
    draw, decay = np.random.default_rng(0), 0.9
    trees = [{"w": draw.normal(size=3), "n": np.int32(i)} for i in range(30)]
    average = {"w": jnp.full(3, 7.0), "n": jnp.int32(-1)}  # of no importance
    expected, update = 0.0, jax.jit(parts_memory.ema, static_argnums=2)
    for step, tree in enumerate(trees):
        average = update(average, jax.tree.map(jnp.asarray, tree), decay, jnp.int32(step))
        own = min(decay, 1 - 1 / (step + 1))
        expected = own * expected + (1 - own) * tree["w"]
        np.testing.assert_allclose(average["w"], expected, rtol=1e-5, atol=1e-6)
        assert int(average["n"]) == step
        if step == 9:  # 1 - 1 / 10 is the decay: so far it was the mean
            np.testing.assert_allclose(
                average["w"], np.mean([t["w"] for t in trees[:10]], 0), rtol=1e-5, atol=1e-6
            )
    slope = jax.grad(lambda x: parts_memory.ema(x, x, 0.5, 3).sum() - 0.5 * x.sum())(jnp.ones(2))
    np.testing.assert_allclose(slope, 0, atol=1e-7)  # through the average alone, none by the tree


def test_both_pass_through_the_update_whatever_the_number_of_devices():
    def init(key, batch):
        memory = {"pool": parts_memory.empty_pool(3, (2, 2, 1)), "average": {"w": jnp.zeros(())}}
        return {"gen": {"w": jnp.float32(2.0)}, "disc": {"v": jnp.float32(0.5)}}, {}, memory

    def disc(params, carry, batch, key):
        fakes = params["gen"]["w"] * batch["source_image"]
        shown, pool = parts_memory.pooled(carry.memory["pool"], fakes, key)
        carry = carry._replace(memory={**carry.memory, "pool": pool})
        return jnp.mean(params["disc"]["v"] * shown), carry

    def gen(params, carry, batch, key):
        average = parts_memory.ema(carry.memory["average"], params["gen"], 0.9, carry.step)
        carry = carry._replace(memory={**carry.memory, "average": average})
        return jnp.mean(params["disc"]["v"] * params["gen"]["w"] * batch["source_image"]), carry

    method = Method(init, {"disc": disc, "gen": gen}, predict=None, alternate=True)
    txs = {"gen": optax.sgd(0.1), "disc": optax.sgd(0.1)}
    draw = np.random.default_rng(0)
    data = [{"source_image": draw.normal(size=(4, 2, 2, 1)).astype(np.float32)} for _ in range(6)]
    ends = [run(method, txs, data, devices)[1] for devices in (1, 2)]
    for a, b in zip(*map(jax.tree.leaves, ends), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)
    _, cut, _ = run(method, txs, data, 2, accumulate=2)
    assert int(cut.memory["pool"]["seen"]) == 3 and np.isfinite(cut.memory["average"]["w"])
