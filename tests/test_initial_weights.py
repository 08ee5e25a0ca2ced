"""`config.init.backbone` by architecture: which names are understood, what may be missing."""

import re

import jax
import numpy as np
import pytest
from kit import transformers
from kit.oracle64 import leaves, shapes
from kit.small import small_config
from kit.surgery import ALEXNET, VGG, field, layer
from kit.torchvision import torchvision_shapes

from jaxseg.errors import UserError
from jaxseg.experiment import state
from jaxseg.experiment.method import make_method
from jaxseg.experiment.optimisers import make_optimisers
from jaxseg.experiment.state import abstract_state, with_initial_weights
from jaxseg.models.segmenters.deeplabv3 import DeepLabV3
from jaxseg.models.segmenters.fcn import FCN
from jaxseg.storage.weights import files, initial, merge, vgg


def caffe(module, left_out=()):
    """{'<layer>.weight' and '.bias': array} of a trunk in Caffe's layouts."""
    found = {}
    for number, (path, leaf) in enumerate(sorted(leaves(shapes(module, (32, 32))[0]).items())):
        group, name, kind = path.split("/")
        if group != "backbone" or name in left_out:
            continue
        value = np.full(leaf.shape, number, np.float32)
        if kind == "kernel":
            value = value.transpose(3, 2, 0, 1)
            value = value.reshape(len(value), -1) if name.startswith("fc") else value
        found[f"{name}.{'weight' if kind == 'kernel' else 'bias'}"] = value
    return found


def started(config, path, tmp_path):
    """(segmenter's parameters, statistics, what was announced) from the file `path`."""
    config.init.backbone = str(path)
    method, players = make_method(config), make_optimisers(config)
    shape = abstract_state(config, method, players)
    state = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype) - 1, shape)
    said = []
    state = with_initial_weights(config, state, str(tmp_path), said.append)
    return state.params["gen"]["segmenter"], state.stats["segmenter"], "\n".join(said)


@pytest.fixture
def fcn(tmp_path):
    return built_on(small_config("fcn", tmp_path), VGG, 8)


def built_on(config, sizes, stride):
    """The network on a trunk of these sizes, which has no name."""
    with config.ignore_type():
        config.net.backbone = sizes
    config.net.output_stride = stride
    return config


@pytest.mark.parametrize("sizes, stride", [(VGG, 8), (ALEXNET, 32)], ids=("vgg16", "alexnet"))
@pytest.mark.parametrize("suffix", [".caffemodel", ".npz"])
def test_an_fcn_begins_with_caffes_classifier(fcn, tmp_path, sizes, stride, suffix):
    built_on(fcn, sizes, stride)
    tensors = caffe(FCN(19, sizes, stride))
    tensors |= {"fc8.weight": np.ones((9, 5), np.float32), "fc8.bias": np.ones(9, np.float32)}
    path = tmp_path / f"w{suffix}"
    if suffix == ".npz":
        np.savez(path, **tensors)
    else:
        content = field(1, b"net")
        for own in dict.fromkeys(key.split(".")[0] for key in tensors):
            pair = [tensors[f"{own}.weight"], tensors[f"{own}.bias"]]
            content += layer(3, own.encode(), pair)
        path.write_bytes(content)
    params, stats, said = started(fcn, path, tmp_path)
    assert stats == {} and "warning" not in said
    assert all(leaf.min() >= 0 for leaf in jax.tree.leaves(params["backbone"]))
    assert all((leaf == -1).all() for leaf in jax.tree.leaves(params["main_head"]))
    side = sizes.full_kernel
    assert params["backbone"]["fc6"]["kernel"].shape[:2] == (side, side)


def test_an_fcn_without_fc6_is_told(fcn, tmp_path):
    np.savez(tmp_path / "w.npz", **caffe(FCN(19, VGG), left_out=("fc6", "fc7")))
    with pytest.raises(UserError, match="4 missing: params/backbone/fc6/"):
        started(fcn, tmp_path / "w.npz", tmp_path)
    fcn.init.excused = ("fc[67]", "^params/main_head/")
    started(fcn, tmp_path / "w.npz", tmp_path)


def test_an_fcn_takes_torchvisions_vgg(fcn, tmp_path):
    tensors = {}
    numbers = {name: number for number, name in vgg.NUMBERINGS["torchvision"].items()}
    for name, array in caffe(FCN(19, VGG)).items():
        own, leaf = name.split(".")
        place = {"fc6": "classifier.0", "fc7": "classifier.3"}.get(own)
        tensors[f"{place or f'features.{numbers[own]}'}.{leaf}"] = array
    # vgg.as_convolution knows 512 channels; with 4 of them fc6 is not the classifier's.
    ours = initial.to_ours(tensors, "fcn")
    assert "params/backbone/conv5_3/kernel" in ours and "params/backbone/fc7/kernel" in ours
    np.savez(tmp_path / "w.npz", **tensors, **{"classifier.6.weight": np.ones((9, 5))})
    fcn.init.excused = (*initial.excused("fcn"), "backbone/fc6")
    params, _, _ = started(fcn, tmp_path / "w.npz", tmp_path)
    assert params["backbone"]["conv5_3"]["kernel"].min() >= 0


