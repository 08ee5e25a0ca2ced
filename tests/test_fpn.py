"""Feature pyramid: sizes by hand, the decoder against float64, training with two levels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from kit.oracle64 import conv, count, drawn, output_shapes, quick, shapes

from jaxseg.models.backbones.efficientnet import SIZES, Sizes
from jaxseg.models.backbones.stages import Stage
from jaxseg.models.network import network
from jaxseg.models.segmenters.deeplabv3plus import DeepLabV3Plus
from jaxseg.models.segmenters.fpn import FPN, Decoder
from jaxseg.resize import resize_matrix

TINY = "efficientnet_tiny"


def test_parameters_by_hand():
    module = FPN(19, "efficientnet_lite0", depth=True, aux=True)
    params, _ = shapes(module, (64, 96))
    assert set(params) == {"backbone", "decoder", "main_head", "depth_head", "aux_head"}
    # The classifier's 4,652,008 less its last convolution, norm and matrix.
    assert count(params["backbone"]) == 4_652_008 - (320 * 1280 + 2 * 1280) - (1280 * 1000 + 1000)
    laterals = (24 + 40 + 112 + 320) * 96 + 4 * 96
    assert count(params["decoder"]) == laterals + 320 * 96 + 96 + 2 * (9 * 96 * 96 + 2 * 96)
    assert count(params["aux_head"]) == 9 * 112 * 28 + 2 * 28 + 28 * 19 + 19


@pytest.mark.parametrize(
    "settings, size, main, aux, deep",
    [
        (dict(), (65, 94), (17, 24), (5, 6), (3, 3)),
        (dict(output_stride=8), (128, 256), (32, 64), (16, 32), (16, 32)),
        (dict(backbone="tiny"), (65, 94), (17, 24), (5, 6), (3, 3)),
    ],
)
def test_sizes(settings, size, main, aux, deep):
    settings = dict(backbone=TINY) | settings
    channels = 16 if settings["backbone"] == "tiny" else SIZES[TINY].widths[-1]
    found = output_shapes(FPN(5, **settings, depth=True, aux=True, features=True), size, 2)
    assert found == {
        "main": (2, *main, 5), "depth": (2, *main, 1), "aux": (2, *aux, 5),
        "features": (2, *deep, channels),
    }  # fmt: skip


def test_decoder_against_float64():
    """All layers in their order, with the norms' running statistics."""
    rng = np.random.default_rng(0)
    sizes = {"stage1": (9, 12, 3), "stage2": (5, 6, 4), "stage3": (3, 3, 5), "stage4": (2, 2, 6)}
    maps = {name: rng.normal(size=(2, *size)).astype(np.float32) for name, size in sizes.items()}
    stages = {name: Stage(jnp.asarray(x), 0) for name, x in maps.items()}
    module = Decoder(7, "train", None, jnp.float32)
    variables = quick(lambda key: module.init(key, stages, False), jax.random.PRNGKey(0))
    variables = jax.tree.map(
        lambda x: rng.uniform(0.5, 1.5, x.shape).astype(np.float32) * rng.choice([1, 1.5], x.shape),
        variables,
    )
    variables["params"] = jax.tree.map(
        lambda x: (x - 1).astype(np.float32), variables["params"]
    )  # both signs
    found = quick(lambda v: module.apply(v, stages, False), variables)

    params, stats = variables["params"], variables["batch_stats"]
    layer = lambda x, name: conv(x, params[name]["kernel"], params[name]["bias"])  # noqa: E731
    x = layer(maps["stage4"], "lateral4")
    pooled = layer(maps["stage4"].mean((1, 2), keepdims=True), "pooling")
    assert (pooled > 0).any() and (pooled < 0).any()
    x = x + np.maximum(pooled, 0)
    for number in (3, 2, 1):
        lateral = layer(maps[f"stage{number}"], f"lateral{number}")
        rows, columns = (
            resize_matrix(x.shape[axis], lateral.shape[axis], align_corners=False)
            for axis in (1, 2)
        )
        x = lateral + np.einsum("Hh,nhwc,Ww->nHWc", rows, x, columns)
    for name in ("refine1", "refine2"):
        own, moving = params[name], stats[name]["bn"]
        x = conv(x, own["conv"]["kernel"], padding=1)
        x = (x - moving["mean"]) / np.sqrt(moving["var"] + np.float64(1e-5))
        x = np.maximum(x * own["bn"]["scale"] + own["bn"]["bias"], 0)
    assert x.max() > 0.1
    np.testing.assert_allclose(found, x, atol=2e-5 * x.max())


def test_both_levels_train_and_statistics_move():
    module = FPN(3, Sizes((1,) * 7, (2, 2, 3, 4, 4, 4, 5), stem=3), 4, aux=True)
    net = network(module)
    params, stats = drawn(module, (64, 64))
    images = np.random.default_rng(0).normal(size=(2, 64, 64, 3)).astype(np.float32)

    def gradient(params, stats, key):
        def loss(params):
            outputs, moved = net.apply(params, stats, images, True, key)
            return sum(jnp.square(x - 1).mean() for x in outputs.values()), moved

        return jax.grad(loss, has_aux=True)(params)

    found, moved = quick(gradient, params, stats, jax.random.PRNGKey(1))
    for leaf in jax.tree.leaves(found):
        assert np.isfinite(leaf).all() and np.abs(leaf).max() > 0
    for old, new in zip(jax.tree.leaves(stats), jax.tree.leaves(moved), strict=True):
        assert (old != new).any()


def test_deeplabv3plus_dilated_to_16():
    module = DeepLabV3Plus(19, TINY, output_stride=16, aux=True, features=True)
    assert output_shapes(module, (128, 256), 2) == {
        "main": (2, 32, 64, 19), "aux": (2, 8, 16, 19), "features": (2, 8, 16, 6)
    }  # fmt: skip


def test_the_depth_head_gates_what_the_main_head_reads():
    """With a gate of 2 everywhere the logits are twice those of a gate of 1, bias apart."""
    module = FPN(3, TINY, 16, depth=True, fusion=True)
    images = jnp.asarray(np.random.default_rng(0).normal(size=(1, 32, 32, 3)), jnp.float32)
    variables = quick(lambda key: module.init(key, images, False), jax.random.PRNGKey(0))
    head = variables["params"]["depth_head"]
    assert count(head) == 16 * 4 + 4 + 9 * 4 * 4 + 4 + 4 + 1 + 16 + 16
    assert (head["decode"]["bias"] == 1).all()
    head["decode"]["kernel"] = jnp.zeros_like(head["decode"]["kernel"])
    logits = []
    for gate in (1.0, 2.0):
        head["decode"]["bias"] = jnp.full(16, gate)
        outputs = quick(lambda v: module.apply(v, images, False), variables)
        logits.append(outputs["main"] - variables["params"]["main_head"]["bias"])
        assert outputs["depth"].shape == (1, 8, 8, 1)
    assert np.abs(logits[0]).max() > 0
    np.testing.assert_allclose(logits[1], 2 * logits[0], rtol=1e-5, atol=1e-5)
