"""DeepLabV3: torchvision's sizes, names and logits, dropout, conventions."""

import functools
import math
import zlib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.errors import InvalidRngError
from kit.oracle64 import count, drawn, output_shapes, shapes
from kit.torchvision import torchvision_shapes

from jaxseg.errors import UserError
from jaxseg.models.backbones.resnet import Sizes
from jaxseg.models.layers import layers
from jaxseg.models.network import network
from jaxseg.models.segmenters.deeplabv3 import DeepLabV3
from jaxseg.resize import resize_bilinear
from jaxseg.storage.weights import merge, rename, rename_torchvision

FIXTURES = Path(__file__).parent / "fixtures"
TINY = Sizes((1, 1, 1, 1), widths=(2, 2, 2, 2), stem=4)
PREPROCESS = functools.partial(
    layers.preprocess, mean=layers.IMAGENET_MEAN, std=layers.IMAGENET_STD
)


def recipe(name, shape):
    """Values of a tensor that depend on its name and shape only."""
    generator = np.random.default_rng(zlib.crc32(name.encode()))
    if name.endswith("running_var"):
        return generator.uniform(0.5, 1.5, shape).astype(np.float32)
    if len(shape) == 4:
        scale = np.float32(math.sqrt(2 / math.prod(shape[1:])))
        return generator.standard_normal(shape, np.float32) * scale
    if name.endswith("weight"):  # of a norm; small at the end of a block, so that sums stay small
        scale = np.float32(0.2 if "bn3" in name else 1)
        return generator.uniform(0.5, 1.5, shape).astype(np.float32) * scale
    return generator.standard_normal(shape, np.float32) * np.float32(0.1)


def zeros(module):
    return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes(module, (32, 32)))


# torchvision 0.29's own counts, with both heads and 21 classes.
@pytest.mark.parametrize(
    "backbone, blocks, parameters",
    [("resnet50", (3, 4, 6, 3), 42_004_074), ("resnet101", (3, 4, 23, 3), 60_996_202)],
)
def test_torchvisions_size_and_names(backbone, blocks, parameters):
    module = DeepLabV3(21, backbone, aux=True)
    params, stats = shapes(module, (64, 96))
    assert count(params) == parameters
    assert set(params) == {"backbone", "main_head", "aux_head"}
    # Broadcast zeros: names and shapes without the memory.
    file = {
        name: np.broadcast_to(np.float32(0), shape)
        for name, shape in torchvision_shapes(blocks).items()
    }
    ours = rename_torchvision.to_ours(file)
    for kind, tree in (("params", params), ("stats", stats)):
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
            name = "/".join((kind, *(key.key for key in path)))
            assert ours.pop(name).shape == leaf.shape, name
    assert not ours
    assert rename_torchvision.settings(file) == {
        "num_classes": 21, "backbone": backbone, "rates": (12, 24, 36), "aux": True,
        "stride_in": "3x3", "preprocess": "imagenet",
    }  # fmt: skip


def test_torchvisions_logits():
    """Weights by `recipe` went through torchvision 0.29's deeplabv3_resnet50 (in float64, at the
    image's size, both heads); the fixture holds every 15th row and 20th column."""
    module = DeepLabV3(21, "resnet50", aux=True, upsample=True)
    file = {name: recipe(name, shape) for name, shape in torchvision_shapes((3, 4, 6, 3)).items()}
    params, stats, report = merge.merge(*zeros(module), rename_torchvision.to_ours(file))
    assert len(report.matched) == len(file)
    image = np.random.default_rng(5).integers(0, 256, (1, 75, 101, 3)).astype(np.uint8)
    apply = jax.jit(network(module, PREPROCESS).apply, static_argnums=3)
    outputs, _ = apply(params, stats, image, False)
    with np.load(FIXTURES / "torchvision_deeplabv3.npz") as expected:
        for level, name in (("main", "out"), ("aux", "aux")):
            assert outputs[level].shape == (1, 75, 101, 21)
            got, want = outputs[level][:, ::15, ::20], expected[name]
            np.testing.assert_allclose(got, want, atol=1e-5 * np.abs(want).max())


