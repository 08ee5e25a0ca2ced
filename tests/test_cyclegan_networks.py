"""CycleGAN's networks: sizes, receptive field, and published files against the reference's output.

fixtures/cyclegan.npz holds what the reference's layers give in PyTorch for weights and images that
are drawn here again.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from kit.oracle64 import count, quick

from jaxseg.models import cyclegan
from jaxseg.models.network import network
from jaxseg.storage.weights import merge, rename_cyclegan

EXPECTED = np.load(Path(__file__).parent / "fixtures" / "cyclegan.npz")


def abstract(module, size, batch=1):
    images = jax.ShapeDtypeStruct((batch, *size, 3), np.float32)
    params, _ = jax.eval_shape(network(module).init, jax.random.PRNGKey(0), images)
    outputs, _ = jax.eval_shape(lambda p, x: network(module).apply(p, {}, x, True), params, images)
    return params, outputs


def test_published_sizes():
    params, outputs = abstract(cyclegan.Generator(), (256, 256))
    assert count(params) == 11_378_179 and outputs["image"].shape == (1, 256, 256, 3)
    params, outputs = abstract(cyclegan.PatchGan(), (256, 256))
    assert count(params) == 2_764_737 and outputs["score"].shape == (1, 30, 30, 1)


@pytest.mark.parametrize("size", [(8, 12), (100, 64), (376, 1240)])
def test_the_generator_keeps_multiples_of_4(size):
    assert abstract(cyclegan.Generator(2, 1), size)[1]["image"].shape == (1, *size, 3)


@pytest.mark.parametrize("size", [(10, 12), (12, 10), (4, 4)])
def test_other_sizes_are_refused(size):
    with pytest.raises(ValueError, match="divide by 4"):
        abstract(cyclegan.Generator(2, 1), size)
    with pytest.raises(ValueError, match="too small"):
        abstract(cyclegan.PatchGan(2), size)


@pytest.mark.parametrize("layers, seen", [(1, 16), (2, 34), (3, 70)])
def test_receptive_field(layers, seen, monkeypatch):
    """Pixels that move one score; without the norms, which couple all pixels."""
    monkeypatch.setattr(cyclegan, "Norm", lambda *_, **__: lambda x, *_: x)
    module = cyclegan.PatchGan(1, layers)
    x = jnp.ones((1, 96, 96, 3))

    def middle(key, x):
        params = jax.tree.map(jnp.ones_like, module.init(key, x)["params"])
        scores = lambda x: module.apply({"params": params}, x)["score"]  # noqa: E731
        place = scores(x).shape[1] // 2
        return jax.grad(lambda x: scores(x)[0, place, place, 0])(x)

    slopes = np.asarray(quick(middle, jax.random.PRNGKey(0), x))[0, :, :, 0]
    assert (slopes != 0).any(0).sum() == (slopes != 0).any(1).sum() == seen


def test_doubling_is_the_transposed_convolution():
    draw = np.random.default_rng(0)
    x, kernel = draw.normal(size=(2, 3, 5, 2)), draw.normal(size=(3, 3, 2, 4))
    whole = np.zeros((2, 2 * 3 + 1, 2 * 5 + 1, 4))
    for i, j, a, b in np.ndindex(3, 5, 3, 3):
        whole[:, 2 * i + a, 2 * j + b] += x[:, i, j] @ kernel[a, b]
    padded = np.pad(whole, ((0, 0), (0, 1), (0, 1), (0, 0)))  # output padding 1
    expected = padded[:, 1:7, 1:11]  # padding 1
    found = cyclegan.doubled(jnp.asarray(x, jnp.float32), jnp.asarray(kernel, jnp.float32))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def names(blocks):
    """{name in the published file: shape} of a generator of width 6, in PyTorch's layout."""
    found = {"model.1": (6, 3, 7, 7), "model.4": (12, 6, 3, 3), "model.7": (24, 12, 3, 3)}
    for block in range(10, 10 + blocks):
        found |= {f"model.{block}.conv_block.{place}": (24, 24, 3, 3) for place in (1, 5)}
    last = 10 + blocks
    found |= {f"model.{last}": (24, 12, 3, 3), f"model.{last + 3}": (12, 6, 3, 3)}
    return found | {f"model.{last + 7}": (3, 6, 7, 7)}


def drawn(kernels, biases, seed):
    """The fixture's weights: N(0, 0.1) in the order of the names."""
    draw = np.random.default_rng(seed)
    shapes = {f"{name}.weight": shape for name, shape in kernels.items()}
    shapes |= {f"{name}.bias": (biases[name],) for name in kernels}
    return {name: draw.normal(0, 0.1, shapes[name]).astype(np.float32) for name in sorted(shapes)}


def image():
    flat = np.random.default_rng(3).uniform(-1, 1, (1, 3, 64, 64)).astype(np.float32)
    return flat.transpose(0, 2, 3, 1)


def output(module, tensors, x, level):
    empty = jax.eval_shape(network(module).init, jax.random.PRNGKey(0), x)
    empty = jax.tree.map(lambda leaf: np.full(leaf.shape, np.nan, leaf.dtype), empty)
    params, _, report = merge.merge(*empty, tensors)
    assert not (report.left_over or report.missing or report.mismatched)
    return quick(lambda p, x: network(module).apply(p, {}, x, False)[0][level], params, x)[0]


def test_a_published_generator_gives_the_references_image():
    kernels = names(2)
    last = {"model.12": 12, "model.15": 6}  # transposed: outputs come second
    tensors = drawn(
        kernels, {name: last.get(name, shape[0]) for name, shape in kernels.items()}, 11
    )
    assert rename_cyclegan.is_generator(tensors) and rename_cyclegan.sizes(tensors) == (6, 2)
    old = {
        **tensors, "model.2.running_mean": np.zeros(6, np.float32),
        "model.2.num_batches_tracked": np.zeros((), np.int64),
    }  # fmt: skip
    found = output(
        cyclegan.Generator(6, 2), rename_cyclegan.generator(old), image()[:, :20, :24], "image"
    )
    assert np.abs(found - EXPECTED["image"]).max() < 1e-4


def test_a_published_discriminator_gives_the_references_scores():
    kernels = {
        "model.0": (4, 3, 4, 4), "model.2": (8, 4, 4, 4), "model.5": (16, 8, 4, 4),
        "model.8": (32, 16, 4, 4), "model.11": (1, 32, 4, 4),
    }  # fmt: skip
    tensors = drawn(kernels, {name: shape[0] for name, shape in kernels.items()}, 12)
    assert not rename_cyclegan.is_generator(tensors)
    found = output(cyclegan.PatchGan(4), rename_cyclegan.discriminator(tensors), image(), "score")
    assert np.abs(found - EXPECTED["score"]).max() < 1e-4 * EXPECTED["score"].std()
