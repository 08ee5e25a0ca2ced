"""DeepLabV3+: sizes by hand, the decoder against float64, both outputs, conventions."""

import importlib
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from kit.oracle64 import conv, count, drawn, leaves, output_shapes, quick, shapes

from jaxseg.engine import optim
from jaxseg.errors import UserError
from jaxseg.experiment import networks, restore
from jaxseg.models.backbones.resnet import Sizes
from jaxseg.models.network import network, redrawn
from jaxseg.models.segmenters.deeplabv3plus import Decoder, DeepLabV3Plus
from jaxseg.resize import resize_matrix
from jaxseg.storage import run_folder
from jaxseg.storage.weights import initial

TINY = Sizes((1, 1, 1, 1), widths=(2, 2, 2, 2), stem=4)
RESNET50, RESNET101 = 23_508_032, 42_500_160  # torchvision's, without their classifiers


def by_hand(backbone, into, channels, low_into, low, classes):
    """Number of parameters by hand: kernels, two values per channel of every norm, biases."""
    pyramid = into * channels + 3 * 9 * into * channels + into * channels + 5 * channels * channels
    decoder = low_into * low + 9 * (channels + low) * channels + 9 * channels * channels
    norms = 2 * (6 * channels + low + 2 * channels)
    heads = channels * classes + classes + channels + 1
    return backbone + pyramid + decoder + norms + heads


@pytest.mark.parametrize(
    "name, trunk, parameters",
    [("resnet50", RESNET50, 40_351_924), ("resnet101", RESNET101, 59_344_052)],
)
def test_parameters_by_hand(name, trunk, parameters):
    params, stats = shapes(DeepLabV3Plus(19, name, depth=True), (64, 96))
    assert set(params) == {"backbone", "decoder", "main_head", "depth_head"}
    assert count(params["backbone"]) == trunk
    assert count(params) == by_hand(trunk, 2048, 256, 256, 48, 19) == parameters
    assert set(stats) == {"backbone", "decoder"}
    without, _ = shapes(DeepLabV3Plus(19, name), (64, 96))
    assert count(without) == parameters - 257 and "depth_head" not in without


def test_small_parameters_by_hand():
    params, _ = shapes(DeepLabV3Plus(19, "small", (1, 2, 3), low_level=24, depth=True), (96, 192))
    expected = by_hand(count(params["backbone"]), 4 * 96, 64, 4 * 24, 24, 19)
    assert count(params) == expected == 1_534_564


@pytest.mark.parametrize(
    "settings, size, logits, deep",
    [
        (dict(backbone="resnet101"), (512, 1024), (128, 256), (32, 64)),
        (
            dict(backbone="resnet50", output_stride=8, rates=(12, 24, 36)),
            (375, 1242),
            (94, 311),
            (47, 156),
        ),
        (dict(backbone="small", rates=(1, 2, 3)), (96, 192), (24, 48), (6, 12)),
    ],
)
def test_published_sizes(settings, size, logits, deep):
    module = DeepLabV3Plus(19, **settings, depth=True, aux=True, features=True)
    found = output_shapes(module, size, 2)
    width = 384 if settings["backbone"] == "small" else 2048
    assert found == {
        "main": (2, *logits, 19), "depth": (2, *logits, 1), "aux": (2, *deep, 19),
        "features": (2, *deep, width),
    }  # fmt: skip


