"""Every config in every preset: shapes, parameter counts and groups, by abstract evaluation."""

import functools
import importlib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import common
from jaxseg import assemble, optim, train

NO_CONFIG = ("__init__", "common")
CONFIGS = sorted(
    p.stem for p in Path(common.__file__).parent.glob("*.py") if p.stem not in NO_CONFIG
)


def load(name, preset="streets"):
    return importlib.import_module(f"configs.{name}").get_config(preset)


def count(tree):
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))


# --- the papers' numbers, literally ---

PAPER_PRESETS = ("gta5_cityscapes", "synthia_cityscapes")
BOTH_LEVELS, MAIN_ONLY = {"main": 1e-3, "aux": 2e-4}, {"main": 1e-3}
# name: (weights of the labels, weights asked of the target, aux head, statistics, GTA5's last step)
METHODS = {
    "advent": ({"main": 1.0, "aux": 0.1}, BOTH_LEVELS, True, "both", 120_000),
    "adaptsegnet": ({"main": 1.0, "aux": 0.1}, BOTH_LEVELS, True, "both", 150_000),
    "adaptsegnet_single": ({"main": 1.0}, MAIN_ONLY, False, "both", 150_000),
    "minent": ({"main": 1.0, "aux": 0.1}, BOTH_LEVELS, True, "both", 120_000),
    "source_only": ({"main": 1.0, "aux": 0.1}, {}, True, "source", 120_000),
    "oracle": ({"main": 1.0, "aux": 0.1}, {}, True, "source", 120_000),
}
STREETS_FACTORS = {"advent": 10.0, "adaptsegnet": 10.0, "adaptsegnet_single": 10.0, "minent": 100.0}
PAPER = {
    "data.target.name": "cityscapes",
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
    "optim.gen.schedule_steps": 250_000,
    "optim.disc.lr": 1e-4,
    "optim.disc.betas": (0.9, 0.99),
    "optim.disc.power": 0.9,
    "optim.disc.schedule_steps": 250_000,
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
                        "data.classes": "cityscapes"},
    "synthia_cityscapes": {"data.source.name": "synthia", "data.source.size": (760, 1280),
                           "data.classes": "synthia16", "train.steps": 90_000},
}  # fmt: skip


def settings_of(config):
    """(weights of the labels, weights asked of the target) of a config's method."""
    settings = config.method.settings.to_dict()
    asked = {k: v for k, v in settings.items() if k in ("adversarial_weights", "entropy_weights")}
    assert len(asked) <= 1 and settings.get("gan", "vanilla") == "vanilla"
    return settings["segmentation_weights"], next(iter(asked.values()), {})


def test_the_table_names_every_config():
    assert sorted(METHODS) == CONFIGS


@pytest.mark.parametrize("preset", PAPER_PRESETS)
@pytest.mark.parametrize("name", METHODS)
def test_paper_presets_have_the_papers_numbers(name, preset):
    config = load(name, preset)
    labels, target, aux, statistics, last_step = METHODS[name]
    expected = PAPER | {"train.steps": last_step} | SOURCES[preset]
    if name == "oracle":  # learns the target's labels
        expected |= {"data.source.name": "cityscapes", "data.source.size": (512, 1024)}
    expected |= {"net.aux": aux, "net.statistics": statistics}
    found = {key: functools.reduce(lambda c, k: c[k], key.split("."), config) for key in expected}
    assert found == expected
    assert settings_of(config) == (labels, target)


@pytest.mark.parametrize("preset", ["streets", "streets_camvid"])
@pytest.mark.parametrize("name", METHODS)
def test_embedded_presets_multiply_the_papers_weights(name, preset):
    config = load(name, preset)
    labels, target, aux, _, _ = METHODS[name]
    scaled = {level: STREETS_FACTORS[name] * weight for level, weight in target.items()}
    assert settings_of(config) == (labels, pytest.approx(scaled))
    assert config.net.aux == aux and config.net.norm == "train"


# --- what they assemble to ---


@pytest.mark.parametrize("preset", common.PRESETS)
@pytest.mark.parametrize("name", CONFIGS)
def test_every_preset_assembles(name, preset):
    config = load(name, preset)
    assert config.name == f"{name}_{preset}" and config.seed == 0
    method, players = assemble.method(config), assemble.optimisers(config)
    state = assemble.abstract_state(config, method, players)
    assert set(state.params) == set(method.losses)
    leaves = jax.tree.leaves((state.params, state.stats))
    assert all(leaf.dtype == jnp.float32 for leaf in leaves)
    stops = config.train.steps
    assert 0 < stops <= config.optim.gen.schedule_steps, "the rate reaches 0 before training stops"
    assert config.train.warmup_steps < stops


@pytest.mark.parametrize("name", ["advent", "adaptsegnet"])
def test_paper_scale_has_the_references_numbers(name):
    config = load(name, "gta5_cityscapes")
    method, players = assemble.method(config), assemble.optimisers(config)
    state = assemble.abstract_state(config, method, players)
    assert count(state.params["gen"]) == 44_601_560
    assert set(state.params["disc"]) == {"main", "aux"}
    assert all(count(disc) == 2_781_121 for disc in state.params["disc"].values())
    for size, expected in {(720, 1280): (91, 161), (512, 1024): (65, 129)}.items():
        images = jax.ShapeDtypeStruct((1, *size, 3), jnp.uint8)
        logits = jax.eval_shape(method.predict, state.params, state.stats, state.memory, images)
        assert logits.shape == (1, *expected, 19)


def test_learning_rate_groups_at_paper_scale():
    config = load("advent", "gta5_cityscapes")
    method, players = assemble.method(config), assemble.optimisers(config)
    params = assemble.abstract_state(config, method, players).params["gen"]
    factors = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        name = optim.path_name(path)
        factor = optim.multiplier_of(name, assemble.rate_multipliers(config))
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
    method, players = assemble.method(config), assemble.optimisers(config)
    state = assemble.abstract_state(config, method, players)
    batch = {
        "source_image": jax.ShapeDtypeStruct((1, 1, height, 1280, 3), jnp.uint8),
        "source_label": jax.ShapeDtypeStruct((1, 1, height, 1280), jnp.uint8),
        "target_image": jax.ShapeDtypeStruct((1, 1, 512, 1024, 3), jnp.uint8),
    }
    lowered = train.pmapped_update(method, players.txs, 1, jax.devices()[:1]).lower(state, batch)
    assert "stablehlo.convolution" in lowered.as_text()
    new_state, metrics = lowered.out_info
    assert jax.tree.map(lambda x: x.shape, new_state) == jax.tree.map(lambda x: x.shape, state)
    assert {"segmentation/main", metric, "loss/disc"} <= set(metrics)
