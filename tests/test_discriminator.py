"""Discriminators beyond the published one: spectral norm, initial values, second derivatives."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from kit.oracle64 import count, quick

from jaxseg.errors import UserError
from jaxseg.experiment import networks
from jaxseg.models.discriminator import Discriminator, PixelDiscriminator
from jaxseg.models.layers.spectral import largest_singular_value
from jaxseg.models.network import network

KEY = jax.random.PRNGKey(0)
SPECTRAL = network(Discriminator(2, spectral=True))


def singular_values(kernel):
    return np.linalg.svd(np.float64(kernel).reshape(-1, kernel.shape[-1]), compute_uv=False)


def maps(seed=0, size=(32, 48), batch=2):
    return np.random.default_rng(seed).normal(size=(batch, *size, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def begun():
    return quick(SPECTRAL.init, KEY, maps())


def test_parameters_stay_the_published_ones():
    x = jax.ShapeDtypeStruct((1, 64, 64, 19), np.float32)
    plain, none = jax.eval_shape(network(Discriminator()).init, KEY, x)
    spectral, stats = jax.eval_shape(network(Discriminator(spectral=True)).init, KEY, x)
    assert count(plain) == count(spectral) == 2_781_121 and none == {}
    assert jax.tree.structure(plain) == jax.tree.structure(spectral)
    assert {name: leaf["u"].shape[0] for name, leaf in stats.items()} == {
        "conv1": 64, "conv2": 128, "conv3": 256, "conv4": 512, "conv5": 1
    }  # fmt: skip


@pytest.mark.parametrize("shape", [(4, 4, 3, 8), (1, 1, 5, 12), (4, 4, 6, 1)])
def test_sigma_against_the_singular_values(shape):
    generator = np.random.default_rng(0)
    kernel = generator.normal(size=shape).astype(np.float32)
    start = generator.normal(size=shape[-1:]).astype(np.float32)
    start /= np.linalg.norm(start)
    run = jax.jit(largest_singular_value, static_argnums=2)
    matrix = np.float64(kernel).reshape(-1, shape[-1])
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    estimates = [run(kernel, start, rounds)[0] for rounds in (0, 1, 400)]
    assert all(a <= b * (1 + 1e-5) for a, b in zip(estimates, estimates[1:], strict=False))
    np.testing.assert_allclose(estimates[-1], values[0], rtol=1e-5)
    # d sigma / d kernel is the outer product of the singular vectors.
    slope = jax.grad(lambda k: largest_singular_value(k, start, 400)[0])(kernel)
    want = np.outer(left[:, 0], right[0]).reshape(shape)
    np.testing.assert_allclose(slope, want, atol=2e-3)


def test_vectors_begin_close_and_move_in_training_only(begun):
    params, stats = begun
    x = maps()
    apply = jax.jit(SPECTRAL.apply, static_argnums=3)
    same, after = apply(params, stats, x, False)
    assert after is stats or all(
        np.array_equal(a, b)
        for a, b in zip(jax.tree.leaves(after), jax.tree.leaves(stats), strict=True)
    )
    now = stats
    for _ in range(60):
        outputs, now = apply(params, now, x, True)
    assert jax.tree.structure(now) == jax.tree.structure(stats)
    for name in ("conv1", "conv2", "conv3", "conv4"):
        assert not np.array_equal(now[name]["u"], stats[name]["u"])
    for name, layer in params.items():
        kernel, true = layer["kernel"], singular_values(layer["kernel"])[0]
        first, last = (
            largest_singular_value(kernel, s[name]["u"], 0)[0] for s in (stats, now)
        )  # fmt: skip
        assert 0.9 * true < first <= last * (1 + 1e-6)
        np.testing.assert_allclose(last, true, rtol=2e-3)
    # The same as the plain network with the kernels divided.
    divided = {
        name: {**layer, "kernel": layer["kernel"] / singular_values(layer["kernel"])[0]}
        for name, layer in params.items()
    }
    divided = jax.tree.map(np.float32, divided)
    plain, _ = network(Discriminator(2)).apply(divided, {}, x, True)
    np.testing.assert_allclose(outputs["score"], plain["score"], rtol=0.01, atol=1e-4)
    assert np.isfinite(same["score"]).all()


def test_scores_do_not_depend_on_the_kernels_size(begun):
    params, stats = begun
    grown = {
        name: {**layer, "kernel": 7 * layer["kernel"]} for name, layer in params.items()
    }  # fmt: skip
    apply = jax.jit(SPECTRAL.apply, static_argnums=3)
    np.testing.assert_allclose(
        apply(grown, stats, maps(), False)[0]["score"],
        apply(params, stats, maps(), False)[0]["score"],
        rtol=1e-4, atol=1e-6,
    )  # fmt: skip


def test_a_method_without_statistics_is_told(begun):
    with pytest.raises(UserError, match="--config.disc.spectral=False"):
        SPECTRAL.apply(begun[0], {}, maps(), True)


@pytest.mark.parametrize("spectral", [False, True])
@pytest.mark.parametrize("kind", [Discriminator, PixelDiscriminator])
def test_first_values(kind, spectral):
    module = kind(8, init_std=1e-3, spectral=spectral)
    params, _ = quick(network(module).init, KEY, maps())
    for layer in params.values():
        np.testing.assert_array_equal(layer["bias"], np.zeros_like(layer["bias"]))
    assert np.std(params["conv2"]["kernel"]) == pytest.approx(1e-3, rel=0.1)


@pytest.mark.parametrize("spectral", [False, True])
@pytest.mark.parametrize("kind, side", [(Discriminator, 4), (PixelDiscriminator, 1)])
def test_twice_differentiable(kind, side, spectral):
    """Gradients of sum |d score / d x|^2 for parameters and maps, against XLA's convolutions."""
    net = network(kind(1, spectral=spectral))
    x = maps(batch=1)
    params, stats = quick(net.init, KEY, x)
    params = jax.tree.map(lambda leaf: 2 * leaf, params)

    def ours(params, x):
        return net.apply(params, stats, x, True)[0]["score"]

    # The singular value as one round of the iteration estimates it, vectors fixed.
    vectors = {}
    for name, layer in params.items() if spectral else ():
        matrix = np.float64(layer["kernel"]).reshape(-1, layer["kernel"].shape[-1])
        u = matrix.T @ (matrix @ stats[name]["u"])
        v = matrix @ u
        vectors[name] = np.float32(np.outer(v, u) / np.linalg.norm(v) / np.linalg.norm(u))

    def plain(params, x):
        for index, (name, layer) in enumerate(sorted(params.items())):
            x = jnp.where(x > 0, x, 0.2 * x) if index else x
            kernel = layer["kernel"]
            if spectral:
                kernel = kernel / jnp.sum(kernel * vectors[name].reshape(kernel.shape))
            stride, padding = (2, 1) if side == 4 else (1, 0)
            x = lax.conv_general_dilated(
                x, kernel, (stride,) * 2, ((padding,) * 2,) * 2,
                dimension_numbers=("NHWC", "HWIO", "NHWC"), precision="highest",
            ) + layer["bias"]  # fmt: skip
        return x

    def penalty(score, params, x):
        # A sine, since without a curve no gradient would reach the biases and the maps.
        slope = jax.grad(lambda x: jnp.sum(jnp.sin(score(params, x))))(x)
        return jnp.sum(jnp.square(slope))

    def both(params, x):
        return [jax.grad(penalty, (1, 2))(score, params, x) for score in (ours, plain)]

    got, want = quick(both, params, x)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert np.any(b)
        np.testing.assert_allclose(a, b, atol=2e-4 * np.abs(b).max())


def test_by_config():
    config = importlib.import_module("configs.advent").get_config("streets+scratch")
    assert not config.disc.spectral and config.disc.init_std == 0
    config.disc.update(dict(spectral=True, init_std=1e-3))
    x = jax.ShapeDtypeStruct((1, 64, 64, 5), np.float32)
    _, stats = jax.eval_shape(networks.discriminator(config).init, KEY, x)
    assert set(stats) == {f"conv{i}" for i in range(1, 6)}
    config.disc.init_std = -0.1
    with pytest.raises(UserError, match="config.disc.init_std=-0.1: it cannot be negative"):
        networks.discriminator(config)
