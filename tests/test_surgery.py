"""Net surgery and .caffemodel files: classifiers become convolutions of the same function."""

import jax
import numpy as np
import pytest
from kit.oracle64 import leaves, shapes
from kit.surgery import ALEXNET, VGG, field, layer

from jaxseg.errors import UserError
from jaxseg.models.segmenters.fcn import FCN
from jaxseg.storage.weights import caffemodel, files, merge, surgery


def classifier(sizes, channels_first):
    """{layer: (kernel, bias)} as the fully connected network has them."""
    params = leaves(shapes(FCN(2, sizes, 32), (32, 32))[0]["backbone"])
    generator, found = np.random.default_rng(0), {}
    for name in sorted({path.split("/")[0] for path in params}):
        side, _, into, out = params[f"{name}/kernel"].shape
        kernel = generator.normal(size=(out, into, side, side)).astype(np.float32)
        if name.startswith("fc"):
            flat = kernel if channels_first else kernel.transpose(0, 2, 3, 1)
            kernel = flat.reshape(out, -1) if channels_first else flat.reshape(out, -1).T
        elif not channels_first:
            kernel = kernel.transpose(2, 3, 1, 0)
        found[name] = kernel, generator.normal(size=out).astype(np.float32)
    found["fc8"] = generator.normal(size=(5, 5)), np.zeros(5, np.float32)
    return found


def flat_names(found, weight, bias):
    return {
        name: array
        for layer, pair in found.items()
        for name, array in zip((f"{layer}{weight}", f"{layer}{bias}"), pair, strict=True)
    }


@pytest.mark.parametrize("sizes", [ALEXNET, VGG], ids=["alexnet", "vgg16"])
@pytest.mark.parametrize("channels_first", [True, False])
@pytest.mark.parametrize("names", [(".weight", ".bias"), ("_W", "_b"), ("/0", "/1")])
def test_a_window_as_large_as_the_map_is_the_classifier(tmp_path, sizes, channels_first, names):
    found = classifier(sizes, channels_first)
    np.savez(tmp_path / "w.npz", **flat_names(found, *names))
    tensors = surgery.to_ours(files.load(tmp_path / "w.npz"))
    tree = jax.tree.map(
        lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes(FCN(2, sizes, 32), (32, 32))
    )
    params, _, report = merge.merge(*tree, tensors, excused=surgery.CLASSIFIER_ONLY)
    assert len(report.matched) == 2 * (len(found) - 1)
    assert {name[:3] for name in report.left_over} == {"fc8"}
    side, width = sizes.full_kernel, sizes.widths[-1]
    window = np.random.default_rng(1).normal(size=(side, side, width))
    flat = window.transpose(2, 0, 1).ravel() if channels_first else window.ravel()
    matrix = found["fc6"][0] if channels_first else found["fc6"][0].T
    got = np.tensordot(window, params["backbone"]["fc6"]["kernel"], 3)
    np.testing.assert_allclose(got, matrix @ flat, rtol=1e-5)
    first = "conv1" if sizes is ALEXNET else "conv1_1"
    kernel = found[first][0]
    kernel = kernel.transpose(2, 3, 1, 0) if channels_first else kernel
    np.testing.assert_array_equal(params["backbone"][first]["kernel"], kernel)
    np.testing.assert_array_equal(params["backbone"]["fc7"]["bias"], found["fc7"][1])


def test_an_fcn_of_caffe_needs_no_surgery():
    tensors = {
        "conv1.weight": np.ones((4, 3, 11, 11)),
        "conv5.weight": np.ones((4, 2, 3, 3)),
        "fc6.weight": np.arange(5 * 4 * 36.0).reshape(5, 4, 6, 6),
        "fc7.weight": np.arange(25.0).reshape(1, 1, 5, 5),  # older files: four axes everywhere
        "fc7.bias": np.ones((1, 1, 1, 5)),
        "score_fr.weight": np.ones((2, 5, 1, 1)),
        "score_pool4.bias": np.ones(2),
        "upscore.weight": np.ones((2, 2, 63, 63)),
    }
    ours = surgery.to_ours(tensors)
    expected = tensors["fc6.weight"].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(ours["params/backbone/fc6/kernel"], expected)
    fc7 = ours["params/backbone/fc7/kernel"]
    np.testing.assert_array_equal(fc7[0, 0], np.arange(25.0).reshape(5, 5).T)
    assert ours["params/backbone/fc7/bias"].shape == (5,)
    assert ours["params/main_head/score_fr/kernel"].shape == (1, 1, 5, 2)
    assert ours["params/main_head/score_pool4/bias"].shape == (2,)
    assert "upscore.weight" in ours


def test_what_is_no_such_network_is_refused():
    first = {"conv1.weight": np.ones((4, 3, 11, 11))}
    last = {**first, "conv5.weight": np.ones((4, 2, 3, 3))}
    for tensors, message in (
        ({"features.0.weight": np.ones((64, 3, 11, 11))}, "no conv1"),
        ({"conv1.weight": np.ones((4, 5, 3, 3))}, "three channels"),
        ({**first, "fc6.weight": np.ones((5, 144))}, "no conv5"),
        ({**last, "fc6.weight": np.ones((5, 140))}, "140 values"),
        ({**last, "fc6.weight": np.ones((5, 2, 3))}, "fc6 has shape"),
    ):
        with pytest.raises(UserError, match=message):
            surgery.to_ours(tensors)


@pytest.mark.parametrize("generation", [1, 2, 3])
def test_caffemodel(tmp_path, generation):
    kernel = np.random.default_rng(0).normal(size=(6, 3, 5, 5)).astype(np.float32)
    bias = np.arange(6, dtype=np.float32)
    content = field(1, b"net") + layer(generation, b"data", [])
    content += layer(generation, b"conv1", [kernel, bias]) + layer(generation, b"bn", [bias] * 3)
    path = tmp_path / "w.caffemodel"
    path.write_bytes(content)
    tensors = caffemodel.read(path)
    assert set(tensors) == {"conv1.weight", "conv1.bias", "bn.weight", "bn.bias", "bn.2"}
    np.testing.assert_array_equal(tensors["conv1.weight"], kernel)
    np.testing.assert_array_equal(tensors["conv1.bias"].ravel(), bias)
    ours = surgery.to_ours(tensors)
    assert ours["params/backbone/conv1/kernel"].shape == (5, 5, 3, 6)
    for cut in (1, 10, len(content) // 2, len(content) - 3):
        path.write_bytes(content[:cut])
        with pytest.raises(ValueError):
            caffemodel.read(path)
    damaged = content.replace(kernel.astype("<f4").tobytes(), b"")
    for wrong in (b"hello, this is no weights file", damaged, b"\xff" * 30):
        path.write_bytes(wrong)
        with pytest.raises(ValueError):
            caffemodel.read(path)
