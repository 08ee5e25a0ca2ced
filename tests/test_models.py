"""Networks: published sizes, a float64 transcription, initial values, two devices."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from kit.networks import KEY, count, draw_initial, shapes_of, values_for
from kit.tensors import loop_conv

from jaxseg.errors import UserError
from jaxseg.models.backbones.resnet import Sizes
from jaxseg.models.discriminator import Discriminator
from jaxseg.models.layers import layers
from jaxseg.models.network import network
from jaxseg.models.segmenters.deeplabv2 import DeepLabV2

TINY = Sizes((1, 2, 1, 1), widths=(2, 3, 2, 3), stem=4)


@pytest.mark.parametrize(
    "size, logits", [((720, 1280), (91, 161)), ((512, 1024), (65, 129)), ((760, 1280), (96, 161))]
)
def test_published_shapes_and_parameters(size, logits):
    params, outputs = shapes_of(DeepLabV2(19), (1, *size, 3))
    assert outputs == {"main": (1, *logits, 19), "aux": (1, *logits, 19)}
    assert count(params) == 44_601_560
    assert set(params) == {"backbone", "main_head", "aux_head"}


def test_other_settings_in_shape():
    # torchvision's resnet50 has 25 557 032 parameters, 2 049 000 of them in its classifier.
    params, _ = shapes_of(DeepLabV2(19, "resnet50", aux=False), (1, 65, 65, 3))
    assert count(params["backbone"]) == 25_557_032 - 2_049_000
    module = DeepLabV2(7, "small", rates=(1, 4), features=True, dtype=jnp.bfloat16, norm="train")
    params, outputs = shapes_of(module, (2, 128, 256, 3))
    assert outputs == {
        "main": (2, 17, 33, 7), "aux": (2, 17, 33, 7), "features": (2, 17, 33, 384)
    }  # fmt: skip
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(params))
    for wrong, error in (
        (dict(backbone="vgg"), UserError),
        (dict(trunk={"stride_in": "5x5"}), UserError),
        (dict(summed=5), ValueError),
        (dict(norm="group"), ValueError),
    ):
        value = next(iter(wrong.values()))
        with pytest.raises(error, match="5x5" if isinstance(value, dict) else str(value)):
            shapes_of(DeepLabV2(7, **wrong), (1, 64, 64, 3))


def test_discriminator_shapes_and_parameters():
    params, outputs = shapes_of(Discriminator(), (1, 128, 256, 19), jnp.float32)
    assert count(params) == 2_781_121
    assert outputs == {"score": (1, 4, 8, 1)}


def test_full_size_network_lowers():
    net = network(DeepLabV2(19, norm="reference"), layers.preprocess)
    images = jax.ShapeDtypeStruct((1, 64, 128, 3), jnp.uint8)
    params, stats = jax.eval_shape(net.init, KEY, images)

    def loss(params, stats, images):
        outputs, stats = net.apply(params, stats, images, True)
        return sum(jnp.mean(output) for output in outputs.values()), stats

    jax.jit(jax.grad(loss, has_aux=True)).lower(params, stats, images)


def numpy_deeplab(params, stats, x, summed, stride_in, train):
    """DeepLabV2 with TINY's blocks, in float64, layer by layer from the recipe."""
    params, stats = jax.tree.map(lambda a: np.asarray(a, np.float64), (params, stats))

    def conv(p, x, stride=1, padding=0, dilation=1):
        y, _ = loop_conv(
            x, p["kernel"], (stride,) * 2, ((padding,) * 2,) * 2, (dilation,) * 2, groups=1
        )
        return y + p.get("bias", 0)

    def norm(p, s, x):
        mean, var = (x.mean((0, 1, 2)), x.var((0, 1, 2))) if train else (s["mean"], s["var"])
        return (x - mean) / np.sqrt(var + 1e-5) * p["scale"] + p["bias"]

    def relu(x):
        return np.maximum(x, 0)

    p, s = params["backbone"], stats["backbone"]
    x = relu(norm(p["bn1"], s["bn1"], conv(p["conv1"], x, 2, 3)))
    h, w = (math.ceil((n - 1) / 2) + 1 for n in x.shape[1:3])
    padded = np.full((len(x), 2 * h + 1, 2 * w + 1, x.shape[3]), -np.inf)
    padded[:, 1 : 1 + x.shape[1], 1 : 1 + x.shape[2]] = x
    x = np.max(
        [padded[:, r : r + 2 * h : 2, c : c + 2 * w : 2] for r in range(3) for c in range(3)], 0
    )
    levels = {}
    for stage, (blocks, stride, dilation) in enumerate(
        zip(TINY.blocks, (1, 2, 1, 1), (1, 1, 2, 4), strict=True), start=1
    ):
        for block in range(blocks):
            q, t = p[f"layer{stage}_block{block}"], s[f"layer{stage}_block{block}"]
            step = stride if block == 0 else 1
            first, second = (step, 1) if stride_in == "1x1" else (1, step)
            y = relu(norm(q["bn1"], t["bn1"], conv(q["conv1"], x, first)))
            y = relu(norm(q["bn2"], t["bn2"], conv(q["conv2"], y, second, dilation, dilation)))
            y = norm(q["bn3"], t["bn3"], conv(q["conv3"], y))
            if block == 0:
                x = norm(
                    q["downsample_bn"], t["downsample_bn"], conv(q["downsample_conv"], x, step)
                )
            x = relu(x + y)
        levels[stage] = x
    return {
        head: sum(
            conv(params[head][f"branch{i}"], levels[stage], 1, rate, rate)
            for i, rate in enumerate((1, 3, 6)[:summed])
        )
        for head, stage in (("aux_head", 3), ("main_head", 4))
    }


