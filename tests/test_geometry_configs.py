"""The presets of GIO-Ada and DADA: their settings and their networks at full size."""

import jax
import jax.numpy as jnp
import pytest
from kit.experiments import count, load, read

from jaxseg.engine import programs
from jaxseg.errors import UserError
from jaxseg.experiment import check
from jaxseg.experiment.method import make_method
from jaxseg.experiment.optimisers import make_optimisers
from jaxseg.experiment.state import abstract_state

PAIRS = ("virtual_kitti_kitti", "synthia_cityscapes")
EMBEDDED = ("streets", "streets_camvid", "streets_folder")
GIO_PRESETS = (*EMBEDDED, *PAIRS)
PARTS = ("task", "depth", "input", "output")
ASSEMBLED = [
    *(("gio_ada", preset) for preset in GIO_PRESETS),
    *(("gio_ada", f"streets+{part}+scratch") for part in PARTS),
    ("gio_ada", "streets+scratch"),
    ("dada", "streets+scratch"),
    *(("gio_ada", f"{pair}+vgg16") for pair in ("streets", "synthia_cityscapes")),
    *(("dada", preset) for preset in (*GIO_PRESETS, "synthia_cityscapes+reference")),
]
# What the recipe of GIO-Ada fixes.
RECIPE = {
    "optim.gen.optimiser": "adam",
    "optim.gen.schedule": "one_cycle",
    "optim.gen.high_momentum": 0.95,
    "optim.disc.optimiser": "adam",
    "optim.disc.schedule": "one_cycle",
    "optim.disc.high_momentum": 0.95,
    "net.init_std": 1e-3,
    "disc.init_std": 1e-3,
    "translator.init_std": 1e-3,
    "method.settings.gan": "vanilla",
    "method.settings.depth_loss": "l1",
    "method.settings.guides": ("label", "depth"),
    "method.settings.smooth": 0.0,
    "method.settings.r1": 0.0,
    "method.settings.pool": 0,
    "method.settings.ema": 0.0,
    "net.architecture": "deeplabv3plus",
    "train.warmup_steps": 0,
}
# What DADA's released code has.
DADA = {
    "optim.gen.lr": 2.5e-4,
    "optim.gen.momentum": 0.9,
    "optim.gen.weight_decay": 5e-4,
    "optim.gen.head_multiplier": 10.0,
    "optim.disc.lr": 1e-4,
    "optim.disc.betas": (0.9, 0.99),
    "optim.gen.schedule_steps": 90_000,
    "optim.disc.schedule_steps": 90_000,
    "train.steps": 90_000,
    "method.settings.lam_depth": 1e-3,
    "method.settings.depth_loss": "berhu",
    "method.settings.depth_scale": 655.36,
    "net.architecture": "deeplabv2",
    "net.backbone": "resnet101",
    "net.aux": False,
    "net.depth": True,
    "net.fusion": True,
}
KITTI = {
    "data.source.name": "virtual_kitti",
    "data.source.size": (384, 1248),
    "data.target.name": "kitti",
    "data.target.size": (384, 1248),
    "data.classes": "virtual_kitti",
}


def test_the_recipes_numbers():
    for pair in PAIRS:
        config = load("gio_ada", pair)
        assert read(config, RECIPE) == RECIPE
        weights = config.method.settings
        assert min(weights.lam_input, weights.lam_output, weights.lam_depth) > 0
    for preset in ("synthia_cityscapes", "synthia_cityscapes+reference"):
        config = load("dada", preset)
        assert read(config, DADA) == DADA
        assert config.method.settings.adversarial_weights.to_dict() == {"main": 1e-3}
        assert config.optim.gen.repeat_backbone == (preset != "synthia_cityscapes")
    for name in ("gio_ada", "dada"):
        assert read(load(name, "virtual_kitti_kitti"), KITTI) == KITTI