def test_torchvision_files_in_part():
    names = torchvision_shapes((3, 4, 6, 3))
    trunk = {
        name.removeprefix("backbone."): np.broadcast_to(np.float32(0), shape)
        for name, shape in names.items()
        if name.startswith("backbone.")
    }
    resnet = {**trunk, "fc.weight": np.zeros((1000, 2048)), "fc.bias": np.zeros(1000)}
    ours = rename_torchvision.to_ours(resnet)
    assert ours.keys() == rename.to_ours(resnet).keys() and "fc.weight" in ours
    assert "params/backbone/layer3_block5/conv2/kernel" in ours
    assert rename_torchvision.settings(resnet) is None
    odd = {
        "classifier.0.convs.1.0.weight": np.ones((4, 8, 3, 3), np.float32),
        "classifier.4.weight": np.ones((4, 8)),
        "classifier.3.weight": np.ones(4),
        "aux_classifier.9.weight": np.ones(4),
        "classifier.0.project.1.running_mean": np.ones(4),
    }
    left = {name for name in rename_torchvision.to_ours(odd) if "/" not in name}
    assert left == {"classifier.4.weight", "classifier.3.weight", "aux_classifier.9.weight"}


@pytest.mark.parametrize(
    "settings, size, stride",
    [({}, (576, 1152), 8), (dict(output_stride=16, rates=(6, 12, 18)), (384, 768), 16),
     (dict(backbone="small", rates=(2, 4, 6), num_classes=11), (120, 160), 8)],
)  # fmt: skip
def test_published_crops(settings, size, stride):
    module = DeepLabV3(**{"num_classes": 19, "backbone": "resnet101", "aux": True, **settings})
    logits = (2, size[0] // stride, size[1] // stride, module.num_classes)
    found = output_shapes(module, size, 2)
    assert found["main"] == logits
    # With stride 16 the third stage has it already.
    assert found["aux"] == logits


def test_upsampling_is_half_pixel_and_features_come_along():
    small = DeepLabV3(3, TINY, rates=(1, 2), channels=4, features=True)
    params, stats = drawn(small, (40, 56))
    image = np.random.default_rng(0).normal(size=(1, 41, 55, 3)).astype(np.float32)
    run = jax.jit(lambda p, s, x: [
        network(small.clone(upsample=flag)).apply(p, s, x, False)[0] for flag in (False, True)
    ])  # fmt: skip
    stride, full = run(params, stats, image)
    assert stride["main"].shape == (1, 6, 7, 3)
    want = resize_bilinear(stride["main"], (41, 55), align_corners=False)
    np.testing.assert_allclose(full["main"], want, atol=1e-6)
    assert not np.allclose(want, resize_bilinear(stride["main"], (41, 55)), atol=1e-3)
    assert stride["features"].shape == full["features"].shape == (1, 6, 7, 8)


def test_dropout_needs_a_key_and_only_training_has_it():
    module = DeepLabV3(3, TINY, rates=(1,), channels=16, norm="frozen")
    params, stats = drawn(module, (32, 32))
    image = np.random.default_rng(0).normal(size=(1, 32, 32, 3)).astype(np.float32)
    apply = jax.jit(network(module).apply, static_argnums=3)
    with pytest.raises(InvalidRngError, match="dropout"):
        apply(params, stats, image, True)
    keys = jax.random.split(jax.random.PRNGKey(0), 32)
    runs = jax.vmap(lambda key: network(module).apply(params, stats, image, True, key)[0]["main"])
    first, *others = jax.jit(runs)(keys)
    assert all(not np.allclose(first, other) for other in others)
    still, _ = apply(params, stats, image, False)
    np.testing.assert_array_equal(still["main"], apply(params, stats, image, False)[0]["main"])
    assert np.isfinite(still["main"]).all()


def test_dilation_lags_by_a_block():
    """In torchvision a stage's first block has the dilation of the stage before: 1, 2 and 2, 4."""
    sizes = Sizes((1, 1, 2, 2), widths=(1, 1, 1, 1), stem=2)

    def dilations(module):
        params, stats = shapes(module, (64, 64))
        program = jax.jit(
            lambda p, s, x: network(module).apply(p, s, x, False)[0]
        ).lower(params, stats, jnp.zeros((1, 64, 64, 3))).as_text()  # fmt: skip
        return [program.count(f"rhs_dilate = [{d}, {d}]") for d in (2, 4)]

    both = DeepLabV3(2, sizes, rates=(), channels=2)
    assert dilations(both) == [2, 1]
    assert dilations(both.clone(output_stride=16)) == [1, 0]


def test_errors():
    with pytest.raises(UserError, match="resnet18"):
        shapes(DeepLabV3(3, "resnet18"), (32, 32))
    with pytest.raises(UserError, match="output_stride=4"):
        shapes(DeepLabV3(3, TINY, output_stride=4), (32, 32))
