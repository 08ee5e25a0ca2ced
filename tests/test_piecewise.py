"""A program evaluated operation by operation gives the compiled program's results, bit for bit."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from kit.small import small_config

from jaxseg.engine import piecewise
from jaxseg.engine.update import init_state
from jaxseg.experiment import networks
from jaxseg.experiment.method import make_method
from jaxseg.experiment.optimisers import make_optimisers
from jaxseg.experiment.state import example, first_states
from jaxseg.models.layers import layers
from jaxseg.models.layers.spectral import largest_singular_value

QUICK = {"xla_backend_optimization_level": 0}  # as initialisations were compiled


def same(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    pairs = zip(jax.tree_util.tree_leaves_with_path(found), jax.tree.leaves(expected), strict=True)
    for (path, ours), theirs in pairs:
        assert isinstance(ours, np.ndarray) and ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs, err_msg=jax.tree_util.keystr(path))


def draws(key, unused):
    """All ways in which the networks draw their first values."""
    keys = jax.random.split(key, 6)
    long = (3, 3, 50, 60)  # more than a block, and no multiple of one
    kernel = layers.he_normal(keys[0], long)
    return {
        "he": kernel,
        "normal": nn.initializers.normal(0.01)(keys[1], (7, 5, 3)),
        "plain": jax.random.normal(keys[1], (19,)),
        "twice": 0.3 * (0.7 * jax.random.normal(keys[2], (11,))),
        "uniform": layers.torch_uniform(keys[3], (1, 1, 20, 30)),
        "bias": layers.torch_bias(27)(keys[4], (2 * piecewise.BLOCK,)),
        "one": jax.random.uniform(keys[4]),
        "whole": jax.random.randint(keys[5], (9,), 0, 100),
        "moments": (jnp.zeros_like(kernel), jnp.zeros_like(kernel)),
        "ones": jnp.ones((3, 2)),
        "same": [keys[0], keys[0], key],
        "computed": largest_singular_value(kernel[0, 0], jnp.ones(60), 2)[1] > 0,
        "count": jnp.zeros((), jnp.int32),
    }


def test_draws_are_those_of_the_compiled_program():
    key = jax.random.PRNGKey(7)
    expected = jax.jit(draws, compiler_options=QUICK)(key, jnp.ones(3))
    same(piecewise.evaluated(draws, key, jnp.ones(3)), expected)


def test_other_generators_are_left_to_jax():
    def some(key):
        return {"normal": jax.random.normal(key, (6,)), "uniform": jax.random.uniform(key, (6,))}

    with jax.threefry_partitionable(False):
        expected = some(jax.random.PRNGKey(7))
        same(piecewise.evaluated(some, jax.random.PRNGKey(7)), expected)


def test_no_two_results_share_memory():
    found = piecewise.evaluated(draws, jax.random.PRNGKey(0), jnp.ones(3))
    leaves = [leaf for leaf in jax.tree.leaves(found) if leaf.size]
    assert all(leaf.flags.writeable for leaf in leaves)
    places = [leaf.__array_interface__["data"][0] for leaf in leaves]
    assert len(set(places)) == len(places)


def test_first_states_are_those_of_the_compiled_program(tmp_path):
    """Of a method with two players and a memory, for two seeds."""
    config = small_config("advent_prior", tmp_path)
    config.net.update(dict(backbone="vgg_tiny", aux=False))
    networks.settle(config)
    method, players = make_method(config), make_optimisers(config)
    batch = example(config, method)
    compiled = jax.jit(
        lambda key: init_state(method, players.txs, key, batch), compiler_options=QUICK
    )
    for seed, state in zip((0, 5), first_states(config, method, players, (0, 5)), strict=True):
        same(state, compiled(jax.random.PRNGKey(seed)))
