"""Every config in every preset: shapes, parameter counts and groups, by abstract evaluation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from kit.experiments import CONFIGS, SELF_TRAINING, STYLE, SUPERVISED, count, load, read

from configs import common
from jaxseg.engine import optim, programs
from jaxseg.experiment import networks
from jaxseg.experiment.method import make_method
from jaxseg.experiment.optimisers import make_optimisers
from jaxseg.experiment.state import abstract_state

GEOMETRY = ("dada", "gio_ada")  # likewise: test_geometry_configs.py


# --- the papers' numbers, literally ---

PAPER_PRESETS = ("gta5_cityscapes", "synthia_cityscapes", "cityscapes_crosscity")
BOTH_LEVELS, MAIN_ONLY = {"main": 1e-3, "aux": 2e-4}, {"main": 1e-3}
SEG_BOTH, SEG_MAIN = {"main": 1.0, "aux": 0.1}, {"main": 1.0}
# name: (weights of the labels, weights asked of the target, aux head, statistics, GTA5's last step)
METHODS = {
    "advent": (SEG_BOTH, BOTH_LEVELS, True, "target", 120_000),
    "advent_prior": (SEG_BOTH, BOTH_LEVELS, True, "target", 120_000),
    "adaptsegnet": (SEG_BOTH, BOTH_LEVELS, True, "target", 150_000),
    "adaptsegnet_single": (SEG_MAIN, MAIN_ONLY, False, "target", 150_000),
    "adaptsegnet_ls": (SEG_MAIN, {"main": 1e-2}, False, "target", 150_000),
    "adaptsegnet_features": (SEG_MAIN, {"features": 1e-3}, False, "target", 150_000),
    "fcns_in_the_wild": (SEG_MAIN, {}, False, "target", 120_000),
    "minent": (SEG_BOTH, BOTH_LEVELS, True, "target", 120_000),
    "minent_er": (SEG_BOTH, BOTH_LEVELS, True, "target", 120_000),
    "minent_prior": (SEG_BOTH, BOTH_LEVELS, True, "target", 120_000),
    "source_only": (SEG_BOTH, {}, True, "source", 120_000),
    "oracle": (SEG_BOTH, {}, True, "source", 120_000),
    "few_labels": (SEG_BOTH, {}, True, "source", 120_000),
}
# What the embedded pairs multiply the weights asked of the target by.
STREETS_FACTORS = {name: 100.0 if name.startswith("minent") else 10.0 for name in METHODS}
STREETS_FACTORS["minent_er"] = 30.0  # a third of the pixels, each three times as heavy
PAPER = {
    "data.target.size": (512, 1024),
    "net.backbone": "resnet101",
    "net.rates": (6, 12, 18, 24),
    "net.summed": 0,
    "net.stride_in": "1x1",
    "net.norm": "reference",
    "net.preprocess": "caffe",
    "disc.width": 64,
    "optim.gen.lr": 2.5e-4,
    "optim.gen.momentum": 0.9,
    "optim.gen.weight_decay": 5e-4,
    "optim.gen.power": 0.9,
    "optim.gen.head_multiplier": 10.0,
    "optim.gen.clip": 0.0,
    "optim.gen.repeat_backbone": False,
    "optim.disc.lr": 1e-4,
    "optim.disc.betas": (0.9, 0.99),
    "optim.disc.power": 0.9,
    "train.batch": 1,
    "train.accumulate": 1,
    "train.warmup_steps": 0,
    "augment.source.flip": 0.0,
    "augment.target.flip": 0.0,
    "augment.source.jitter": 0.0,
    "augment.target.jitter": 0.0,
}
SOURCES = {
    "gta5_cityscapes": {"data.source.name": "gta5", "data.source.size": (720, 1280),
                        "data.target.name": "cityscapes", "data.classes": "cityscapes"},
    "synthia_cityscapes": {"data.source.name": "synthia", "data.source.size": (760, 1280),
                           "data.target.name": "cityscapes", "data.classes": "synthia16",
                           "eval.also": ("synthia13",), "train.steps": 90_000},
    "cityscapes_crosscity": {"data.source.name": "cityscapes", "data.source.size": (512, 1024),
                             "data.target.name": "crosscity", "data.classes": "crosscity13"},
}  # fmt: skip
FRONTEND = {"net.backbone": "vgg16_frontend", "net.rates": (), "net.stride_in": None,
            "optim.gen.head_multiplier": 1.0}  # fmt: skip


def settings_of(config):
    """(weights of the supervised losses, weights of the target's losses) of a config's method."""
    settings = config.method.settings.to_dict()
    asked = {k: v for k, v in settings.items() if k in ("adversarial_weights", "entropy_weights")}
    assert len(asked) <= 1
    return settings["segmentation_weights"], next(iter(asked.values()), {})


def test_the_table_names_every_config():
    assert sorted([*METHODS, *SUPERVISED, *GEOMETRY, *SELF_TRAINING, *STYLE]) == CONFIGS


def test_only_the_oracle_leaves_colours_as_they_are():
    """An upper bound that has to be independent of its own colours is none; few images need it."""
    found = {name: load(name).augment.source.jitter for name in ("oracle", "few_labels", "advent")}
    assert found == {"oracle": 0.0, "few_labels": 0.4, "advent": 0.4}


@pytest.mark.parametrize("preset", PAPER_PRESETS)
@pytest.mark.parametrize("name", METHODS)
def test_paper_presets_have_the_papers_numbers(name, preset):
    config = load(name, preset)
    labels, target, aux, statistics, last_step = METHODS[name]
    expected = PAPER | {"train.steps": last_step} | SOURCES[preset]
    if name in ("oracle", "few_labels"):  # learn the target's labels
        expected |= {"data.source.name": config.data.target.name, "data.source.size": (512, 1024)}
    if name == "fcns_in_the_wild":
        expected |= FRONTEND
    expected |= {"net.aux": aux, "net.statistics": statistics}
    for player in ("gen", "disc"):  # the rate falls until the training stops
        expected[f"optim.{player}.schedule_steps"] = expected["train.steps"]
    assert read(config, expected) == expected
    assert settings_of(config) == (labels, target)


# What the released code does otherwise: name: how many rates it sums, 0 for all.
REFERENCES = {
    **dict.fromkeys(("adaptsegnet", "adaptsegnet_single", "adaptsegnet_ls"), 2),
    **{"adaptsegnet_features": 2, "advent": 0, "minent": 0, "minent_er": 0},
    **{"advent_prior": 0, "minent_prior": 0, "source_only": 0},
}


@pytest.mark.parametrize("name", REFERENCES)
def test_reference_presets_have_the_quirks(name):
    for preset in ("reference", "synthia_cityscapes+reference"):
        config = load(name, preset)
        expected = {
            "net.summed": REFERENCES[name],
            "net.norm": "reference",
            "net.statistics": "source" if name == "source_only" else "both",
            "optim.gen.repeat_backbone": True,
            "optim.gen.schedule_steps": 250_000,
            "optim.disc.schedule_steps": 250_000,
            "data.source.split": "train",
            "data.source.val_split": "",
        }
        assert read(config, expected) == expected
        assert config.train.steps == (METHODS[name][-1] if preset == "reference" else 90_000)
        # Nothing else differs from the corrected preset.
        corrected = "gta5_cityscapes" if preset == "reference" else "synthia_cityscapes"
        plain = flat(load(name, corrected).to_dict())
        now = flat(config.to_dict())
        changed = {key for key in plain | now if plain.get(key) != now.get(key)}
        assert changed <= {*expected, "name"}


def flat(tree, prefix=""):
    found = {}
    for key, value in tree.items():
        nested = isinstance(value, dict)
        found |= flat(value, f"{prefix}{key}.") if nested else {prefix + key: value}
    return found


def test_the_backbone_is_updated_as_often_as_in_the_references():
    """The references list a stage's convolutions 3 times, shortcuts 4 times, the stem once."""
    config = load("advent", "reference")
    method, players = make_method(config), make_optimisers(config)
    params = abstract_state(config, method, players).params["gen"]
    counts = {}
    for path, _ in jax.tree_util.tree_leaves_with_path(params):
        name = optim.path_name(path)
        times = optim.multiplier_of(name, networks.REPEATS)
        if "bn" not in name.split("/")[-2]:
            counts[times] = counts.get(times, 0) + 1
    # 33 blocks of 3 convolutions; 4 shortcuts; the stem and 2 heads of 4 branches with bias.
    assert counts == {3: 99, 4: 4, 1.0: 1 + 2 * 4 * 2}


def test_vgg16_replaces_the_network():
    config = load("adaptsegnet", "gta5_cityscapes+vgg16+reference")
    assert config.name == "adaptsegnet_gta5_cityscapes_vgg16_reference"
    expected = {"net.backbone": "vgg16", "net.aux": False, "optim.gen.head_multiplier": 1.0,
                "optim.gen.repeat_backbone": False, "net.rates": (6, 12, 18, 24),
                "net.summed": 2}  # fmt: skip
    assert read(config, expected) == expected
    assert load("advent", "streets+vgg16").net.backbone == "vgg_small"


@pytest.mark.parametrize(
    "name, preset, match",
    [
        ("advent", "cityscapes", "unknown preset 'cityscapes'; choose one of streets"),
        (
            "advent",
            "streets+vgg19",
            "unknown modifier 'vgg19'; choose one of pretrained, scratch, vgg16",
        ),
        ("advent", "gta5_cityscapes+scratch", "is for the embedded pairs, not for gta5_cityscapes"),
        ("advent", "streets+pretrained+scratch", "choose one"),
        ("advent", "streets+pretrained+vgg16", "choose one"),
        ("advent", "streets+reference", "no released code of the preset streets"),
        ("fcns_in_the_wild", "reference", "no released code of fcns_in_the_wild"),
        ("gio_ada", "folders", "own folders have no depth, which this method learns from"),
    ],
)
def test_wrong_presets_are_told(name, preset, match):
    with pytest.raises(ValueError, match=match):
        load(name, preset)


@pytest.mark.parametrize("preset", ["streets", "streets_camvid", "streets_folder", "folders"])
@pytest.mark.parametrize("name", METHODS)
def test_embedded_presets_multiply_the_papers_weights(name, preset):
    config = load(name, preset)
    labels, target, aux, _, _ = METHODS[name]
    scaled = {level: STREETS_FACTORS[name] * weight for level, weight in target.items()}
    assert settings_of(config) == (labels, pytest.approx(scaled))
    assert config.net.aux == aux and config.net.norm == "train"


# --- what they assemble to ---


# Tracing ResNet-101 takes seconds, so not every method is tried with every preset.
# The presets of the last line have the network of gta5_cityscapes; test_self_training_configs.py.
OTHERS = (*(p for p in common.PRESETS if p not in ("streets", "folders", "gta5_cityscapes",
            "urbansyn_cityscapes", "cityscapes_acdc", "cityscapes_darkzurich")),
          "gta5_cityscapes+vgg16", "reference")  # fmt: skip
# Every method on a small and a large network, and every preset with AdvEnt: what both change is
# built by different code.
ASSEMBLED = [(name, preset) for name in METHODS for preset in ("streets", "gta5_cityscapes")]
ASSEMBLED += [("advent", preset) for preset in (*OTHERS, "streets+pretrained")]
ASSEMBLED += [("minent_prior", preset) for preset in ("folders", "streets+pretrained")]
ASSEMBLED += [("fcns_in_the_wild", preset) for preset in OTHERS if preset != "reference"]


@pytest.mark.parametrize("name, preset", ASSEMBLED)
def test_every_preset_assembles(name, preset):
    config = load(name, preset)
    written = {"reference": "gta5_cityscapes_reference"}.get(preset, preset.replace("+", "_"))
    assert config.name == f"{name}_{written}" and config.seed == 0
    method, players = make_method(config), make_optimisers(config)
    state = abstract_state(config, method, players)
    assert set(state.params) == set(method.losses)
    leaves = jax.tree.leaves((state.params, state.stats))
    assert all(leaf.dtype == jnp.float32 for leaf in leaves)
    stops = config.train.steps
    assert 0 < stops <= config.optim.gen.schedule_steps, "the rate reaches 0 before training stops"
    assert config.train.warmup_steps < stops


@pytest.mark.parametrize("name", ["advent", "adaptsegnet"])
def test_paper_scale_has_the_references_numbers(name):
    config = load(name, "gta5_cityscapes")
    method, players = make_method(config), make_optimisers(config)
    state = abstract_state(config, method, players)
    assert count(state.params["gen"]) == 44_601_560
    assert set(state.params["disc"]) == {"main", "aux"}
    assert all(count(disc) == 2_781_121 for disc in state.params["disc"].values())
    for size, expected in {(720, 1280): (91, 161), (512, 1024): (65, 129)}.items():
        images = jax.ShapeDtypeStruct((1, *size, 3), jnp.uint8)
        logits = jax.eval_shape(method.predict, state.params, state.stats, state.memory, images)
        assert logits.shape == (1, *expected, 19)


def test_learning_rate_groups_at_paper_scale():
    config = load("advent", "gta5_cityscapes")
    method, players = make_method(config), make_optimisers(config)
    params = abstract_state(config, method, players).params["gen"]
    factors = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        name = optim.path_name(path)
        factor = optim.multiplier_of(name, networks.rate_multipliers(config))
        factors.setdefault(factor, []).append((name, int(np.prod(leaf.shape))))
    assert set(factors) == {0.0, 1.0, 10.0}
    assert all("bn" in name for name, _ in factors[0.0])
    assert all(name.startswith("segmenter/backbone/") for name, _ in factors[1.0])
    # Heads: 4 rates x (9 x (1024 + 2048) x 19 + 2 x 19); ResNet-101's convolutions: 42 394 816.
    assert sum(n for _, n in factors[10.0]) == 4 * (9 * 3072 * 19 + 2 * 19)
    assert sum(n for _, n in factors[1.0]) == 42_394_816


@pytest.mark.parametrize(
    "name, preset, height, metric",
    [
        ("advent", "gta5_cityscapes", 720, "adversarial/aux"),
        ("adaptsegnet_single", "synthia_cityscapes", 760, "adversarial/main"),
    ],
)
def test_paper_scale_update_lowers(name, preset, height, metric):
    config = load(name, preset)
    method, players = make_method(config), make_optimisers(config)
    state = abstract_state(config, method, players)
    batch = {
        "source_image": jax.ShapeDtypeStruct((1, 1, height, 1280, 3), jnp.uint8),
        "source_label": jax.ShapeDtypeStruct((1, 1, height, 1280), jnp.uint8),
        "target_image": jax.ShapeDtypeStruct((1, 1, 512, 1024, 3), jnp.uint8),
    }
    lowered = programs.pmapped_update(method, players.txs, 1, jax.devices()[:1]).lower(state, batch)
    assert "stablehlo.convolution" in lowered.as_text()
    new_state, metrics = lowered.out_info
    assert jax.tree.map(lambda x: x.shape, new_state) == jax.tree.map(lambda x: x.shape, state)
    assert {"segmentation/main", metric, "loss/disc"} <= set(metrics)
