"""Networks by name: any head on any backbone, and only settings that they have."""

import importlib
import json

import jax
import numpy as np
import pytest
from kit.oracle64 import output_shapes

from jaxseg.errors import UserError
from jaxseg.experiment import networks
from jaxseg.models.backbones import build as backbones
from jaxseg.models.segmenters import build as segmenters
from jaxseg.storage import run_folder

SHARED = dict(norm="train", axis_name=None, dtype=np.float32)


def load(name, preset="streets", **net):
    config = importlib.import_module(f"configs.{name}").get_config(preset)
    config.net.update(net)
    return config


PATCHES = (14, 16)  # strides of backbones whose only stride it is, from the first stage on


def tiny():
    """One backbone of each family: the last of its names, which go from large to small."""
    families = {backbones.family_of(name) for name in backbones.names()}
    return sorted(list(family.SIZES)[-1] for family in families)


@pytest.mark.parametrize("backbone", tiny())
@pytest.mark.parametrize("architecture", ["deeplabv2", "deeplabv3", "deeplabv3plus", "fpn"])
def test_any_head_on_any_backbone(architecture, backbone):
    rates = dict(rates=(1,)) if "rates" in segmenters.settings_of(architecture, backbone) else {}
    module = segmenters.build(architecture, 5, backbone, **SHARED, **rates)
    stride = min(backbones.family_of(backbone).STRIDES)
    rows, first = (5 * stride, stride) if stride in PATCHES else (64, 4)
    outputs = output_shapes(module, (rows, 8 * stride), 2)
    height = {"deeplabv2": rows // max(stride, 8), "deeplabv3": rows}
    height["deeplabv3plus"] = height["fpn"] = rows // first
    assert abs(outputs["main"][1] - height[architecture]) <= 1
    assert outputs["main"][3] == 5


@pytest.mark.parametrize("backbone", tiny())
def test_stages_have_the_strides_that_they_tell(backbone):
    for output_stride in backbones.family_of(backbone).STRIDES:
        module = backbones.build(
            backbone, output_stride=output_stride, initial="he", conventions="torchvision",
            name=None, **SHARED,
        )  # fmt: skip
        strides = []

        def run(key, images, module=module, strides=strides):
            stages, _ = module.init_with_output(key, images, True)
            strides += [stage.stride for stage in stages.values()]
            return {name: stage.features for name, stage in stages.items()}

        patches = backbones.family_of(backbone).STRIDES[0] in PATCHES
        rows, columns = (2 * output_stride, 4 * output_stride) if patches else (64, 128)
        images = jax.ShapeDtypeStruct((2, rows, columns, 3), np.float32)
        maps = jax.eval_shape(run, jax.random.PRNGKey(0), images)
        assert list(maps)[:4] == ["stage1", "stage2", "stage3", "stage4"]
        assert strides[0] == (output_stride if patches else 4) and strides[3] == output_stride
        for leaf, stride in zip(maps.values(), strides, strict=True):
            assert leaf.shape[1:3] == (rows // stride, columns // stride)


def test_no_two_families_share_a_name():
    names = backbones.names()
    assert len(names) == len(set(names)) and {"resnet101", "vgg16"} <= set(names)


def test_what_a_preset_says_of_another_architecture_is_taken_back():
    config = load("baseline", "camvid+scratch", architecture="unet")
    networks.settle(config, {"net.architecture": "unet"})
    networks.check(config.net)
    assert config.net.rates is None and config.net.dropout is None
    config = load("advent", "streets+scratch", backbone="vgg_tiny", aux=False)
    networks.settle(config)
    assert config.net.stride_in is None and config.net.rates == (1, 3, 6, 9)


def test_packaged_weights_follow_the_backbone():
    for backbone, weights in (
        ("efficientnet_lite0", "efficientnet_lite0"),
        ("efficientnet_lite2", "efficientnet_lite2"),
        ("resnet50", ""),
    ):
        config = load("advent", backbone=backbone)
        networks.settle(config, {"net.backbone": backbone})
        assert config.init.backbone == weights
    config = load("advent", backbone="efficientnet_lite2")
    networks.settle(config, {"net.backbone": "efficientnet_lite2", "init.backbone": ""})
    assert config.init.backbone == "efficientnet_lite0"  # as typed; training refuses it


@pytest.mark.parametrize(
    "net", [dict(rates=(1, 2)), dict(low_level=7), dict(output_stride=16), dict(stride_in="3x3")]
)
def test_what_is_given_by_hand_is_not(net):
    config = load("baseline", "camvid+scratch", architecture="unet", **net)
    networks.settle(config, {f"net.{key}": value for key, value in net.items()})
    (key,) = net
    assert config.net[key] == net[key]
    with pytest.raises(UserError, match=f"config.net.{key}=.*: unet of small has no such setting"):
        networks.check(config.net)


# What each config's net was when all of them had the settings of all architectures.
BEFORE = dict(
    rates=(1, 3, 6, 9), summed=0, stride_in="1x1", output_stride=8, low_level=48, dropout=0.5,
    aux=True, depth=False, fusion=False, init_std=0.0, remat=False,
)  # fmt: skip


@pytest.mark.parametrize(
    "name, preset, net",
    [
        ("advent", "streets+scratch", {}),
        ("advent", "streets+vgg16", dict(aux=False)),
        ("baseline", "camvid+scratch", dict(rates=(2, 4, 6), stride_in="3x3", aux=False)),
        ("fcn", "streets", dict(rates=(), aux=False)),
        ("gio_ada", "streets+scratch", dict(rates=(2, 4, 6), stride_in="3x3", low_level=16,
                                            dropout=0.1, aux=False, depth=True)),
    ],
)  # fmt: skip
def test_a_run_from_before_is_read_and_goes_on(name, preset, net, tmp_path):
    config = load(name, preset)
    saved = json.loads(config.to_json())
    saved["net"] |= json.loads(json.dumps(BEFORE | net))
    (tmp_path / "config.json").write_text(json.dumps(saved))
    (tmp_path / "checkpoints" / "1").mkdir(parents=True)
    run_folder.compare_config(config, str(tmp_path))
    own = run_folder.read_config(tmp_path)
    assert own.net.to_dict() == config.net.to_dict()
    saved["net"]["rates"] = [1, 2]
    (tmp_path / "config.json").write_text(json.dumps(saved))
    if name != "fcn":
        with pytest.raises(UserError, match=r"a run with config.net.rates=\[1, 2\], now it is"):
            run_folder.compare_config(config, str(tmp_path))
