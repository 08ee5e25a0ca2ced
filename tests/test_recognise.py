"""Published weights: which network a file belongs to, refused files, and VGG-16's names."""

import re

import jax
import numpy as np
import pytest

from jaxseg.errors import UserError
from jaxseg.models.backbones import vgg
from jaxseg.models.network import network
from jaxseg.models.segmenters.deeplabv2 import DeepLabV2
from jaxseg.storage.weights import merge, recognise, rename
from jaxseg.storage.weights.recognise import untouched

BRANCHES = "trained trained drawn drawn".split()
TORCHVISION = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
REFERENCE = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 23, 25, 27, 29, 31)


def kernel(kind, seed, classes=19, channels=64):
    random = np.random.RandomState(seed)
    values = 0.01 * random.standard_normal((classes, channels, 3, 3))
    if kind == "trained":
        values *= random.uniform(0.5, 2, (1, channels, 1, 1))
    return values.astype(np.float32)


def head(name, kinds=BRANCHES, classes=19):
    state = {}
    for branch, kind in enumerate(kinds):
        part = f"{name}.conv2d_list.{branch}"
        seed = 10 * len(name) + ord(name[-1]) + branch
        state[f"{part}.weight"] = kernel(kind, seed, classes)
        state[f"{part}.bias"] = np.zeros(classes, np.float32)
    return state


def trunk(blocks=(3, 4, 23, 3)):
    names = [f"layer{s}.{b}.conv1.weight" for s, n in enumerate(blocks, 1) for b in range(n)]
    return {"conv1.weight": np.ones((4, 3, 7, 7)), **{n: np.ones((4, 4, 1, 1)) for n in names}}


def vgg_trunk(indices):
    """Convolutions in the order of the names; the 512 channels are real, for fc6."""
    widths = [3, *(2,) * (len(indices) - 1), 512]
    state = {}
    for number, index in enumerate(indices):
        shape = (widths[number + 1], widths[number], 3, 3)
        state[f"features.{index}.weight"] = np.random.RandomState(index).normal(size=shape)
        state[f"features.{index}.bias"] = np.full(shape[0], index, float)
    return state


def test_untouched():
    assert all(untouched(kernel("drawn", seed)) for seed in range(200))
    assert untouched(kernel("drawn", 0, 13, 2048)) and not untouched(kernel("trained", 0))
    wide = kernel("drawn", 1, 19, 2048)
    assert untouched(wide)
    shifted = wide.copy()
    shifted[7] += 6e-4  # a sixteenth of the standard deviation, in one class
    random = np.random.RandomState(0)
    same_std = (
        random.uniform(-1, 1, wide.shape) * 0.01 * np.sqrt(3),
        random.laplace(0, 0.01 / np.sqrt(2), wide.shape),
    )
    for values in (0.99 * wide, wide + 2e-4, shifted, *same_std, 0 * wide, np.nan * wide):
        assert not untouched(values)


SINGLE = dict(aux=False)


@pytest.mark.parametrize(
    "state, net, classes, said",
    [
        ({**trunk(), **head("layer5"), **head("layer6")}, {}, 19, "two levels.*AdaptSegNet"),
        (
            {**trunk(), **head("layer5", ["trained"] * 4), **head("layer6", ["trained"] * 4)},
            dict(summed=0), 19, "all four.*ADVENT",
        ),
        (
            {**trunk((3, 4, 6, 3)), **head("layer5", classes=13)},
            dict(SINGLE, backbone="resnet50"), 13, "ResNet-50, one level.*13 classes",
        ),
        (
            {**trunk(), **head("layer6", ["trained"] * 4, 16)},
            dict(SINGLE, summed=0), 16, "layer6.*16 classes",
        ),
        (
            {f"Scale.{n}": a for n, a in {**trunk(), **head("layer5", classes=21)}.items()},
            SINGLE, 21, "one level",
        ),
        (
            {**vgg_trunk(REFERENCE), **head("classifier")},
            dict(SINGLE, backbone="vgg16"), 19, "VGG-16",
        ),
        ({**trunk(), **head("layer5", ["drawn"] * 4)}, dict(SINGLE, summed=0), 19, "never trained"),
        (
            {**trunk(), **head("layer5", ["trained"] * 3 + ["drawn"])},
            dict(SINGLE, summed=0), 19, r"branches \[3\] .* all four",
        ),
        (
            {**trunk(), **head("layer5", ["drawn"] * 4), **head("layer6")},
            {}, 19, "unlike those of its other head, so the first two",
        ),
        (
            {**trunk(), **head("layer5"), **head("layer6", ["trained"] * 4)},
            dict(summed=0), 19, "trained, unlike those of its other head, and are summed",
        ),
    ],
)  # fmt: skip
def test_recognised(state, net, classes, said):
    found = recognise.recognise(state)
    usual = dict(
        architecture="deeplabv2", backbone="resnet101", aux=True, rates=(6, 12, 18, 24), summed=2,
        preprocess="caffe",
    )  # fmt: skip
    if net.get("backbone") != "vgg16":
        usual["stride_in"] = "1x1"
    assert found.net == {**usual, **net} and found.num_classes == classes
    assert re.search(said, found.origin) and "\n" not in found.origin


