"""The references' weights, from a .pth in their names to the logits of the references' networks."""

import jax
import numpy as np
import pytest
from kit import published, torch_files

from jaxseg.experiment import networks
from jaxseg.models.network import network
from jaxseg.models.segmenters import build as segmenters
from jaxseg.storage.weights import files, merge, recognise, rename

FIXTURE = "fixtures/published_logits.npz"
# file: container, settings of config.net that differ, parts of what is said of it
FILES = {
    "adaptsegnet": ("zip", dict(aux=True, summed=2), ("ResNet-101", "two levels", "AdaptSegNet")),
    "advent": ("stream", dict(aux=True, summed=0), ("ResNet-101", "two levels", "as in ADVENT")),
    "single": ("stream", dict(aux=False, summed=2), ("ResNet-101", "(layer5)", "AdaptSegNet")),
    "vgg": ("zip", dict(aux=False, summed=2, backbone="vgg16"), ("VGG-16", "AdaptSegNet")),
}


@pytest.fixture(scope="module")
def trunk():
    return published.resnet101()


@pytest.fixture(scope="module")
def expected(request):
    with np.load(request.path.parent / FIXTURE) as archive:
        return dict(archive)


@pytest.fixture(scope="module", params=FILES)
def model(request, trunk, tmp_path_factory):
    """(file, compiled apply, params, stats) of a file that went through all steps."""
    file = request.param
    container, settings, parts = FILES[file]
    state = published.vgg16() if file == "vgg" else {**trunk, **published.heads(file)}
    path = tmp_path_factory.mktemp("weights") / f"{file}.pth"
    torch_files.write_state_dict(path, state, container)
    tensors = files.load(path)
    path.unlink()
    assert {name: array.shape for name, array in tensors.items()} == {
        name: array.shape for name, array in state.items()
    }
    found = recognise.recognise(tensors)
    common = dict(
        architecture="deeplabv2", backbone="resnet101", rates=(6, 12, 18, 24), preprocess="caffe"
    )  # fmt: skip
    if settings.get("backbone") != "vgg16":  # a VGG has no blocks that stride
        common["stride_in"] = "1x1"
    assert found.net == {**common, **settings} and found.num_classes == 19
    assert all(part in found.origin for part in parts) and "\n" not in found.origin

    net = dict(found.net)
    preprocess = networks.PREPROCESS[net.pop("preprocess")]
    shared = dict(norm="reference", axis_name=None, dtype=np.float32)
    module = segmenters.build(net.pop("architecture"), found.num_classes, **net, **shared)
    built = network(module, preprocess)
    shapes = jax.eval_shape(
        built.init, jax.random.PRNGKey(0), jax.ShapeDtypeStruct((1, 65, 65, 3), np.uint8)
    )
    empty = jax.tree.map(lambda leaf: np.full(leaf.shape, np.nan, leaf.dtype), shapes)
    params, stats, report = merge.merge(*empty, rename.to_ours(tensors))
    assert len(report.matched) == len(tensors)
    assert not (report.left_over or report.missing or report.mismatched)

    @jax.jit
    def apply(*arguments):
        outputs = built.apply(*arguments, False)[0]
        return {level: outputs[level] for level in outputs if level != "features"}

    return file, apply, jax.device_put(params), jax.device_put(stats)


@pytest.mark.parametrize("size", published.SIZES, ids=lambda size: "x".join(map(str, size)))
def test_logits_of_the_references(model, size, expected):
    file, apply, params, stats = model
    outputs = jax.device_get(apply(params, stats, published.image(size)))
    for level, logits in outputs.items():
        key = f"{file}/{level}/{size[0]}x{size[1]}"
        flat = logits[0].transpose(2, 0, 1).ravel()
        got, want = flat[published.positions(key, flat.size)], expected[key]
        assert np.abs(got - want).max() < 1e-4 * want.std(), key
    assert len(outputs) == sum(key.startswith(f"{file}/") for key in expected) / 2