def test_deeplabv3_begins_with_torchvisions_resnet_or_its_own(tmp_path):
    config = small_config("baseline", tmp_path)
    config.net.stride_in = "1x1"
    params, stats = shapes(DeepLabV3(19, "tiny", (1, 2)), (32, 32))
    tensors, whole = {}, {}
    for tree in (params, stats):
        for path, leaf in leaves(tree).items():
            value = np.full(leaf.shape, 2, np.float32)
            kind = "params" if tree is params else "stats"
            whole[f"{kind}/{path}"] = value
            group, *parts, leaf_name = path.split("/")
            if group == "backbone":
                stage = parts[0].replace("_block", ".") if len(parts) > 1 else ""
                part = parts[-1].replace("downsample_conv", "downsample.0")
                part = part.replace("downsample_bn", "downsample.1")
                torch = {"kernel": "weight", "scale": "weight", "bias": "bias"}
                torch |= {"mean": "running_mean", "var": "running_var"}
                name = ".".join(filter(None, (stage, part, torch[leaf_name])))
                tensors[name] = value.transpose(3, 2, 0, 1) if value.ndim == 4 else value
    np.savez(tmp_path / "trunk.npz", **tensors, **{"fc.weight": np.ones((9, 4))})
    got, running, said = started(config, tmp_path / "trunk.npz", tmp_path)
    assert "warning" in said and "stride_in=3x3" in said
    for tree in (got, running):
        assert all((leaf == 2).all() for leaf in jax.tree.leaves(tree["backbone"]))
        assert all((leaf == -1).all() for leaf in jax.tree.leaves(tree["main_head"]))
    files.save(tmp_path / "own.npz", *(jax.tree.map(lambda x: x + 1, t) for t in (got, running)))
    got, running, said = started(config, tmp_path / "own.npz", tmp_path)
    assert "warning" not in said and set(whole) == {
        *(f"params/{path}" for path in leaves(got)), *(f"stats/{path}" for path in leaves(running))
    }  # fmt: skip
    assert all((leaf == 3).all() for leaf in jax.tree.leaves(got["backbone"]))


def test_deeplabv3_takes_torchvisions_deeplabv3():
    names = torchvision_shapes((3, 4, 6, 3))
    tensors = {name: np.broadcast_to(np.float32(0), shape) for name, shape in names.items()}
    assert initial.from_torchvision(tensors)
    ours = initial.to_ours(tensors, "deeplabv3")
    assert all(name.startswith(("params/", "stats/")) for name in ours)
    heads = [name for name in ours if "_head/" in name]
    assert heads and all(
        any(re.search(pattern, name) for pattern in initial.excused("deeplabv3")) for name in heads
    )
    assert not initial.from_torchvision(ours) and initial.to_ours(ours, "deeplabv3") == ours
    assert initial.to_ours(ours, "fcn") == ours


def test_a_damaged_caffemodel_names_itself(tmp_path):
    (tmp_path / "w.caffemodel").write_bytes(b"hello, this is no weights file")
    with pytest.raises(UserError, match="w.caffemodel: not a readable .caffemodel"):
        files.load(tmp_path / "w.caffemodel")


def test_a_distance_to_features_of_nothing_is_told(tmp_path):
    said = []
    for name in ("dacs", "daformer"):
        with_initial_weights(small_config(name, "nowhere"), None, str(tmp_path), said.append)
    *random, note = said
    assert random == 2 * [f"{state.RANDOM} (config.init.backbone)"]
    assert note.startswith("note: config.init.backbone is empty")
    assert (tmp_path / state.FILE).read_text().startswith("initial weights: none")


def test_another_transformer_is_told_by_name(tmp_path):
    path = tmp_path / "mit.npz"
    np.savez(path, **transformers.values(transformers.mit()))
    config = small_config("daformer", tmp_path)
    config.net.update(dict(architecture="daformer", aux=False, rates=None, summed=None))
    config.net.update(dict(stride_in=None, channels=4, backbone="mit_b0"))
    with pytest.raises(UserError, match="MiT tiny without a head, not .*backbone=mit_tiny, or"):
        started(config, path, tmp_path)
    config.net.backbone = "mit_tiny"
    _, _, said = started(config, path, tmp_path)
    assert "matched" in said


def test_equal_names_of_other_shapes_are_told(tmp_path):
    wide, narrow = {"a": {"kernel": np.zeros((3, 4))}}, {"params/a/kernel": np.zeros((3, 2))}
    with pytest.raises(UserError, match=r"first params/a/kernel \(3, 2\) -> \(3, 4\); choose"):
        merge.merge(wide, {}, narrow)