def test_schedules_follow_the_steps():
    """The discriminators' cycle has the length of the steps in which they are trained."""
    config = load("gio_ada")
    config.train.steps, config.train.warmup_steps = 900, 200
    assert config.optim.gen.schedule_steps == 900 and config.optim.disc.schedule_steps == 700
    rates = make_optimisers(config).schedules
    for player, steps in (("gen", 900), ("disc", 700)):
        highest = config.optim[player].lr
        top = config.optim[player].warm * steps - 1
        assert float(rates[player](top)) == pytest.approx(highest, rel=1e-5)
        assert float(rates[player](steps - 1)) < 1e-5 * highest


@pytest.mark.parametrize("name, preset", ASSEMBLED)
def test_every_preset_assembles(name, preset):
    config = load(name, preset)
    assert config.name == f"{name}_{preset.replace('+', '_')}"
    check.check(config)
    method, players = make_method(config), make_optimisers(config)
    state = abstract_state(config, method, players)
    assert set(state.params) == set(method.losses)
    leaves = jax.tree.leaves((state.params, state.stats))
    assert all(leaf.dtype == jnp.float32 for leaf in leaves)
    found = {player: set(nets) for player, nets in state.params.items()}
    if name == "dada":
        assert found == {"gen": {"segmenter"}, "disc": {"main"}}
        return
    part = next((part for part in PARTS if part in preset.split("+")), "")
    levels = {"": {"input", "output"}, "input": {"input"}, "output": {"output"}}.get(part, set())
    assert found.get("disc", set()) == levels
    assert found["gen"] == {"segmenter"} | ({"translator"} if "input" in levels else set())
    assert ("depth_head" in state.params["gen"]["segmenter"]) == (part != "task")
    assert ("depth" in method.views) == (part != "task")


def patch_discriminator(channels):
    """AdaptSegNet's has 2 781 121 parameters for 19 channels; the first layer depends on them."""
    return 2_781_121 + 16 * 64 * (channels - 19)


