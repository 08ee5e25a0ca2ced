"""The image transform network: near-identity, range, sizes, values in float64, gradients."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from kit.oracle64 import conv, count, quick

from configs.settings import translator as settings
from jaxseg.errors import UserError
from jaxseg.experiment import networks
from jaxseg.models.network import network
from jaxseg.models.translator import Translator, moved

K = 4
SMALL = Translator(4, 1, kernel=3)


def pictures(size=(20, 28), batch=2, seed=0):
    """Image in -1..1 with some white and black, one-hot labels with a void, depth with holes."""
    generator = np.random.default_rng(seed)
    image = generator.uniform(-1.3, 1.3, (batch, *size, 3)).clip(-1, 1)
    labels = generator.integers(0, K + 1, (batch, *size))
    one_hot = (labels[..., None] == np.arange(K)).astype(np.float32)
    depth = generator.uniform(-0.3, 1, (batch, *size, 1)).clip(0)
    return np.concatenate([image, one_hot, depth], -1).astype(np.float32)


def first(module, x, seed=0):
    """(params, image) with the initial values."""

    def run(key, x):
        params, stats = network(module).init(key, x)
        assert stats == {}
        return params, network(module).apply(params, stats, x, True)[0]["image"]

    return quick(run, jax.random.PRNGKey(seed), x)


def by_hand(width, blocks, kernel, channels):
    edges = kernel**2 * (channels * width + width * 3) + 3
    between = 9 * (2 * (width * 2 * width) + 2 * (2 * width * 4 * width))
    return edges + between + blocks * 2 * 9 * (4 * width) ** 2


@pytest.mark.parametrize("size", [(512, 1024), (375, 1242)])
def test_published_scale(size):
    x = jax.ShapeDtypeStruct((1, *size, 3 + 19 + 1), np.float32)
    net = network(Translator(dtype=jnp.bfloat16))
    params, stats = jax.eval_shape(net.init, jax.random.PRNGKey(0), x)
    assert count(params) == by_hand(64, 9, 7, 23) == 11_435_651
    outputs, _ = jax.eval_shape(lambda p, x: net.apply(p, stats, x, True), params, x)
    assert outputs["image"].shape == (1, *size, 3) and outputs["image"].dtype == jnp.float32
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(params))


@pytest.mark.parametrize("width, blocks, kernel", [(64, 9, 7), (16, 3, 3)])
def test_begins_near_the_identity(width, blocks, kernel):
    """A change by N(0, 0.001) kernels: a few of 255 grey levels; with zeros none at all."""
    x = pictures((24, 32), 1)
    _, image = first(Translator(width, blocks, kernel), x)
    change = np.abs(np.asarray(image) - x[..., :3]) * 127.5
    assert 0 < change.mean() < 6 and change.max() < 40
    if width == 16:
        _, image = first(Translator(width, blocks, kernel, init_std=0.0), x)
        np.testing.assert_array_equal(image, x[..., :3])


def test_first_values():
    params, _ = first(Translator(8, 1, 3), pictures())
    for name in ("first", "down1", "up2", "last"):
        assert np.std(params[name]["kernel"]) == pytest.approx(1e-3, rel=0.2)
    assert np.std(params["block1"]["conv2"]["kernel"]) == pytest.approx(1e-3, rel=0.1)
    np.testing.assert_array_equal(params["last"]["bias"], np.zeros(3))


def test_range_holds_and_white_and_black_can_be_left():
    share = np.linspace(-1, 1, 2001, dtype=np.float32)[:, None]
    image = np.append(np.linspace(-1, 1, 333, dtype=np.float32), np.float32([1 / 3, -1, 1]))[None]
    found = np.asarray(jax.jit(moved)(*np.broadcast_arrays(image, share)))
    assert found.min() == -1 and found.max() == 1
    np.testing.assert_array_equal(found[1000], image[0])
    np.testing.assert_allclose(found[0], -1)
    np.testing.assert_allclose(found[-1], 1)
    slope = jax.grad(moved, argnums=1)
    assert slope(1.0, -0.01) == 2 and slope(-1.0, 0.01) == 2 and slope(0.5, 0.0) == 1
    # A network whose last layer is far off stays within as well.
    x = pictures()
    params, _ = first(SMALL, x)
    params["last"]["kernel"] = 1e3 * params["last"]["kernel"]
    for residual in (True, False):
        net = network(SMALL.clone(residual=residual))
        image = quick(lambda p, x, net=net: net.apply(p, {}, x, True)[0]["image"], params, x)
        assert np.abs(image).max() <= 1 and np.abs(image).max() > 0.5


@pytest.mark.parametrize("size", [(21, 30), (23, 33), (5, 7)])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_every_size(size, dtype):
    x = pictures(size, 1)
    _, image = first(SMALL.clone(dtype=dtype), x)
    assert image.shape == (1, *size, 3) and image.dtype == jnp.float32
    assert np.abs(image - x[..., :3]).max() < 0.3


def test_against_float64():
    x = pictures((9, 11))
    params, _ = first(SMALL.clone(init_std=0.3), x)
    net = network(SMALL)
    got = quick(lambda p, x: net.apply(p, {}, x, False)[0]["image"], params, x)

    def block(y, p, stride=1, rectify=True):
        y = conv(y, p["kernel"], stride=stride, padding=1)
        y = y - y.mean((1, 2), keepdims=True)
        y = y / np.sqrt((y**2).mean((1, 2), keepdims=True) + 1e-5)
        return np.maximum(y, 0) if rectify else y

    full = block(x, params["first"])
    half = block(full, params["down1"], 2)
    y = block(half, params["down2"], 2)
    p = params["block1"]
    y = y + block(block(y, p["conv1"]), p["conv2"], rectify=False)
    for name, size in (("up1", half.shape), ("up2", full.shape)):
        y = np.kron(y, np.ones((1, 2, 2, 1)))[:, : size[1], : size[2]]
        y = block(y, params[name])
    share = np.tanh(conv(y, params["last"]["kernel"], params["last"]["bias"], padding=1))
    image = np.float64(x[..., :3])
    want = np.where(share > 0, image + share * (1 - image), image + share * (1 + image))
    np.testing.assert_allclose(got, want, atol=2e-5)


def test_gradients_reach_every_parameter_and_the_image():
    x = pictures((13, 18))
    params, _ = first(SMALL, x)

    def loss(params, x):
        return jnp.mean(jnp.square(network(SMALL).apply(params, {}, x, True)[0]["image"] - 0.2))

    gradient, to_x = quick(jax.grad(loss, (0, 1)), params, x)
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
        assert np.isfinite(leaf).all() and np.any(leaf), jax.tree_util.keystr(path)
    assert all(np.any(to_x[..., channel]) for channel in range(x.shape[-1]))


def test_labels_and_depth_count():
    """After training, the output depends on every kind of input, but on no other image."""
    x = pictures((12, 16))
    params, _ = first(SMALL.clone(init_std=0.1), x)
    run = jax.jit(lambda x: network(SMALL).apply(params, {}, x, True)[0]["image"])
    before = np.asarray(run(x))
    for channel in (0, 3, 3 + K):
        other = x.copy()
        other[0, ..., channel] = other[0, ..., channel][::-1]
        after = np.asarray(run(other))
        assert not np.allclose(after[0], before[0], atol=1e-4)
        np.testing.assert_allclose(after[1], before[1], atol=1e-6)


# --- by config ---


def configured(**given):
    config = importlib.import_module("configs.source_only").get_config("streets+scratch")
    with config.unlocked():
        config.translator = settings(**given)
    return networks.translator(config)


def test_by_config():
    net = configured(width=8, blocks=2, kernel=3)
    x = jax.ShapeDtypeStruct((1, 96, 192, 23), np.float32)
    params, stats = jax.eval_shape(net.init, jax.random.PRNGKey(0), x)
    assert count(params) == by_hand(8, 2, 3, 23) and stats == {}


@pytest.mark.parametrize(
    "given, message",
    [
        (dict(kernel=4), "config.translator.kernel=4: give an odd number"),
        (dict(width=0), "config.translator.width=0: it must be at least 1"),
        (dict(blocks=-1), "config.translator.blocks=-1: it must be at least 0"),
        (dict(init_std=-1e-3), "config.translator.init_std=-0.001: it must be at least 0"),
        (dict(dtype="float16"), "config.translator.dtype='float16'; choose one of float32"),
    ],
)
def test_settings_that_cannot_work(given, message):
    with pytest.raises(UserError, match=message):
        configured(**given)