@pytest.mark.parametrize(
    "stride_in, summed, train", [("1x1", None, True), ("3x3", 2, False), ("1x1", 1, False)]
)
def test_logits_against_float64(stride_in, summed, train):
    module = DeepLabV2(5, TINY, rates=(1, 3, 6), summed=summed, trunk={"stride_in": stride_in})
    net = network(module)
    x = np.random.default_rng(0).normal(size=(2, 23, 31, 3)).astype(np.float32)
    params, stats = values_for(net, x)
    assert set(params["main_head"]) == {"branch0", "branch1", "branch2"}  # whatever is summed
    outputs, _ = jax.jit(net.apply, static_argnums=3)(params, stats, x, train)
    expected = numpy_deeplab(params, stats, x, summed, stride_in, train)
    for level in ("main", "aux"):
        want = expected[f"{level}_head"]
        np.testing.assert_allclose(outputs[level], want, atol=2e-5 * np.abs(want).max())


@pytest.mark.parametrize("initial, std", [("reference", 0.01), (None, math.sqrt(2 / (9 * 16)))])
def test_initial_values(initial, std):
    sizes = Sizes((0, 0, 0, 1), widths=(4, 4, 4, 16), stem=32)
    module = DeepLabV2(2, sizes, rates=(1,), aux=False, initial=initial)
    # Without blocks the third stage hands on the stem.
    params, stats = draw_initial(module, (1, 32, 32, 3))
    block = params["backbone"]["layer4_block0"]
    assert np.std(block["conv2"]["kernel"]) == pytest.approx(std, rel=0.07)
    assert np.std(params["main_head"]["branch0"]["kernel"]) == pytest.approx(0.01, rel=0.1)
    np.testing.assert_array_equal(block["bn3"]["scale"], np.ones(64))
    np.testing.assert_array_equal(block["bn3"]["bias"], np.zeros(64))
    np.testing.assert_array_equal(stats["backbone"]["bn1"]["var"], np.ones(32))


def test_initial_values_of_the_discriminator():
    params, _ = draw_initial(Discriminator(8), (1, 32, 32, 4))
    for name, fan_in in (("conv1", 64), ("conv3", 256)):
        largest = np.abs(params[name]["kernel"]).max()
        assert 0.95 < largest * math.sqrt(fan_in) <= 1
        assert 0.5 < np.abs(params[name]["bias"]).max() * math.sqrt(fan_in) <= 1


def test_discriminator_against_float64():
    net = network(Discriminator(2))
    x = np.random.default_rng(1).normal(size=(2, 32, 64, 3)).astype(np.float32)
    params, stats = values_for(net, x)
    y = x
    for index in range(5):
        p = params[f"conv{index + 1}"]
        y = np.where(y > 0, y, 0.2 * y) if index else y
        y = loop_conv(y, p["kernel"], (2, 2), ((1, 1), (1, 1)), (1, 1), 1)[0] + np.asarray(
            p["bias"]
        )
    outputs, new_stats = net.apply(params, stats, x, True)
    assert stats == {} and new_stats == {}
    np.testing.assert_allclose(outputs["score"], y, atol=1e-6)


@pytest.mark.parametrize("mode", layers.NORM_MODES)
def test_statistics_move_only_where_they_should(mode):
    sizes = Sizes((1, 1, 1, 1), widths=(2, 2, 2, 2), stem=2)
    net = network(DeepLabV2(3, sizes, rates=(1,), aux=False, norm=mode), layers.preprocess)
    images = jax.random.randint(KEY, (2, 32, 32, 3), 0, 256).astype(jnp.uint8)
    params, stats = values_for(net, images)
    for train in (False, True):
        _, new_stats = jax.jit(net.apply, static_argnums=3)(params, stats, images, train)
        assert jax.tree.structure(new_stats) == jax.tree.structure(stats)
        moved = [
            not np.array_equal(old, new)
            for old, new in zip(jax.tree.leaves(stats), jax.tree.leaves(new_stats), strict=True)
        ]
        assert all(moved) if train and mode != "frozen" else not any(moved)


def test_two_devices_equal_one():
    sizes = Sizes((1, 1, 0, 1), widths=(2, 2, 2, 2), stem=2)

    def net(axis_name):
        module = DeepLabV2(3, sizes, rates=(1,), norm="train", axis_name=axis_name)
        return network(module, layers.preprocess)

    images = jax.random.randint(KEY, (4, 32, 48, 3), 0, 256).astype(jnp.uint8)
    params, stats = values_for(net("devices"), images[:1])  # init needs no devices

    def step(net, average):
        def loss(params, stats, images):
            outputs, stats = net.apply(params, stats, images, True)
            return jnp.mean(outputs["main"] ** 2) + jnp.mean(jnp.sin(outputs["aux"])), stats

        def run(params, stats, images):
            grads, new = jax.grad(loss, has_aux=True)(params, stats, images)
            return average(grads), average(new)

        return run

    one = jax.jit(step(net(None), lambda tree: tree))(params, stats, images)
    two = jax.pmap(
        step(net("devices"), lambda tree: jax.lax.pmean(tree, "devices")),
        "devices", in_axes=(None, None, 0), out_axes=None, devices=jax.devices()[:2],
    )(params, stats, images.reshape(2, 2, *images.shape[1:]))  # fmt: skip
    for a, b in zip(jax.tree.leaves(two), jax.tree.leaves(one), strict=True):
        np.testing.assert_allclose(a, b, atol=3e-4 * np.abs(b).max() + 1e-6)
