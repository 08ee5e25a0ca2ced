"""HRDA: fusion, windows, and the reference's logits."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from kit import references, transformers
from kit.oracle64 import count, output_shapes, quick, shapes

from jaxseg.errors import UserError
from jaxseg.models.backbones import mit
from jaxseg.models.backbones.given import given
from jaxseg.models.network import network
from jaxseg.models.segmenters import build as segmenters
from jaxseg.models.segmenters import segformer
from jaxseg.models.segmenters.daformer import DAFormer
from jaxseg.models.segmenters.hrda import HRDA, fuse, starts
from jaxseg.storage.weights import rename_mit

CLASSES, CHANNELS = transformers.CLASSES, transformers.CHANNELS


def built(norm="train", drop_path=0.1, dropout=0.1, window=(64, 64), **settings):
    shared = dict(dropout=dropout, norm=norm)
    return HRDA(
        mit.make(mit.SIZES["mit_tiny"], drop_path=drop_path),
        DAFormer(CLASSES, given, CHANNELS, **shared),
        segformer.Head(CLASSES, CHANNELS, **shared),
        window,
        **settings,
    )


@pytest.fixture(scope="module")
def expected(request):
    with np.load(request.path.parent / "fixtures/transformers.npz") as archive:
        return dict(archive)


@pytest.fixture(scope="module")
def model():
    shapes_of_file = {**transformers.mit("backbone."), **transformers.hrda()}
    ours = rename_mit.to_ours(transformers.values(shapes_of_file))
    return references.loaded(built(), (128, 128), ours)


def test_parameters_of_hrda_b5():
    sizes = mit.SIZES["mit_b5"]._replace(blocks=(1, 1, 1, 1))
    module = HRDA(mit.make(sizes), DAFormer(19, given), segformer.Head(19), (32, 32))
    params, stats = shapes(module, (64, 64))
    assert set(params) == {"backbone", "main_head", "attention_head"}
    assert set(stats) == {"main_head", "attention_head"}
    encoder = 81_443_008  # see test_mit.py
    heads = count(params["main_head"]) + count(params["attention_head"])
    assert encoder + heads == 85_685_990


@pytest.mark.parametrize("size", [(128, 128), (128, 192)])
def test_logits_of_the_reference(size, model, expected):
    apply = network(built(upsample=True)).apply
    picture = references.picture(size)
    outputs = quick(lambda *v: apply(*v, False)[0], *model, picture)
    references.check(expected, "hrda", {"main": outputs["main"]}, size)


def test_logits_of_the_reference_for_a_window(model, expected):
    size, window = (128, 192), (48, 64)
    apply = network(built("frozen", drop_path=0.0, dropout=0.0)).apply
    picture = references.picture(size)
    outputs = quick(lambda *v: apply(*v[:3], True, v[3])[0], *model, picture, jax.random.PRNGKey(3))
    assert tuple(outputs.pop("window")) == window
    del outputs["lr"]
    references.check(expected, "hrda-window", outputs, size)


def test_fusion_by_hand():
    """One class; context 1, detail 5, attention a quarter: 0.75 + 1.25 within the window."""
    shape = (1, 8, 8, 1)
    attention, context = jnp.full(shape, 0.25), jnp.ones(shape)
    whole = fuse(attention, context, jnp.full((1, 16, 16, 1), 5.0))
    np.testing.assert_allclose(whole, np.full((1, 16, 16, 1), 2.0), rtol=1e-6)
    part = fuse(attention, context, jnp.full((1, 8, 8, 1), 5.0), jnp.array((4, 6)))
    part = np.asarray(part)[0, :, :, 0]
    np.testing.assert_allclose(part[5:11, 7:13], 2.0, rtol=1e-6)
    # Outside only the context counts, but for the blur of the mask's edge, which leaks one cell.
    outside = np.ones((16, 16), bool)
    outside[3:13, 5:15] = False
    np.testing.assert_allclose(part[outside], 1.0, rtol=1e-6)
    # The edge of (1 - a) lies a quarter of the way; within, a quarter of the detail is added too.
    np.testing.assert_allclose(part[3, 8], 1 - 0.25 / 4, rtol=1e-6)


def test_windows_that_cover_an_image():
    assert starts(1024, 512) == [0, 256, 512]
    assert len(starts(1024, 512)) ** 2 == 9
    assert starts(512, 512) == [0] and starts(600, 512) == [0, 88]
    assert starts(900, 512) == [0, 256, 388]


def test_windows_that_are_drawn():
    """Multiples of 8 from 0 to 504 for margins of 512: like the reference, 512 is never drawn."""
    module = built(window=(512, 512))
    images = jax.ShapeDtypeStruct((1, 1024, 1024, 3), np.float32)
    draw = jax.jit(
        jax.vmap(lambda key: nn.apply(lambda m: m._draw(images), module)({}, rngs={"dropout": key}))
    )
    corners = np.asarray(draw(jax.random.split(jax.random.PRNGKey(0), 2000)))
    assert set(np.unique(corners)) == set(range(0, 512, 8))


def test_sizes_that_cannot_be():
    for size, window, message in (
        ((128, 132), (64, 64), "images of 128x132: give multiples of 8; .*--config.eval.window"),
        ((128, 128), (64, 60), "windows of 64x60: give multiples of 8"),
        ((64, 64), (64, 128), "a window of 64x128 is larger than the image, 64x64: make"),
    ):
        with pytest.raises(UserError, match=message):
            shapes(built(window=window), size)
    with pytest.raises(UserError, match="has logits of 16x16, not of stride 8"):
        shapes(built(unit=16), (128, 128))


def test_settings():
    build = functools.partial(
        segmenters.build, num_classes=5, backbone="mit_tiny", norm="train", axis_name=None,
        dtype=np.float32, channels=16, hrda=(64, 64),
    )  # fmt: skip
    module = build("daformer", context="aspp", drop_path=0.2)
    assert (module.segmenter.context, module.backbone.drop_path) == ("aspp", 0.2)
    found = output_shapes(module, (128, 192))
    assert found["main"] == (1, 128, 192, 5) and found["hr"] == (1, 64, 64, 5)
    assert found["lr"] == (1, 16, 24, 5) and found["features"] == (1, 2, 3, 64)
    assert isinstance(build("segformer").segmenter, segformer.SegFormer)
    pyramid = build("fpn", backbone="efficientnet_tiny")
    found = output_shapes(pyramid, (128, 192))
    assert found["main"] == (1, 128, 192, 5) and found["hr"] == (1, 64, 64, 5)
    params, _ = shapes(pyramid, (128, 192))
    heads = {"decoder", "main_head", "attention_head"}
    assert set(params) == {"backbone", *heads}
    alone, _ = shapes(build("fpn", backbone="efficientnet_tiny", hrda=None), (64, 64))
    assert all(count(params[name]) == count(alone[name]) for name in alone)
    with pytest.raises(UserError, match=r"config.net.hrda=\(60, 64\): .* multiples of 8"):
        build("daformer", hrda=(60, 64))
    with pytest.raises(UserError, match="config.net.hrda=.*: deeplabv2 does not work at two"):
        build("deeplabv2", backbone="tiny", channels=None)
