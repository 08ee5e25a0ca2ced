"""HRDA: fusion, windows, and the reference's logits."""

import jax
import numpy as np
import pytest
from kit import references, transformers
from kit.oracle64 import count, quick, shapes

from jaxseg.models.backbones import mit
from jaxseg.models.network import network
from jaxseg.models.segmenters import segformer
from jaxseg.models.segmenters.daformer import DAFormer
from jaxseg.models.segmenters.hrda import HRDA, given
from jaxseg.storage.weights import rename_mit

CLASSES, CHANNELS = transformers.CLASSES, transformers.CHANNELS
# A key, and the window that it draws in images of each size.
KEY, WINDOWS = 3, {(128, 128): (48, 0), (128, 192): (48, 64)}


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
    module = HRDA(mit.make(mit.SIZES["mit_b5"]), DAFormer(19, given), segformer.Head(19), (64, 64))
    params, stats = shapes(module, (128, 128))
    assert count(params) == 85_685_990
    assert set(params) == {"backbone", "main_head", "attention_head"}
    assert set(stats) == {"main_head", "attention_head"}


@pytest.mark.parametrize("size", WINDOWS)
def test_logits_of_the_reference(size, model, expected):
    apply = network(built(upsample=True)).apply
    picture = references.picture(size)
    outputs = quick(lambda *v: apply(*v, False)[0], *model, picture)
    references.check(expected, "hrda", {"main": outputs["main"]}, size)


@pytest.mark.parametrize("size", WINDOWS)
def test_logits_of_the_reference_for_a_window(size, model, expected):
    apply = network(built("frozen", drop_path=0.0, dropout=0.0)).apply
    picture = references.picture(size)
    outputs = quick(
        lambda *v: apply(*v[:3], True, v[3])[0], *model, picture, jax.random.PRNGKey(KEY)
    )
    assert tuple(outputs.pop("window")) == WINDOWS[size]
    del outputs["lr"]
    references.check(expected, "hrda-window", outputs, size)
