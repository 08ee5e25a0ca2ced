"""Parameter counts and values of networks that are compared with float64."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from jaxseg.models.layers import layers
from jaxseg.models.network import network

KEY = jax.random.PRNGKey(0)


def count(tree):
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def values_for(net, images):
    """Parameters and statistics of random values, without compiling `init`."""
    generator = np.random.default_rng(7)

    def draw(path, leaf):
        noise = generator.normal(size=leaf.shape).astype(np.float32)
        name = path[-1].key
        if name == "kernel":
            return noise / np.float32(math.sqrt(math.prod(leaf.shape[:3])))
        return np.abs(noise) + np.float32(0.5) if name in ("scale", "var") else noise / 5

    return jax.tree_util.tree_map_with_path(draw, jax.eval_shape(net.init, KEY, images))


def shapes_of(module, shape, dtype=jnp.uint8):
    net = network(module, layers.preprocess if shape[-1] == 3 else None)
    images = jax.ShapeDtypeStruct(shape, dtype)
    params, stats = jax.eval_shape(net.init, KEY, images)
    outputs, new_stats = jax.eval_shape(
        functools.partial(net.apply, train=True), params, stats, images
    )
    assert jax.tree.map(lambda a: (a.shape, a.dtype), stats) == jax.tree.map(
        lambda a: (a.shape, a.dtype), new_stats
    )
    assert all(output.dtype == jnp.float32 for output in outputs.values())
    return params, {level: output.shape for level, output in outputs.items()}


def draw_initial(module, shape):
    """Runs `init`, compiled without optimisation: it runs once, and LLVM takes seconds for it."""
    lowered = jax.jit(network(module).init).lower(KEY, jnp.zeros(shape))
    return lowered.compile(compiler_options={"xla_backend_optimization_level": 0})(
        KEY, jnp.zeros(shape)
    )