@pytest.mark.parametrize(
    "state, said",
    [
        ({**trunk(), "fc.weight": np.ones((1000, 12))}, "init.backbone"),
        ({**vgg_trunk(TORCHVISION), "classifier.6.weight": np.ones((9, 9))}, "init.backbone"),
        ({"conv1.weight": np.ones((64, 19, 4, 4)), "classifier.bias": 0}, "a discriminator"),
        ({**trunk((3, 8, 36, 3)), **head("layer5")}, "not recognised"),
        ({**vgg_trunk((0, 3, 7)), **head("classifier")}, "not recognised"),
        ({**trunk(), **head("classifier")}, "init.backbone"),
        ({"encoder.weight": np.ones((2, 2))}, "not recognised.* it has encoder.weight"),
        ({**trunk(), **head("layer5", BRANCHES[:3])}, "4 branches"),
        ({**trunk(), **head("layer5"), **head("layer6", classes=16)}, "number of classes"),
        ({**trunk(), **head("layer5"), "layer5.conv2d_list.3.weight": np.ones((19, 4))}, "classes"),
        ({"params/backbone/conv1/kernel": np.ones((7, 7, 3, 64))}, "without a main_head"),
    ],
)
def test_refused(state, said):
    with pytest.raises(UserError, match=f"^some.pth: .*{said}") as caught:
        recognise.recognise(state, "some.pth")
    assert "\n" not in str(caught.value)


def test_own_names_leave_the_network_to_the_config():
    for name in ("branch0/kernel", "kernel"):
        found = recognise.recognise({f"params/main_head/{name}": np.ones((3, 3, 8, 11))})
        assert found.net == {} and found.num_classes == 11


def zeros(sizes):
    net = network(DeepLabV2(19, sizes, aux=False))
    images = jax.ShapeDtypeStruct((1, 16, 16, 3), np.float32)
    shapes = jax.eval_shape(net.init, jax.random.PRNGKey(0), images)
    return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)


FRONTEND = vgg.Sizes(
    widths=(2, 2, 2, 2, 512), fc6=vgg.Full(7, 4, 3), fc7=vgg.Full(1, 1, 5), score=True
)


def imagenet_vgg(first, second):
    random = np.random.RandomState(0)
    state = vgg_trunk(TORCHVISION)
    # vgg_trunk widens at its last layer alone; here all of stage 5 is that wide.
    for index, channels in ((24, 2), (26, 512), (28, 512)):
        state[f"features.{index}.weight"] = random.normal(size=(512, channels, 3, 3))
        state[f"features.{index}.bias"] = np.full(512, index, float)
    for layer, shape in ((first, (3, 512 * 49)), (second, (5, 3)), (6, (1000, 5))):
        state[f"classifier.{layer}.weight"] = random.normal(size=shape)
        state[f"classifier.{layer}.bias"] = np.full(shape[0], layer, float)
    return state


@pytest.mark.parametrize("first, second", [(0, 3), (1, 4)])
def test_fully_connected_layers_become_the_front_ends(first, second):
    state = imagenet_vgg(first, second)
    renamed = rename.to_ours(state)
    empty = zeros(FRONTEND)
    params, _, report = merge.merge(*empty, renamed, excused=rename.BACKBONE_ONLY)
    assert report.left_over == ("classifier.6.weight", "classifier.6.bias")
    assert set(report.missing) == {"params/main_head/kernel", "params/main_head/bias"}
    assert not report.mismatched and len(report.matched) == 2 * 15
    trunk = params["backbone"]
    np.testing.assert_array_equal(trunk["conv5_2"]["bias"], np.full(512, 26))
    np.testing.assert_array_equal(
        trunk["conv4_1"]["kernel"], state["features.17.weight"].transpose(2, 3, 1, 0).astype("f4")
    )
    # On a 7x7 map, which VGG-16 flattens channels first, the layers are the same linear maps.
    features = np.random.RandomState(1).normal(size=(7, 7, 512))
    fc6 = np.einsum("hwc,hwco->o", features, trunk["fc6"]["kernel"])
    want = state[f"classifier.{first}.weight"] @ features.transpose(2, 0, 1).ravel()
    np.testing.assert_allclose(fc6, want, rtol=1e-4)
    np.testing.assert_allclose(
        trunk["fc7"]["kernel"][0, 0].T, state[f"classifier.{second}.weight"], rtol=1e-6
    )


def test_the_reference_takes_the_convolutions_alone():
    sizes = FRONTEND._replace(fc6=vgg.Full(3, 4, 8), fc7=vgg.Full(3, 4, 8), score=False)
    renamed = rename.to_ours(imagenet_vgg(0, 3))
    params, _, report = merge.merge(*zeros(sizes), renamed, excused=rename.BACKBONE_ONLY)
    assert len(report.matched) == 2 * 13 and len(report.mismatched) == 4
    assert not np.any(params["backbone"]["fc6"]["kernel"])
    with pytest.raises(UserError, match="of another shape"):
        merge.merge(*zeros(sizes), renamed, excused=rename.BACKBONE_ONLY[:2])


def test_a_file_of_convolutions_alone():
    convolutions = {n: a for n, a in imagenet_vgg(0, 3).items() if n.startswith("features")}
    names = set(rename.to_ours(convolutions))
    assert {"params/backbone/conv1_1/kernel", "params/backbone/conv5_3/bias"} < names
    assert all(name.startswith("params/backbone/conv") for name in names)
    # With BatchNorm, or another depth, the numbers mean other layers: nothing is renamed.
    assert set(rename.to_ours(vgg_trunk((0, 1, 3, 4)))) == set(vgg_trunk((0, 1, 3, 4)))


def test_flavour_of_vgg():
    assert rename.flavour({**vgg_trunk(REFERENCE), **head("classifier")}) == "reference"
    assert rename.flavour(imagenet_vgg(0, 3)) == rename.flavour(imagenet_vgg(1, 4)) == "unknown"