def test_decoder_against_float64():
    """All layers in their order, with the norms' running statistics."""
    module = Decoder((2,), 4, 3, 0.5, "frozen", None, jnp.float32)
    generator = np.random.default_rng(0)
    low = generator.normal(size=(2, 9, 12, 5)).astype(np.float32)
    high = generator.normal(size=(2, 3, 4, 6)).astype(np.float32)
    variables = jax.eval_shape(lambda k: module.init(k, low, high, False), jax.random.PRNGKey(0))

    def draw(path, leaf):
        values = generator.normal(size=leaf.shape).astype(np.float32) / 2
        return np.abs(values) + 0.5 if path[-1].key in ("var", "scale") else values

    variables = jax.tree_util.tree_map_with_path(draw, variables)
    got = module.apply(variables, low, high, False)

    def block(x, name, dilation=1):
        p, s = variables["params"][name], variables["batch_stats"][name]["bn"]
        kernel = p["conv"]["kernel"]
        y = conv(x, kernel, padding=dilation * (len(kernel) // 2), dilation=dilation)
        y = (y - s["mean"]) / np.sqrt(np.float64(s["var"]) + 1e-5)
        return np.maximum(y * p["bn"]["scale"] + p["bn"]["bias"], 0)

    pooled = block(np.float64(high).mean((1, 2), keepdims=True), "pooling")
    branches = [block(high, "branch0"), block(high, "branch1", 2)]
    branches.append(np.broadcast_to(pooled, branches[0].shape))
    x = block(np.concatenate(branches, -1), "project")
    x = np.einsum("Hh,Ww,nhwc->nHWc", resize_matrix(3, 9), resize_matrix(4, 12), x)
    x = np.concatenate([x, block(low, "low_level")], -1)
    want = block(block(x, "refine1"), "refine2")
    np.testing.assert_allclose(got, want, atol=2e-5 * np.abs(want).max())


def test_gradients_reach_every_parameter_and_odd_sizes_work():
    settings = dict(channels=6, low_level=4, depth=True, aux=True, dtype=jnp.bfloat16)
    module = DeepLabV3Plus(3, TINY, (1, 2), **settings)
    params, stats = drawn(module, (33, 47))
    images = np.random.default_rng(0).normal(size=(2, 45, 61, 3)).astype(np.float32)

    def loss(params):
        outputs, new = network(module).apply(params, stats, images, True, jax.random.PRNGKey(0))
        return sum(jnp.mean(jnp.square(value - 0.3)) for value in outputs.values()), (outputs, new)

    gradient, (outputs, new) = jax.jit(jax.grad(loss, has_aux=True))(params)
    assert outputs["main"].shape == (2, 12, 16, 3) and outputs["depth"].shape == (2, 12, 16, 1)
    assert all(output.dtype == jnp.float32 for output in outputs.values())
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
        assert np.isfinite(leaf).all() and np.any(leaf), jax.tree_util.keystr(path)
    assert jax.tree.structure(new) == jax.tree.structure(stats)
    assert all(map(np.any, jax.tree.leaves(jax.tree.map(np.subtract, new, stats))))


# --- by config ---


V2, UNET = dict(architecture="deeplabv2"), dict(architecture="unet")


def plus(**net):
    config = importlib.import_module("configs.source_only").get_config("streets+scratch")
    plain = dict(output_stride=16, rates=(1, 2), aux=False, summed=None)
    config.net.update(dict(architecture="deeplabv3plus", **plain))
    config.net.update(net)
    networks.check(config.net)
    return config


def abstract(config):
    images = jax.ShapeDtypeStruct((1, 64, 96, 3), jnp.uint8)
    net = networks.segmenter(config, None)
    return jax.eval_shape(net.init, jax.random.PRNGKey(0), images)


def test_by_config():
    params, _ = abstract(plus(depth=True, low_level=5))
    assert params["decoder"]["low_level"]["conv"]["kernel"].shape == (1, 1, 96, 5)
    assert params["depth_head"]["kernel"].shape == (1, 1, 64, 1)
    config = plus()
    config.optim.gen.head_multiplier = 10.0
    groups = networks.rate_multipliers(config)
    paths = jax.tree_util.tree_leaves_with_path({"segmenter": params, "translator": {"down1": 0}})
    factors = {
        name: optim.multiplier_of(name, groups)
        for name in (optim.path_name(path) for path, _ in paths)
    }
    heads = {name for name, factor in factors.items() if factor == 10}
    assert heads == {n for n in factors if n.split("/")[1] not in ("backbone", "down1")}


@pytest.mark.parametrize(
    "net, message",
    [
        (dict(output_stride=32), "net.output_stride=32; deeplabv3plus has 8, 16"),
        (dict(backbone="vgg17"), "net.backbone='vgg17'; choose one of .*resnet101"),
        (dict(low_level=0), "net.low_level=0: it must be at least 1"),
        (dict(init_std=-1.0), "net.init_std=-1.0: it cannot be negative"),
        (dict(fusion=True, depth=True), "fusion=True: .* it has .*; fusion is for deeplabv2, fpn$"),
        (dict(V2, output_stride=None, fusion=True), "fusion=True is for --config.net.depth=True"),
        (dict(V2, low_level=7), "low_level=7: .* it has stride_in, rates, .*; low_level is for"),
        (dict(V2, output_stride=16), "output_stride=16: deeplabv2 of small has no such setting"),
        (dict(V2, output_stride=None, summed=3), "summed=3 of 2 config.net.rates"),
        (dict(V2, output_stride=None, rates=()), "rates is empty"),
        (dict(stride_in="5x5"), "net.stride_in='5x5'; choose one of 1x1, 3x3"),
        (dict(dropout=1.0), "net.dropout=1.0: give 0 or more, and less than 1"),
        (dict(summed=0), "summed=0: deeplabv3plus of small has no such setting"),
        (dict(backbone="vgg_small"), "stride_in=1x1: deeplabv3plus of vgg_small has no such"),
        (
            dict(UNET, depth=True, output_stride=None, rates=None, stride_in=None),
            "depth=True: unet of small has no such setting; it has none; depth is for deeplabv2, d",
        ),
        (
            dict(architecture="segnet"),
            "net.architecture='segnet'; choose one of daformer, deeplabv2, ",
        ),
        (
            dict(V2, output_stride=None, fusion=True, depth=True, init_std=1e-3),
            "init_std=0.001: with fusion the features would be multiplied by about 0",
        ),
    ],
)
def test_settings_that_cannot_work(net, message):
    with pytest.raises(UserError, match=message):
        plus(**net)


def test_initial_deviation_spares_the_backbone_and_the_norms():
    module = DeepLabV3Plus(3, TINY, (1,), 16, depth=True)
    images = jnp.zeros((1, 32, 32, 3))

    def both(key):
        return [
            net.init(key, images)[0] for net in (network(module), redrawn(network(module), 1e-3))
        ]

    own, other = quick(both, jax.random.PRNGKey(0))
    jax.tree.map(np.testing.assert_array_equal, own["backbone"], other["backbone"])
    assert jax.tree.structure(own) == jax.tree.structure(other)
    assert np.all(other["decoder"]["refine1"]["bn"]["scale"] == 1)
    kernels = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(other):
        name = optim.path_name(path)
        if name.endswith("kernel") and "backbone" not in name:
            kernels[name] = np.ravel(leaf)
        assert not (name.endswith("head/bias") and np.any(leaf))
    values = np.concatenate(list(kernels.values()))
    assert np.std(values) == pytest.approx(1e-3, rel=0.05) and abs(values.mean()) < 1e-4
    assert len({float(v[0]) for v in kernels.values()}) == len(kernels)


def test_initial_deviation_by_config():
    assert networks.segmenter(plus(), None).init.__qualname__.startswith("network.")
    assert networks.segmenter(plus(init_std=1e-3), None).init.__qualname__.startswith("redrawn.")


def test_runs_from_before_these_settings(tmp_path):
    """Networks of older runs lack these settings, whatever the config for evaluation says."""
    saved = plus().to_dict()
    for group, names in run_folder.LATER.items():
        for name in names:
            del saved[group][name]
    saved["net"]["architecture"] = "deeplabv2"
    (tmp_path / "config.json").write_text(json.dumps(saved))
    own = run_folder.read_config(tmp_path)
    assert not own.net.depth and own.net.low_level is None and not own.disc.spectral
    assert own.net.output_stride is None and own.net.rates == (1, 2)
    said = []
    found = restore.adopted(plus(depth=True, low_level=24), own, (), "run", said.append)
    assert found.net.low_level is None and not found.net.depth and len(said) == 1
    networks.check(found.net)
    networks.discriminator(found)
    params, _ = abstract(found)
    assert "depth_head" not in params


def test_an_initial_file_needs_neither_decoder_nor_depth():
    own = leaves(abstract(plus(depth=True))[0]) | leaves(abstract(plus())[1])
    excused = re.compile("|".join(initial.excused("deeplabv3plus")))
    for name in own:
        left_out = any(excused.search(f"{kind}/{name}") for kind in ("params", "stats"))
        assert left_out == (not name.startswith("backbone/")), name
    torch = {"conv1.weight": np.zeros((4, 3, 7, 7)), "backbone.bn1.bias": np.zeros(4)}
    ours = initial.to_ours(torch, "deeplabv3plus")
    assert set(ours) == {"params/backbone/conv1/kernel", "params/backbone/bn1/bias"}


def test_errors():
    with pytest.raises(UserError, match="resnet18"):
        shapes(DeepLabV3Plus(3, "resnet18"), (32, 32))
    with pytest.raises(UserError, match="BatchNorm has no statistics of one value per channel"):
        output_shapes(DeepLabV3Plus(3, TINY, (1,), 4), (32, 32), 1)
