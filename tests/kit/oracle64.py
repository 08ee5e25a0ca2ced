"""Float64 layers in NumPy and random values for networks, used by several tests."""

import math

import jax
import numpy as np

from jaxseg.models.network import network


def count(tree):
    """Number of values in a tree."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def shapes(module, size, batch=1):
    """(params, stats) of a module for images [batch, *size, 3], without computing anything."""
    images = jax.ShapeDtypeStruct((batch, *size, 3), np.float32)
    return jax.eval_shape(network(module).init, jax.random.PRNGKey(0), images)


def output_shapes(module, size, batch=1):
    """{level: shape} in training."""
    params, stats = shapes(module, size, batch)
    images = jax.ShapeDtypeStruct((batch, *size, 3), np.float32)
    outputs, _ = jax.eval_shape(
        lambda *values: network(module).apply(*values[:3], True, values[3]),
        params, stats, images, jax.ShapeDtypeStruct((2,), np.uint32),
    )  # fmt: skip
    assert all(output.dtype == np.float32 for name, output in outputs.items() if name != "window")
    return {level: output.shape for level, output in outputs.items()}


def drawn(module, size, seed=7):
    """Random (params, stats) without compiling `init`."""
    generator = np.random.default_rng(seed)

    def draw(path, leaf):
        noise = generator.normal(size=leaf.shape).astype(np.float32)
        name = path[-1].key
        if name == "kernel":
            return noise / np.float32(math.sqrt(math.prod(leaf.shape[:3])))
        return np.abs(noise) + np.float32(0.5) if name in ("scale", "var", "v") else noise / 5

    return jax.tree_util.tree_map_with_path(draw, shapes(module, size))


def quick(function, *args):
    """Runs a function once, compiled without optimisations, which would take most of the time."""
    options = {"xla_backend_optimization_level": 0}
    return jax.jit(function).lower(*args).compile(options)(*args)


def leaves(tree, prefix=""):
    """{'a/b/c': leaf}."""
    flat = {}
    for name, value in tree.items():
        nested = isinstance(value, dict)
        flat.update(leaves(value, f"{prefix}{name}/") if nested else {prefix + name: value})
    return flat


def conv(x, kernel, bias=0, stride=1, padding=0, dilation=1, groups=1):
    """Convolution of float64 [N, H, W, C], one product per kernel element."""
    x = np.pad(np.asarray(x, np.float64), ((0, 0), (padding,) * 2, (padding,) * 2, (0, 0)))
    kernel = np.asarray(kernel, np.float64)
    if groups > 1:
        parts = zip(np.split(x, groups, -1), np.split(kernel, groups, -1), strict=True)
        return np.concatenate([conv(a, k, 0, stride, 0, dilation) for a, k in parts], -1) + bias
    side = kernel.shape[0]
    rows, columns = ((n - (side - 1) * dilation - 1) // stride + 1 for n in x.shape[1:3])
    total = 0
    for i in range(side):
        for j in range(side):
            top, left = i * dilation, j * dilation
            part = x[:, top : top + rows * stride : stride, left : left + columns * stride : stride]
            total = total + part[:, :rows, :columns] @ kernel[i, j]
    return total + np.asarray(bias, np.float64)


def pool(x, window, stride):
    """Max-pooling whose last window may extend over the edge."""
    rows, columns = (-(-(n - window) // stride) + 1 for n in x.shape[1:3])
    y = np.empty((len(x), rows, columns, x.shape[3]))
    for i in range(rows):
        for j in range(columns):
            top, left = i * stride, j * stride
            y[:, i, j] = x[:, top : top + window, left : left + window].max((1, 2))
    return y


def slope(function, values, step=1e-5):
    """Central differences of a scalar function for each of its float64 arrays."""
    found = []
    for position, value in enumerate(values):
        gradient = np.zeros(value.shape)
        for index in np.ndindex(value.shape):
            sides = []
            for sign in (1, -1):
                moved = [v.copy() for v in values]
                moved[position][index] += sign * step
                sides.append(function(*moved))
            gradient[index] = (sides[0] - sides[1]) / (2 * step)
        found.append(gradient)
    return found
