"""The presets of the supervised experiments: their settings, and the networks that they build."""

import jax
import jax.numpy as jnp
import pytest
from kit.experiments import SUPERVISED, count, load, read

from jaxseg.data import classfile, labels
from jaxseg.errors import UserError
from jaxseg.experiment import check, networks, settings
from jaxseg.experiment.method import make_method
from jaxseg.experiment.optimisers import make_optimisers
from jaxseg.experiment.state import abstract_state

BASELINES = ("streets", "camvid", "minicity", "minicity+resnet101")
FCNS = ("streets", "camvid", "synthia_rand_cvpr16", "synthia_rand_cvpr16+fcn8s")
PRESETS = [("baseline", preset) for preset in BASELINES] + [("fcn", preset) for preset in FCNS]
MINICITY = {
    "data.target.name": "minicity",
    "data.classes": "cityscapes",
    "net.architecture": "deeplabv3",
    "net.rates": (12, 24, 36),
    "net.stride_in": "3x3",
    "net.norm": "train",
    "net.preprocess": "imagenet",
    "net.dropout": 0.5,
    "optim.gen.lr": 1e-2,
    "optim.gen.schedule": "cosine",
    "optim.gen.momentum": 0.9,
    "optim.gen.weight_decay": 1e-4,
    "optim.gen.head_multiplier": 1.0,
    "train.batch": 8,
    "train.steps": 5000,
    "train.accumulate": 1,
    "augment.source.scale": (0.75, 2.0),
    "augment.source.flip": 0.5,
    "augment.source.jitter": 0.3,
    "augment.source.hue": 0.3,
}


def test_minicity_has_the_tutorials_numbers():
    fifty, hundred = load("baseline", "minicity"), load("baseline", "minicity+resnet101")
    assert read(fifty, MINICITY) == read(hundred, MINICITY) == MINICITY
    sizes = ("net.backbone", "data.target.size", "data.source.size", "augment.source.crop")
    for config, expected in (
        (fifty, ("resnet50", (1024, 2048), (1024, 2048), (576, 1152))),
        (hundred, ("resnet101", (512, 1024), (512, 1024), (384, 768))),
    ):
        assert tuple(read(config, sizes).values()) == expected
    assert hundred.name == "baseline_minicity_resnet101"


@pytest.mark.parametrize("name, preset", PRESETS)
def test_every_preset_assembles(name, preset):
    config = load(name, preset)
    assert config.name == f"{name}_{preset.replace('+', '_')}"
    assert config.data.source.name == config.data.target.name
    assert (config.data.source.split, config.data.source.val_split) == ("train", "")
    assert config.data.target.val_split == "val"
    check.check(config)
    config.method.settings.mixes.copy_blob = 0.0 if "synthia" in preset else 1.0
    config.train.devices = 1
    check.check(config)  # the classes of the pairs exist
    method, players = make_method(config), make_optimisers(config)
    state = abstract_state(config, method, players)
    assert set(state.params) == {"gen"} and count(state.params) > 1e4
    size = config.data.target.size
    images = jax.ShapeDtypeStruct((1, *size, 3), jnp.uint8)
    logits = jax.eval_shape(method.predict, state.params, state.stats, state.memory, images)
    if config.net.architecture == "fpn":  # its logits have stride 4
        size = (size[0] // 4, size[1] // 4)
    assert logits.shape == (1, *size, len(settings.label_set(config).classes))


def test_the_fcns_of_the_published_sizes():
    for preset, parameters in (("", 56_000_000), ("+fcn8s", 134_000_000)):
        config = load("fcn", f"synthia_rand_cvpr16{preset}")
        assert (config.optim.gen.lr, config.train.batch) == (1e-4, 1)
        method, players = make_method(config), make_optimisers(config)
        assert float(players.schedules["gen"](config.train.steps)) == pytest.approx(1e-4)
        state = abstract_state(config, method, players)
        assert count(state.params) == pytest.approx(parameters, rel=0.02)
    colours = classfile.read(config.data.classes).colours
    assert len(colours) == 12 and colours[0, 0, 0] == labels.IGNORE
    assert len(settings.label_set(config).classes) == 11


def test_own_data(tmp_path):
    config = load("baseline", "folder")
    assert (config.net.architecture, config.init.backbone) == ("fpn", "efficientnet_lite0")
    assert config.data.target.size == config.data.source.size == ()  # the images' own
    config.data.target.size = (24, 32)
    with pytest.raises(UserError, match="no label set is called 'classes.txt'"):
        check.check(config)
    (tmp_path / "mine.txt").write_text("ground\nsky\nthing\n")
    config.data.classes = str(tmp_path / "mine.txt")
    config.data.target.options.images = "photos"
    assert config.data.source.options.images == "photos"
    assert config.data.source.options.classes == config.data.classes
    check.check(config)


def test_own_data_with_minicitys_network():
    for name in ("resnet50", "resnet101"):
        net = load("baseline", f"folder+{name}").net
        assert (net.architecture, net.backbone) == ("deeplabv3", name)
    with pytest.raises(ValueError, match="'resnet50' and 'resnet101': choose one"):
        load("baseline", "folder+resnet50+resnet101")


def test_the_baseline_as_a_unet():
    config = load("baseline", "camvid+scratch")
    config.net.update(dict(architecture="unet", backbone="small", norm="evonorm"))
    with pytest.raises(UserError, match="net.dropout=0.5: unet of small has no such setting"):
        check.check(config)
    networks.settle(config)
    check.check(config)
    method, players = make_method(config), make_optimisers(config)
    params = abstract_state(config, method, players).params["gen"]["segmenter"]
    assert {"backbone", "main_head"} == set(params)


@pytest.mark.parametrize("name", SUPERVISED)
def test_wrong_presets_are_told(name):
    for preset, match in (
        ("gta5_cityscapes", "unknown preset 'gta5_cityscapes'; choose one of streets"),
        ("streets+vgg19", "unknown modifier 'vgg19'; choose one of"),
        (f"camvid+{'resnet101' if name == 'baseline' else 'fcn8s'}", "camvid has no modifier"),
    ):
        with pytest.raises(ValueError, match=match):
            load(name, preset)
