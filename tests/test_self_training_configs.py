"""The configs of self-training: the papers' numbers, and presets that assemble."""

import jax
import numpy as np
import pytest
from kit.experiments import SELF_TRAINING, count, load

from jaxseg.engine import optim
from jaxseg.experiment.method import make_method
from jaxseg.experiment.optimisers import make_optimisers
from jaxseg.experiment.state import abstract_state

PRESETS = ("streets", "streets+pretrained", "streets_camvid", "gta5_cityscapes")


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("name", SELF_TRAINING)
def test_every_preset_assembles(name, preset):
    config = load(name, preset)
    assert config.name == f"{name}_{preset.replace('+', '_')}"
    method, players = make_method(config), make_optimisers(config)
    state = abstract_state(config, method, players)
    assert "teacher" in state.memory and set(state.params) == {"gen"}
    assert ("first" in state.memory) == (name == "daformer")


def test_daformer_has_the_papers_numbers():
    config = load("daformer", "gta5_cityscapes")
    settings = config.method.settings
    assert (settings.decay, settings.threshold, settings.feature_distance) == (0.999, 0.968, 0.005)
    assert tuple(settings.margins) == (15 / 512, 120 / 512)
    assert (config.train.batch, config.train.steps) == (2, 40_000)
    assert config.data.rare_classes.to_dict() == dict(
        temperature=0.01, min_pixels=3000, crop_pixels=1500
    )
    assert tuple(config.augment.source.crop) == (512, 512) == tuple(config.augment.target.crop)
    assert config.augment.source.crop_cap == 0.75
    method, players = make_method(config), make_optimisers(config)
    state = abstract_state(config, method, players)
    assert count(state.params["gen"]) == 85_155_283
    rate = players.schedules["gen"]
    for step, value in {0: 6e-11, 750: 2.94375e-5, 1500: 5.775e-5, 20_000: 3e-5}.items():
        np.testing.assert_allclose(float(rate(step)), value, rtol=2e-5)


def test_daformer_groups_parameters_as_the_paper():
    """Heads ten times as fast; no decay on the encoder's norms, but on its biases."""
    config = load("daformer", "gta5_cityscapes")
    state = abstract_state(config, make_method(config), make_optimisers(config))
    paths = [optim.path_name(p) for p, _ in jax.tree_util.tree_leaves_with_path(state.params)]
    encoder = [p for p in paths if "/backbone/" in p]
    heads = [p for p in paths if "/backbone/" not in p]
    import re

    fast, still = (group[0] for group in config.optim.gen.groups)
    assert heads and all(re.search(fast, p) for p in heads)
    assert encoder and not any(re.search(fast, p) for p in encoder)
    norms = [p for p in encoder if re.search(still, p)]
    assert norms and all(p.endswith(("scale", "bias")) and "norm" in p for p in norms)


@pytest.mark.parametrize("name", ["advent", "minent", "dacs"])
def test_masked_consistency_lifts_any_method_with_target_images(name):
    config = load(name, "streets")
    config.mic.update(dict(weight=1.0, block=32))
    method = make_method(config)
    state = abstract_state(config, method, make_optimisers(config))
    assert "teacher" in state.memory
    blind = load("source_only", "streets")
    blind.mic.weight = 1.0
    from jaxseg.errors import UserError

    with pytest.raises(UserError, match="no target images"):
        make_method(blind)
