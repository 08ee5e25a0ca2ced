"""Compares networks with the references' outputs in fixtures/transformers.npz."""

import jax
import numpy as np

from jaxseg.models.layers import layers
from jaxseg.storage.weights import merge
from kit import published
from kit.oracle64 import shapes


def zeros(module, size):
    """(params, stats) of a module for images of `size`."""
    return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes(module, size))


def loaded(module, size, ours):
    """(params, stats) of a module for images of `size`, all of them from {path: array}."""
    empty = jax.tree.map(lambda leaf: np.full(leaf.shape, np.nan, leaf.dtype), shapes(module, size))
    params, stats, report = merge.merge(*empty, ours)
    assert not (report.left_over or report.missing or report.mismatched)
    return params, stats


def nested(flat):
    """{'a/b/c': leaf} as nested dicts."""
    tree = {}
    for path, leaf in flat.items():
        *groups, last = path.split("/")
        node = tree
        for group in groups:
            node = node.setdefault(group, {})
        node[last] = leaf
    return tree


def picture(size):
    """The normalised input."""
    return np.asarray(
        layers.preprocess(published.image(size), layers.IMAGENET_MEAN, layers.IMAGENET_STD)
    )


def sample(key, output):
    """The values of [1, h, w, K] that the fixture stores."""
    flat = np.asarray(output)[0].transpose(2, 0, 1).ravel()
    return flat[published.positions(key, flat.size)]


def check(expected, network, outputs, size):
    """Compares {level: [1, h, w, K]} with the reference's output, to 1e-4 of its spread."""
    for level, output in outputs.items():
        key = f"{network}/{level}/{size[0]}x{size[1]}"
        want = expected[key]
        assert np.abs(sample(key, output) - want).max() < 1e-4 * want.std(), key
