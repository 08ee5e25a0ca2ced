"""FCN: published geometry, derived offsets, layers against loops, a float64 transcription."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from kit.oracle64 import conv, count, drawn, leaves, output_shapes, pool, shapes

from jaxseg.models.backbones import fcn_layers
from jaxseg.models.backbones.fcn_layers import SIZES, Sizes, upsamplings
from jaxseg.models.layers.receptive_field import Place, Step, crop_offset, place
from jaxseg.models.layers.transposed import bilinear_kernel, upsample
from jaxseg.models.network import network
from jaxseg.models.segmenters import fcn
from jaxseg.models.segmenters.fcn import FCN, local_response_norm

# The published crops, typed in.
OFFSETS = {
    ("alexnet", 32): [18],
    ("vgg16", 32): [19],
    ("vgg16", 16): [5, 27],
    ("vgg16", 8): [5, 9, 31],
}
KEY = jax.random.PRNGKey(0)


@pytest.mark.parametrize("backbone, stride", OFFSETS)
def test_derived_offsets_are_the_published_ones(backbone, stride):
    steps = upsamplings(SIZES[backbone], stride)
    assert [step.offset for step in steps] == OFFSETS[backbone, stride]
    kernels = {32: [(64, 32)], 16: [(4, 2), (32, 16)], 8: [(4, 2), (4, 2), (16, 8)]}
    expected = [(63, 32)] if backbone == "alexnet" else kernels[stride]
    assert [(step.kernel, step.stride) for step in steps] == expected


def test_place_arithmetic():
    # AlexNet by hand: 4 i - 100 + 5, then pooling adds half of (3 - 1) pixels of 4, 8, 16.
    assert place([Step(11, 4, 100)]) == Place(4, -95)
    assert place([Step(11, 4, 100), Step(3, 2)]) == Place(8, -91)
    assert place([Step(2, 2), Step(4, 2, transposed=True)]) == Place(1, -1)
    assert place([Step(3, 1, 1)]) == place([]) == Place(1, 0)
    assert crop_offset([Step(2, 2), Step(4, 2, transposed=True)], []) == 1
    for larger in ([Step(2, 2)], [Step(2, 1)], [Step(3, 1)]):  # scale, half a pixel, to the left
        with pytest.raises(ValueError, match="no crop"):
            crop_offset(larger, [])


# Sides of the maps by hand: floor for convolutions, ceil for poolings.
MAPS = {
    ("alexnet", 500): dict(pool1=86, pool2=43, pool5=21, top=16, up=543),
    ("alexnet", 227): dict(pool1=52, pool2=26, pool5=13, top=8, up=287),
    ("vgg16", 500): dict(pool1=349, pool2=175, pool3=88, pool4=44, pool5=22, top=16, up=544),
    ("vgg16", 224): dict(pool1=211, pool2=106, pool3=53, pool4=27, pool5=14, top=8, up=288),
    ("vgg16", 1): dict(pool1=100, pool2=50, pool3=25, pool4=13, pool5=7, top=1, up=64),
}


@pytest.mark.parametrize("backbone, side", MAPS)
def test_sides_of_all_maps(backbone, side):
    expected = MAPS[backbone, side]
    module = fcn.Trunk(SIZES[backbone], "pool_norm", 0.5, jnp.float32)
    image = jax.ShapeDtypeStruct((1, side, side + 32, 3), jnp.float32)
    maps, _ = jax.eval_shape(lambda x: module.init_with_output({"params": KEY}, x, False), image)
    found = {name: value.shape[1] for name, value in maps.items()}
    kernel, stride = upsamplings(SIZES[backbone], 32)[0][1:3]
    up = jax.eval_shape(
        lambda x: upsample(x, jnp.asarray(bilinear_kernel(kernel))[..., None], stride), maps["top"]
    )
    assert {**found, "up": up.shape[1]} == expected
    assert maps["top"].shape[2] == expected["top"] + 1  # 32 columns more are one more score


@pytest.mark.parametrize(
    "backbone, stride", [("alexnet", 32), ("vgg16", 8), ("vgg16_small", 8), ("alexnet_small", 32)]
)
def test_scores_cover_every_size(backbone, stride):
    # Sides of all remainders modulo 8, the largest step at which a skipped map can fall short.
    for size in ((500, 375), (1, 20), (21, 22), (23, 24), (25, 26), (27, 61)):
        assert output_shapes(FCN(2, backbone, stride), size) == {"main": (1, *size, 2)}


def test_parameters_by_hand():
    alexnet = [(96, 3 * 11 * 11), (256, 48 * 5 * 5), (384, 256 * 9), (384, 192 * 9), (256, 192 * 9),
               (4096, 256 * 6 * 6), (4096, 4096)]  # fmt: skip
    widths = [3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]
    vgg = [(out, into * 9) for into, out in itertools.pairwise(widths)]
    vgg += [(4096, 512 * 7 * 7), (4096, 4096)]
    # The ImageNet classifiers have 60 965 224 and 138 357 544 with fc8.
    fc8 = 4096 * 1000 + 1000
    assert sum(out * (into + 1) for out, into in alexnet) == 60_965_224 - fc8
    assert sum(out * (into + 1) for out, into in vgg) == 138_357_544 - fc8
    scores = {32: [4096], 16: [4096, 512], 8: [4096, 512, 256]}
    for backbone, stride in OFFSETS:
        trunk = alexnet if backbone == "alexnet" else vgg
        params, stats = shapes(FCN(21, backbone, stride), (64, 64))
        assert count(params["backbone"]) == sum(out * (into + 1) for out, into in trunk)
        assert count(params["main_head"]) == sum(21 * (n + 1) for n in scores[stride])
        assert set(params) == {"backbone", "main_head"} and stats == {}
    params, _ = shapes(FCN(21, "vgg16", 8, learn_upsampling=True), (64, 64))
    kernels = {k: v.shape for k, v in leaves(params["main_head"]).items() if "upscore" in k}
    assert kernels == {
        "upscore2_kernel": (4, 4, 21), "upscore_pool4_kernel": (4, 4, 21),
        "upscore8_kernel": (16, 16, 21),
    }  # fmt: skip


def loop_upsample(x, kernel, stride):
    side = kernel.shape[0]
    y = np.zeros((len(x), (x.shape[1] - 1) * stride + side, (x.shape[2] - 1) * stride + side,
                  x.shape[3]))  # fmt: skip
    for i in range(x.shape[1]):
        for j in range(x.shape[2]):
            place = np.s_[:, i * stride : i * stride + side, j * stride : j * stride + side]
            y[place] += x[:, i, j][:, None, None] * kernel
    return y


@pytest.mark.parametrize("side, stride", [(4, 2), (5, 3), (2, 3)])
def test_transposed_convolution(side, stride):
    generator = np.random.default_rng(0)
    x, kernel = generator.normal(size=(2, 3, 4, 5)), generator.normal(size=(side, side, 5))
    expected = loop_upsample(x, kernel, stride)
    y, back = jax.vjp(
        lambda x, k: upsample(x, k, stride), *(jnp.asarray(v, jnp.float32) for v in (x, kernel))
    )
    if stride > side:  # nothing meets the last rows and columns between the kernels
        assert y.shape == expected.shape
    np.testing.assert_allclose(y, expected, atol=1e-5)
    dy = generator.normal(size=expected.shape)
    to_x, to_kernel = back(jnp.asarray(dy, jnp.float32))
    # The map is linear in each argument: its adjoint is known by inner products.
    for got, value, at in ((to_x, x, 0), (to_kernel, kernel, 1)):
        direction = generator.normal(size=value.shape)
        moved = (direction, kernel) if at == 0 else (x, direction)
        want = np.sum(dy * loop_upsample(*moved, stride))
        np.testing.assert_allclose(np.sum(np.asarray(got) * direction), want, rtol=1e-4)


@pytest.mark.parametrize("side, factor", [(4, 2), (16, 8), (64, 32), (63, 32), (3, 2)])
def test_bilinear_kernel_interpolates(side, factor):
    assert bilinear_kernel(4)[1].tolist() == [0.1875, 0.5625, 0.5625, 0.1875]
    ramp = 3 * np.arange(6.0)[:, None] - 2 * np.arange(5.0) + 1
    y = upsample(
        jnp.asarray(ramp, jnp.float32)[None, :, :, None],
        jnp.asarray(bilinear_kernel(side))[..., None],
        factor,
    )[0, ..., 0]
    rows, columns = ((np.arange(n) - (side - 1) / 2) / factor for n in y.shape)
    inside = np.ix_(*((p >= 0) & (p <= n - 1) for p, n in ((rows, 6), (columns, 5))))
    expected = 3 * rows[:, None] - 2 * columns + 1
    np.testing.assert_allclose(np.asarray(y)[inside], expected[inside], atol=1e-4)


def test_local_response_norm():
    x = np.random.default_rng(0).normal(size=(2, 3, 2, 9)) * 100
    for size, alpha, beta in ((5, 1e-4, 0.75), (3, 0.5, 1.0)):
        expected = np.empty_like(x)
        for c in range(9):
            near = x[..., max(c - size // 2, 0) : c + size // 2 + 1]
            expected[..., c] = x[..., c] / (1 + alpha / size * (near**2).sum(-1)) ** beta
        got = local_response_norm(jnp.asarray(x, jnp.float32), size, alpha, beta)
        np.testing.assert_allclose(got, expected, rtol=2e-6)


def numpy_fcn(params, x, backbone, stride, order="pool_norm"):
    """The published layers and crops, in float64."""
    trunk, head = params["backbone"], params["main_head"]

    def layer(name, x, **options):
        p = (head if "score" in name else trunk)[name]
        y = conv(x, p["kernel"], p["bias"], **options)
        return y if "score" in name else np.maximum(y, 0)

    def norm(x):
        squares = np.pad(x**2, ((0, 0), (0, 0), (0, 0), (2, 2)))
        total = sum(squares[..., i : i + x.shape[-1]] for i in range(5))
        return x / (1 + 1e-4 / 5 * total) ** 0.75

    def up(x, side, factor):
        return loop_upsample(x, bilinear_kernel(side).astype(np.float64)[..., None], factor)

    def crop(x, offset, size):
        return x[:, offset : offset + size[0], offset : offset + size[1]]

    size, pools = x.shape[1:3], {}
    if backbone == "alexnet":
        for stage, options in ((1, dict(stride=4, padding=100)), (2, dict(padding=2, groups=2))):
            x = layer(f"conv{stage}", x, **options)
            x = norm(pool(x, 3, 2)) if order == "pool_norm" else pool(norm(x), 3, 2)
        x = layer("conv3", x, padding=1)
        x = layer("conv5", layer("conv4", x, padding=1, groups=2), padding=1, groups=2)
        x = pool(x, 3, 2)
    else:
        for stage, blocks in enumerate((2, 2, 3, 3, 3), start=1):
            for block in range(1, blocks + 1):
                padding = 100 if (stage, block) == (1, 1) else 1
                x = layer(f"conv{stage}_{block}", x, padding=padding)
            x = pools[stage] = pool(x, 2, 2)
    x = layer("score_fr", layer("fc7", layer("fc6", x)))
    if backbone == "alexnet":
        return crop(up(x, 63, 32), 18, size)
    if stride == 32:
        return crop(up(x, 64, 32), 19, size)
    x = up(x, 4, 2)
    x = x + crop(layer("score_pool4", pools[4]), 5, x.shape[1:3])
    if stride == 16:
        return crop(up(x, 32, 16), 27, size)
    x = up(x, 4, 2)
    x = x + crop(layer("score_pool3", pools[3]), 9, x.shape[1:3])
    return crop(up(x, 16, 8), 31, size)


THIN = {
    "alexnet": Sizes("alexnet", (4, 6, 4, 6, 4), full=5, full_kernel=6),
    "vgg16": Sizes("vgg16", (2, 3, 3, 4, 4), (2, 2, 3, 3, 3), full=5),
}


@pytest.mark.parametrize(
    "backbone, stride, order",
    [("alexnet", 32, "pool_norm"), ("alexnet", 32, "norm_pool"), ("vgg16", 32, "pool_norm"),
     ("vgg16", 16, "pool_norm"), ("vgg16", 8, "pool_norm")],
)  # fmt: skip
def test_logits_against_float64(backbone, stride, order):
    module = FCN(3, THIN[backbone], stride, order)
    size = (37, 50)
    params, _ = drawn(module, size)
    x = 100 * np.random.default_rng(1).normal(size=(1, *size, 3)).astype(np.float32)
    outputs, stats = jax.jit(network(module).apply, static_argnums=3)(params, {}, x, False)
    expected = numpy_fcn(params, x, backbone, stride, order)
    assert stats == {} and outputs["main"].shape == (1, *size, 3)
    np.testing.assert_allclose(outputs["main"], expected, atol=2e-5 * np.abs(expected).max())


def test_initial_values():
    sizes = Sizes("vgg16", (32, 8, 8, 8, 8), (2, 1, 1, 1, 1), full=16, full_kernel=3, padding=36)
    image = jnp.zeros((1, 8, 8, 3))
    lowered = jax.jit(network(FCN(3, sizes, 16, learn_upsampling=True)).init).lower(KEY, image)
    # It runs once: optimising it takes seconds.
    options = {"xla_backend_optimization_level": 0}
    params, _ = lowered.compile(compiler_options=options)(KEY, image)
    assert np.std(params["backbone"]["conv1_2"]["kernel"]) == pytest.approx(
        np.sqrt(2 / (9 * 32)), rel=0.05
    )
    assert np.std(params["backbone"]["fc6"]["kernel"]) == pytest.approx(
        np.sqrt(2 / (9 * 8)), rel=0.1
    )
    for name, value in leaves(params["main_head"]).items():
        if name.startswith("upscore"):
            want = bilinear_kernel(len(value))[..., None]
            np.testing.assert_array_equal(value, np.broadcast_to(want, value.shape))
        else:
            assert not np.any(value)


def test_dropout_and_learnt_upsampling():
    sizes = Sizes("alexnet", (4, 4, 4, 4, 4), full=8, full_kernel=3, padding=52)
    module = FCN(2, sizes, 32, learn_upsampling=True)
    params, _ = drawn(module, (20, 20))
    x = np.random.default_rng(0).normal(size=(1, 20, 20, 3)).astype(np.float32)

    @jax.jit
    def gradients(params, key):
        def loss(params):
            return jnp.mean(network(module).apply(params, {}, x, True, key)[0]["main"] ** 2)

        return jax.grad(loss)(params)["main_head"]

    first, second = (gradients(params, key) for key in jax.random.split(KEY))
    assert np.any(first["upscore_kernel"])
    assert not np.allclose(first["score_fr"]["kernel"], second["score_fr"]["kernel"])


def test_errors():
    for module, message in (
        (FCN(2, "vgg19"), "vgg19"),
        (FCN(2, "alexnet", 16), "no stride 16"),
        (FCN(2, "vgg16", 4), "no stride 4"),
        (FCN(2, "alexnet", 32, "norm"), "order 'norm'"),
        (FCN(2, SIZES["vgg16"]._replace(padding=10), 32), "no crop"),
    ):
        with pytest.raises(ValueError, match=message):
            shapes(module, (32, 32))
    sizes = ("", "_small", "_tiny")
    known = {f"{f}{size}" for f in ("alexnet", "vgg16") for size in sizes}
    assert set(fcn_layers.SIZES) == known | {"vgg16_narrow"}
