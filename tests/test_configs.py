"""Every config in every preset: shapes, parameter counts and groups, by abstract evaluation."""

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
    gen = config.optim.gen
    assert (gen.lr, gen.momentum, gen.weight_decay, gen.power) == (2.5e-4, 0.9, 5e-4, 0.9)
    assert (gen.schedule_steps, config.optim.disc.lr) == (250_000, 1e-4)
    assert config.train.steps == {"advent": 120_000, "adaptsegnet": 150_000}[name]


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


def test_paper_scale_update_lowers():
    config = load("advent", "gta5_cityscapes")
    method, players = assemble.method(config), assemble.optimisers(config)
    state = assemble.abstract_state(config, method, players)
    batch = {
        "source_image": jax.ShapeDtypeStruct((1, 1, 720, 1280, 3), jnp.uint8),
        "source_label": jax.ShapeDtypeStruct((1, 1, 720, 1280), jnp.uint8),
        "target_image": jax.ShapeDtypeStruct((1, 1, 512, 1024, 3), jnp.uint8),
    }
    lowered = train.pmapped_update(method, players.txs, 1, jax.devices()[:1]).lower(state, batch)
    text = lowered.as_text()
    assert "stablehlo.convolution" in text
    new_state, metrics = lowered.out_info
    assert jax.tree.map(lambda x: x.shape, new_state) == jax.tree.map(lambda x: x.shape, state)
    assert {"segmentation/main", "adversarial/aux", "loss/disc"} <= set(metrics)
