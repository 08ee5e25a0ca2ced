"""Depth heads of DeepLabV2 and DADA's fusion: sizes by hand, values in float64, gradients."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from kit.oracle64 import conv, count, drawn, leaves, output_shapes, quick, shapes

from jaxseg.experiment import networks
from jaxseg.models.backbones.resnet import Sizes
from jaxseg.models.backbones.vgg import Full
from jaxseg.models.backbones.vgg import Sizes as VGGSizes
from jaxseg.models.layers.layers import he_normal
from jaxseg.models.network import network
from jaxseg.models.segmenters.deeplabv2 import DeepLabV2
from jaxseg.models.segmenters.depth_head import DepthHead

TINY = Sizes((1, 1, 1, 1), widths=(4, 4, 4, 4), stem=4)
THIN = VGGSizes((1,) * 5, (4,) * 5, Full(3, 2, 16), Full(3, 2, 16))
# DADA's layers on 2048 channels: 1x1 to 512, 3x3 to 512, 1x1 to 128, with biases.
ENCODER = (2048 * 512 + 512) + (9 * 512 * 512 + 512) + (512 * 128 + 128)
DECODER = 128 * 2048 + 2048


@pytest.mark.parametrize(
    "backbone, base, encoder, decoder",
    [
        ("resnet101", 43_227_724 - 299_212, ENCODER, DECODER),
        ("vgg16", None, 1024 * 256 + 256 + 9 * 256**2 + 256 + 256 * 64 + 64, 64 * 1024 + 1024),
    ],
)
def test_parameters_by_hand(backbone, base, encoder, decoder):
    plain = DeepLabV2(19, backbone, aux=False)
    without, stats = shapes(plain, (64, 96))
    if backbone == "resnet101":
        # torchvision's trunk and one head: four 3x3 convolutions of 2048 channels with biases.
        assert count(without) == 42_500_160 + 4 * (9 * 2048 * 19 + 19)
    for fusion, added in ((False, encoder), (True, encoder + decoder)):
        params, new_stats = shapes(plain.clone(depth=True, fusion=fusion), (64, 96))
        head = params.pop("depth_head")
        assert count(head) == added
        assert ("decode" in head) == fusion
        # All else is as it was: published weights still fit.
        assert leaves(params).keys() == leaves(without).keys()
        assert jax.tree.map(lambda x: x.shape, params) == jax.tree.map(lambda x: x.shape, without)
        assert jax.tree.structure(new_stats) == jax.tree.structure(stats)


@pytest.mark.parametrize(
    "backbone, size, map_size",
    [("resnet101", (512, 1024), (65, 129)), ("vgg16", (512, 1024), (64, 128)),
     ("small", (96, 192), (13, 25)), ("vgg_small", (96, 192), (12, 24))],
)  # fmt: skip
def test_published_sizes(backbone, size, map_size):
    module = DeepLabV2(16, backbone, (1, 2), aux=False, depth=True, fusion=True, dtype=jnp.bfloat16)
    found = output_shapes(module, size)
    assert found == {"main": (1, *map_size, 16), "depth": (1, *map_size, 1)}


def test_head_against_float64():
    module = DepthHead(True, he_normal)
    generator = np.random.default_rng(0)
    x = generator.normal(size=(2, 4, 5, 32)).astype(np.float32)
    shape = jax.eval_shape(module.init, jax.random.PRNGKey(0), x)
    variables = jax.tree.map(
        lambda leaf: generator.normal(size=leaf.shape).astype(np.float32) / 3, shape
    )
    depth, fused = module.apply(variables, x)
    params = variables["params"]

    def layer(x, name):
        kernel = params[name]["kernel"]
        return conv(x, kernel, params[name]["bias"], padding=len(kernel) // 2)

    assert [params[f"encode{i}"]["kernel"].shape for i in (1, 2, 3)] == [
        (1, 1, 32, 8), (3, 3, 8, 8), (1, 1, 8, 2)
    ]  # fmt: skip
    code = layer(np.maximum(layer(np.maximum(layer(x, "encode1"), 0), "encode2"), 0), "encode3")
    np.testing.assert_allclose(depth, code.mean(-1, keepdims=True), atol=1e-5)
    assert (np.asarray(depth) < 0).any()  # nothing is cut off
    want = x * np.maximum(layer(code, "decode"), 0)
    np.testing.assert_allclose(fused, want, atol=1e-5 * np.abs(want).max())
    alone, same = DepthHead(False, he_normal).apply(variables, x)
    np.testing.assert_array_equal(alone, depth)
    np.testing.assert_array_equal(same, x)


def test_first_values():
    """For loaded weights: the reference's; from scratch: fusion is initially the identity."""
    x = np.random.default_rng(0).normal(size=(1, 6, 6, 64)).astype(np.float32)

    def first(open_gate):
        head = DepthHead(True, jax.nn.initializers.normal(0.01), open_gate)
        variables = head.init(jax.random.PRNGKey(0), x)
        return variables["params"], head.apply(variables, x)[1]

    closed, _ = first(False)
    for name in ("encode1", "encode2", "encode3", "decode"):
        assert np.std(closed[name]["kernel"]) == pytest.approx(0.01, rel=0.2)
    assert 0.5 < np.abs(closed["encode1"]["bias"]).max() * 8 <= 1  # U(-1/8, 1/8)
    _, fused = first(True)
    np.testing.assert_allclose(fused, x, rtol=0.05)


@pytest.mark.parametrize("backbone", [TINY, THIN], ids=["resnet", "vgg"])
def test_gradients(backbone):
    """Every parameter learns; with fusion alone the class loss reaches the depth encoder too."""
    module = DeepLabV2(3, backbone, (1, 2), aux=False, norm="train", depth=True, fusion=True)
    params, stats = drawn(module, (33, 49))
    images = np.random.default_rng(0).normal(size=(2, 45, 61, 3)).astype(np.float32)

    def gradients(params):
        def loss(params, level, module):
            outputs, _ = network(module).apply(params, stats, images, True)
            return jnp.mean(jnp.square(outputs[level] - 0.3))

        unfused = {**params, "depth_head": {**params["depth_head"]}}
        del unfused["depth_head"]["decode"]
        return (
            jax.grad(loss)(params, "main", module),
            jax.grad(loss)(params, "depth", module),
            jax.grad(loss)(unfused, "main", module.clone(fusion=False)),
        )

    of_main, of_depth, of_main_unfused = map(leaves, quick(gradients, params))
    for name in of_main:
        assert np.any(of_main[name]), name
        touched = not name.startswith("main_head") and "decode" not in name
        assert np.any(of_depth[name]) == touched, name
    assert not any(np.any(v) for n, v in of_main_unfused.items() if n.startswith("depth_head"))


def test_by_config():
    config = importlib.import_module("configs.source_only").get_config("streets+scratch")
    assert not config.net.depth and not config.net.fusion
    config.net.update(dict(depth=True, fusion=True, aux=False))
    networks.check(config.net)
    images = jax.ShapeDtypeStruct((1, 64, 96, 3), jnp.uint8)
    net = networks.segmenter(config, None)
    params, _ = jax.eval_shape(net.init, jax.random.PRNGKey(0), images)
    assert params["depth_head"]["decode"]["kernel"].shape == (1, 1, 24, 384)
