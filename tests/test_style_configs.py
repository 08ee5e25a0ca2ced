"""The configs of CycleGAN and CyCADA: the papers' numbers, and presets that assemble."""

import jax
import numpy as np
import pytest
from kit.experiments import STYLE, count, load

from jaxseg.errors import UserError
from jaxseg.experiment import check
from jaxseg.experiment.method import make_method
from jaxseg.experiment.optimisers import make_optimisers
from jaxseg.experiment.state import abstract_state
from jaxseg.methods import cyclegan


def assembled(config):
    return abstract_state(config, make_method(config), make_optimisers(config))


@pytest.mark.parametrize("preset", ("streets", "gta5_cityscapes"))
@pytest.mark.parametrize("name", STYLE)
def test_every_preset_assembles(name, preset):
    if name == "fda":
        assert "disc" not in assembled(load(name, preset)).params
        return
    state = assembled(load(name, preset))
    assert set(state.params["gen"]) == {"segmenter"}
    assert set(state.params["translator"]) == {"to_target", "to_source"}
    assert ("frozen" in state.memory) == ("output" in state.params["disc"]) == (name == "cycada")
    if preset == "gta5_cityscapes":
        sizes = {
            net: count(tree) for player in state.params.values() for net, tree in player.items()
        }
        assert sizes["to_target"] == sizes["to_source"] == 11_378_179
        assert sizes["source_image"] == sizes["target_image"] == 2_764_737
        assert state.memory["pool_source_image"]["images"].shape == (50, 400, 400, 3)  # of crops


def test_the_papers_numbers():
    config = load("cyclegan", "gta5_cityscapes")
    method, optim = config.method.settings, config.optim
    assert (method.lam_cycle, method.lam_identity, method.pool, method.gan) == (10.0, 0.5, 50, "ls")
    n = config.train.steps - config.train.warmup_steps
    for player in ("translator", "disc"):
        settings = optim[player]
        assert (settings.optimiser, settings.lr, settings.betas) == ("adam", 2e-4, (0.5, 0.999))
        rate = make_optimisers(config).schedules[player]
        found = [float(rate(step)) for step in (0, n // 2, 3 * n // 4, n)]
        np.testing.assert_allclose(found, [2e-4, 2e-4, 1e-4, 0.0], rtol=1e-6)


def test_source_images_have_their_own_colours_where_they_are_translated():
    source = load("cycada").augment.source
    assert source.jitter == source.hue == source.blur == source.noise == 0.0


@pytest.mark.parametrize(
    "name, changes, match",
    [
        ("cyclegan", {"train.steps": 200}, "warmup_steps=300 leaves nothing of config.train.steps"),
        ("cyclegan", {"data.source.size": (30, 64)}, "data.source.size.*divide by 4"),
        ("cyclegan", {"augment.target.crop": (32, 30)}, "augment.target.crop.*divide by 4"),
        ("cyclegan", {"translator.disc_layers": 9}, "too small for a discriminator of 9 layers"),
        ("cycada", {"train.warmup_steps": 0}, "lam_semantic holds the translators"),
    ],
)
def test_what_could_not_work_is_refused_before_anything_is_prepared(name, changes, match):
    config = load(name)
    with config.unlocked():
        config.translator.architecture = "cyclegan"
        config.update_from_flattened_dict(changes)
    with pytest.raises(UserError, match=match):
        check.check(config)
        check.check_cycle(config)


def test_a_run_from_before_the_translators_had_an_optimiser_is_told():
    config = load("cyclegan")
    with config.unlocked():
        del config.optim["translator"]
    with pytest.raises(UserError, match="no config.optim.translator; it is a run from before"):
        make_optimisers(config)


def test_gio_adas_network_in_place_of_the_generators():
    config = load("cyclegan")
    assert config.translator.architecture == "gio_ada"
    assert load("cyclegan", "gta5_cityscapes").translator.architecture == "cyclegan"
    state = assembled(config)
    assert "block1" in state.params["translator"]["to_target"]
    assert "block1_conv1" not in state.params["translator"]["to_target"]
    assert "translator" in cyclegan.NETWORKS
    assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves(state.params))


def test_fda_has_the_papers_numbers():
    config = load("fda", "gta5_cityscapes")
    assert config.augment.source.fda == 0.01 and config.method.name == "minent"
    assert config.method.settings.charbonnier == 2.0
    assert config.method.settings.entropy_weights.main == 0.005