@pytest.mark.parametrize("pair, classes", [("virtual_kitti_kitti", 10), ("synthia_cityscapes", 16)])
def test_paper_scale_has_the_right_sizes(pair, classes):
    config = load("gio_ada", pair)
    method, players = make_method(config), make_optimisers(config)
    state = abstract_state(config, method, players)
    disc = state.params["disc"]
    assert count(disc["input"]) == patch_discriminator(3)
    assert count(disc["output"]) == patch_discriminator(classes + 1)
    # 7x7 and 3x3 kernels at widths 64, 128, 256, nine blocks of two, without biases but the last's.
    layers = [49 * (3 + classes + 1) * 64, 9 * 64 * 128, 9 * 128 * 256, 18 * 9 * 256 * 256,
              9 * 256 * 128, 9 * 128 * 64, 49 * 64 * 3 + 3]  # fmt: skip
    norms = count(state.params["gen"]["translator"]) - sum(layers)
    assert norms in (0, 2 * (64 + 128 + 256 + 18 * 256 + 128 + 64))  # with or without affine
    size = tuple(config.data.target.size)
    images = jax.ShapeDtypeStruct((1, *size, 3), jnp.uint8)
    model = state.params, state.stats, state.memory
    logits = jax.eval_shape(method.predict, *model, images)
    assert logits.shape == (1, size[0] // 4, size[1] // 4, classes)
    assert jax.eval_shape(method.views["depth"].function, *model, images).shape == logits.shape[:3]
    source = {key: value for key, value in shapes(config, 1).items() if key != "target_image"}
    moved = jax.eval_shape(method.views["transformed"].function, *model, source)
    assert moved.shape == (1, *config.data.source.size, 3) and moved.dtype == jnp.float32


def test_dada_has_the_references_sizes():
    """DeepLabV2's ResNet-101 with the main head (16 classes), and the depth head's convolutions,
    1x1, 3x3, 1x1 and 1x1, between 2048, 512, 512, 128 and 2048 channels."""
    config = load("dada", "synthia_cityscapes")
    method, players = make_method(config), make_optimisers(config)
    params = abstract_state(config, method, players).params
    plain = load("advent", "synthia_cityscapes")
    plain.net.aux = False
    method, players = make_method(plain), make_optimisers(plain)
    alone = count(abstract_state(plain, method, players).params["gen"])
    head = 2048 * 512 + 512 + 9 * 512 * 512 + 512 + 512 * 128 + 128 + 128 * 2048 + 2048
    assert count(params["gen"]["segmenter"]["depth_head"]) == head
    assert count(params["gen"]) == alone + head
    assert count(params["disc"]["main"]) == patch_discriminator(16)


def shapes(config, *lead):
    """A batch of one, without values."""
    source, target = tuple(config.data.source.size), tuple(config.data.target.size)
    return {
        "source_image": jax.ShapeDtypeStruct((*lead, *source, 3), jnp.uint8),
        "source_label": jax.ShapeDtypeStruct((*lead, *source), jnp.uint8),
        "source_depth": jax.ShapeDtypeStruct((*lead, *source), jnp.float32),
        "target_image": jax.ShapeDtypeStruct((*lead, *target, 3), jnp.uint8),
    }


@pytest.mark.parametrize(
    "name, preset, told",
    [
        ("gio_ada", "virtual_kitti_kitti", {"adversarial/output", "transform/change", "depth"}),
        ("gio_ada", "synthia_cityscapes", {"adversarial/input", "accuracy/input", "depth"}),
        ("dada", "synthia_cityscapes", {"adversarial/main", "depth"}),
    ],
)
def test_paper_scale_update_lowers(name, preset, told):
    config = load(name, preset)
    method, players = make_method(config), make_optimisers(config)
    state = abstract_state(config, method, players)
    update = programs.pmapped_update(method, players.txs, 1, jax.devices()[:1])
    lowered = update.lower(state, shapes(config, 1, config.train.batch))
    assert "stablehlo.convolution" in lowered.as_text()
    after, metrics = lowered.out_info
    assert jax.tree.map(lambda x: x.shape, after) == jax.tree.map(lambda x: x.shape, state)
    assert {"segmentation/main", "loss/disc", *told} <= set(metrics)


@pytest.mark.parametrize(
    "name, preset, match",
    [
        ("gio_ada", "gta5_cityscapes", "unknown preset 'gta5_cityscapes'; choose one of streets"),
        ("gio_ada", "streets+reference", "unknown modifier 'reference'; choose one of task, depth"),
        ("gio_ada", "streets+task+depth", "task and depth are different ablations"),
        ("dada", "streets+reference", "no released code of the preset streets"),
    ],
)
def test_wrong_presets_are_told(name, preset, match):
    with pytest.raises(ValueError, match=match):
        load(name, preset)


@pytest.mark.parametrize(
    "setting, value, match",
    [
        ("net.depth", False, "has no head; give --config.net.depth=True"),
        ("method.settings.lam_depth", 0.0, "is not learnt; give --config.net.depth=False"),
        ("optim.gen.schedule", "poly", "high_momentum=0.95: it is for --config.optim.gen.schedule"),
        ("optim.gen.optimiser", "sgd", "the momentum of sgd stays"),
        ("optim.disc.optimiser", "lamb", "high_momentum is for --config.optim.disc.optimiser=adam"),
        ("optim.disc.betas", (0.9, 1.0), "are not two numbers within 0..1"),
        (
            "optim.disc.schedule_steps",
            100,
            r"ends before config.train.steps=\d+, of which it plays",
        ),
        ("method.settings.guides", ("normals",), "guides has 'normals'"),
    ],
)
def test_settings_that_cannot_work_are_refused(setting, value, match):
    config = load("gio_ada")
    with config.unlocked():
        group, _, key = setting.rpartition(".")
        target = config
        for part in group.split("."):
            target = target[part]
        target[key] = value
    with pytest.raises(UserError, match=match):
        check.check(config)
