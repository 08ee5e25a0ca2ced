"""VGG-16 trunks: published sizes, float64 transcription, geometry of the front-end, initials."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from kit.networks import count, draw_initial, shapes_of, values_for
from kit.tensors import loop_conv

from jaxseg.errors import UserError
from jaxseg.models.backbones import vgg
from jaxseg.models.layers import layers
from jaxseg.models.layers.conv import conv2d
from jaxseg.models.network import network
from jaxseg.models.segmenters.deeplabv2 import DeepLabV2

# VGG-16 has 138 357 544 parameters; its three fully connected layers have these.
FC6, FC7, FC8 = 25088 * 4096 + 4096, 4096 * 4096 + 4096, 4096 * 1000 + 1000
CONVOLUTIONS = 138_357_544 - FC6 - FC7 - FC8
TINY = vgg.Sizes((2, 1, 1, 1, 2), (2, 3, 2, 3, 2), vgg.Full(3, 4, 3), vgg.Full(3, 4, 4))
TINY_FRONTEND = TINY._replace(fc6=vgg.Full(7, 4, 3), fc7=vgg.Full(1, 1, 4), score=True)


@pytest.mark.parametrize(
    "backbone, channels, parameters",
    [
        ("vgg16", 1024, 9 * 512 * 1024 + 1024 + 9 * 1024**2 + 1024 + 4 * (9 * 1024 * 19 + 19)),
        ("vgg16_frontend", 4096, FC6 + FC7 + 4096 * 19 + 19),
    ],
)
@pytest.mark.parametrize(
    "size, logits", [((512, 1024), (64, 128)), ((345, 611), (43, 76)), ((720, 1280), (90, 160))]
)
def test_published_shapes_and_parameters(backbone, channels, parameters, size, logits):
    module = DeepLabV2(19, backbone, aux=False, features=True)
    params, outputs = shapes_of(module, (1, *size, 3))
    assert outputs == {"main": (1, *logits, 19), "features": (1, *logits, channels)}
    assert count(params) == CONVOLUTIONS + parameters
    assert set(params) == {"backbone", "main_head"}


def test_the_small_one():
    module = DeepLabV2(7, "vgg_small", rates=(1, 2), aux=False, features=True, dtype=jnp.bfloat16)
    params, outputs = shapes_of(module, (2, 96, 192, 3))
    assert outputs == {"main": (2, 12, 24, 7), "features": (2, 12, 24, 192)}
    assert count(params["backbone"]) < 1_000_000
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(params))


@pytest.mark.parametrize("backbone", (*vgg.SIZES, TINY))
def test_an_auxiliary_head_is_refused_with_the_remedy(backbone):
    with pytest.raises(UserError, match="one output level: --config.net.aux=False") as caught:
        shapes_of(DeepLabV2(7, backbone), (1, 64, 64, 3))
    assert "\n" not in str(caught.value)


def numpy_vgg(sizes, params, x, rates):
    """Layer by layer from the papers, in float64."""
    params = jax.tree.map(lambda a: np.asarray(a, np.float64), params)

    def conv(p, x, dilation):
        pad = dilation * (p["kernel"].shape[0] // 2)
        y, _ = loop_conv(x, p["kernel"], (1, 1), ((pad, pad),) * 2, (dilation,) * 2, groups=1)
        return y + p["bias"]

    trunk, head = params["backbone"], params["main_head"]
    for stage, blocks in enumerate(sizes.blocks, start=1):
        for block in range(1, blocks + 1):
            x = np.maximum(conv(trunk[f"conv{stage}_{block}"], x, 2 if stage == 5 else 1), 0)
        if stage < 4:
            n, h, w, c = x.shape
            x = x[:, : h // 2 * 2, : w // 2 * 2].reshape(n, h // 2, 2, w // 2, 2, c).max((2, 4))
    features = np.maximum(conv(trunk["fc6"], x, sizes.fc6.dilation), 0)
    features = np.maximum(conv(trunk["fc7"], features, sizes.fc7.dilation), 0)
    if sizes.score:
        return conv(head, features, 1), features
    return sum(conv(head[f"branch{i}"], features, r) for i, r in enumerate(rates)), features


@pytest.mark.parametrize("sizes, summed", [(TINY, None), (TINY, 2), (TINY_FRONTEND, None)])
def test_logits_against_float64(sizes, summed):
    rates = (1, 2, 3)
    net = network(DeepLabV2(5, sizes, rates=rates, summed=summed, aux=False, features=True))
    x = np.random.default_rng(0).normal(size=(2, 75, 62, 3)).astype(np.float32)
    params, stats = values_for(net, x)
    outputs, new_stats = jax.jit(net.apply, static_argnums=3)(params, stats, x, True)
    assert stats == {} and new_stats == {}
    want, features = numpy_vgg(sizes, params, x, rates[:summed])
    np.testing.assert_allclose(outputs["main"], want, atol=2e-5 * np.abs(want).max())
    np.testing.assert_allclose(outputs["features"], features, atol=2e-5 * features.max())


def test_the_front_end_is_its_authors_away_from_the_border():
    """Their unpadded layers on an image extended by 186 pixels on every side, against ours."""
    sizes = TINY_FRONTEND._replace(blocks=(2, 2, 3, 3, 3))  # the 186 depend on all of them
    net = network(DeepLabV2(2, sizes, aux=False))
    x = np.random.default_rng(0).normal(size=(1, 448, 456, 3)).astype(np.float32)
    params, _ = values_for(net, x)
    ours = jax.jit(lambda x: net.apply(params, {}, x, False)[0]["main"])(x)

    def unpadded(x):
        def conv(name, x, dilation):
            p = params["backbone"][name]
            return jax.nn.relu(conv2d(x, p["kernel"], dilation=(dilation,) * 2) + p["bias"])

        for stage, blocks in enumerate(sizes.blocks, start=1):
            for block in range(1, blocks + 1):
                x = conv(f"conv{stage}_{block}", x, 2 if stage == 5 else 1)
            x = layers.max_pool(x, 2, 2) if stage < 4 else x
        x = conv("fc7", conv("fc6", x, 4), 1)
        return conv2d(x, params["main_head"]["kernel"]) + params["main_head"]["bias"]

    start = 24 * 8 - 186
    theirs = jax.jit(unpadded)(x[:, start:, start:])
    assert theirs.shape[1:3] == (8, 9)
    np.testing.assert_allclose(ours[:, 24:32, 24:33], theirs, atol=1e-5 * np.abs(theirs).max())


def test_initial_values():
    sizes = vgg.Sizes((1, 1, 1, 1, 1), (4, 4, 16, 16, 32), vgg.Full(3, 4, 64), vgg.Full(1, 1, 64))
    module = DeepLabV2(2, sizes, rates=(1,), aux=False, initial="reference")
    params, _ = draw_initial(module, (1, 32, 32, 3))
    trunk = params["backbone"]
    assert np.std(trunk["conv5_1"]["kernel"]) == pytest.approx(math.sqrt(2 / (9 * 32)), rel=0.07)
    assert not np.any(trunk["conv5_1"]["bias"])
    for leaf in ("kernel", "bias"):  # PyTorch's default, within 1 / sqrt(fan in)
        assert 0.9 < np.abs(trunk["fc6"][leaf]).max() * math.sqrt(9 * 32) <= 1
    assert np.std(params["main_head"]["branch0"]["kernel"]) == pytest.approx(0.01, rel=0.1)
    module = DeepLabV2(16, sizes._replace(score=True), aux=False)
    params, _ = draw_initial(module, (1, 32, 32, 3))
    fc6 = params["backbone"]["fc6"]
    assert np.std(fc6["kernel"]) == pytest.approx(math.sqrt(2 / (9 * 32)), rel=0.07)
    assert not np.any(fc6["bias"]) and not np.any(params["main_head"]["bias"])
    assert np.std(params["main_head"]["kernel"]) == pytest.approx(0.001, rel=0.1)
