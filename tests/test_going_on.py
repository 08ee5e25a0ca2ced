"""Finished runs go on for more steps, or are the beginning of runs on other data and classes."""

import json

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from kit.runs import drawn, write_run
from kit.small import small_config

from jaxseg.errors import UserError
from jaxseg.experiment import fine_tune, restore
from jaxseg.experiment.method import make_method
from jaxseg.run import trained
from jaxseg.storage import logs, run_folder


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return tmp_path_factory.mktemp("records")


def following(records):
    """A config whose schedules end with training, as those of the presets do."""
    config = small_config("source_only", records)
    config.train.update(dict(steps=2, warmup_steps=0, eval_every=0))
    for player in ("gen", "disc"):
        config.optim[player].schedule_steps = config.train.steps
    return config


@pytest.fixture(scope="module")
def finished(records, tmp_path_factory):
    """A run that has taken the two steps it was planned for, with drawn values."""
    folder = write_run(following(records), tmp_path_factory.mktemp("run"), {2: 0.3})
    with logs.open_logs(folder) as log:
        log.evaluation(2, {"miou": 0.3, "images": 1, "iou": {}})
    return folder


def test_more_steps_than_planned(records, finished, capsys):
    config = following(records)
    config.train.steps = 4
    for player in ("gen", "disc"):
        config.optim[player].schedule_steps = 4
    made = trained.make_trained(config, str(finished))
    told = capsys.readouterr().out
    assert "was planned for 2 steps, now for 4: from here on the learning rates are those" in told
    with trained.open_manager(config, str(finished), 0) as manager:
        (state,) = trained.first_or_saved_states(made, [manager], str(finished))
    assert int(state.step) == 2
    # poly with power 0.9: (1 - i / 4)^0.9 of the rate after i updates.
    rates = [made.players[0].schedules["gen"](i) / config.optim.gen.lr for i in (2, 3)]
    np.testing.assert_allclose(rates, [0.5**0.9, 0.25**0.9], rtol=1e-5)
    config.optim.gen.schedule_steps = 9  # a length of its own is another setting
    with pytest.raises(UserError, match="config.optim.gen.schedule_steps=2, now it is 9"):
        run_folder.compare_config(config, str(finished))
    same = following(records)
    assert run_folder.compare_config(same, str(finished)) == ""
    same.train.steps = 1  # fewer steps, with schedules that follow
    for player in ("gen", "disc"):
        same.optim[player].schedule_steps = 1
    assert "planned for 2 steps, now for 1" in run_folder.compare_config(same, str(finished))


def test_schedules_that_begin_after_the_warm_up_follow_too(records, tmp_path):
    config = small_config("cyclegan", records)
    config.optim.gen.schedule_steps = 4
    write_run(config, tmp_path, {4: 0.3})
    assert config.optim.translator.schedule_steps == 2
    config.optim.disc.schedule_steps = 2
    run_folder.write_config(config, tmp_path)
    config.train.steps = config.optim.gen.schedule_steps = 6
    config.optim.disc.schedule_steps = 4
    assert config.optim.translator.schedule_steps == 4  # by itself
    assert "planned for 4 steps, now for 6" in run_folder.compare_config(config, str(tmp_path))
    config.optim.disc.schedule_steps = 5
    with pytest.raises(UserError, match="optim.disc.schedule_steps=2, now it is 5"):
        run_folder.compare_config(config, str(tmp_path))


@pytest.mark.parametrize("weight, refused", [(0.0, ""), (1.0, "mic.colours")])
def test_a_run_from_before_colours_were_a_setting(weight, refused, records, tmp_path):
    """It had torchvision's: it does not go on with kornia's, which papers' presets have now."""
    config = small_config("minent", records)
    config.mic.weight = weight
    write_run(config, tmp_path, {4: 0.3})
    saved = json.loads((tmp_path / "config.json").read_text())
    del saved["mic"]["colours"]
    (tmp_path / "config.json").write_text(json.dumps(saved))
    assert run_folder.compare_config(config, str(tmp_path)) == ""
    config.mic.colours = "kornia"
    if not refused:
        assert run_folder.compare_config(config, str(tmp_path)) == ""
        return
    with pytest.raises(UserError, match="config.mic.colours=torchvision, now it is kornia"):
        run_folder.compare_config(config, str(tmp_path))


def test_where_translated_images_are_is_told_by_their_folder(records, tmp_path):
    config = small_config("source_only", records)
    config.data.translated = "out"
    write_run(config, tmp_path, {4: 0.3})
    config.data.translated = str(tmp_path / "out")
    assert run_folder.compare_config(config, str(tmp_path)) == ""


def begun(config, workdir):
    state, told = drawn(config, 7), []
    after = fine_tune.begin(config, state, str(workdir), told.append)
    before, after = (
        jax.device_get(
            flatten_dict({"p": s.params["gen"]["segmenter"], "s": s.stats["segmenter"]}, sep="/")
        )
        for s in (state, after)
    )
    return before, after, "\n".join(told)


def test_fine_tuning_on_the_same_classes_takes_everything(records, finished, tmp_path):
    config = following(records)
    config.init.weights = str(finished)
    config.seed = 1
    _, after, told = begun(config, tmp_path)
    own = run_folder.read_config(finished)
    loaded = restore.first(restore.from_workdir(own, finished, "best", announce=print)).model
    theirs = flatten_dict(
        {"p": loaded["params"]["gen"]["segmenter"], "s": loaded["stats"]["segmenter"]}, sep="/"
    )
    assert after.keys() == theirs.keys()
    for name in after:
        np.testing.assert_array_equal(after[name], theirs[name])
    assert f"of {finished}" in told and f"matched     {len(theirs):4d}" in told
    assert "initial weights: step" in (tmp_path / "initial_weights.txt").read_text()


def test_fine_tuning_on_other_classes_takes_them_by_name(records, finished, tmp_path):
    config = following(records)
    config.init.weights = f"{finished}@last"
    listed = ["sky", "hedgehog", "road"]  # 10, none and 0 of Cityscapes' 19
    (tmp_path / "classes.txt").write_text("\n".join(listed))
    config.data.classes = str(tmp_path / "classes.txt")
    config.seed = 1
    before, after, told = begun(config, tmp_path)
    assert "classes of the same name: sky, road; new ones begin anew: hedgehog" in told
    own = run_folder.read_config(finished)
    model = restore.first(restore.from_workdir(own, finished, "last", announce=print)).model
    theirs = flatten_dict({"p": model["params"]["gen"]["segmenter"]}, sep="/")
    names = [n for n in theirs if np.shape(theirs[n]) != np.shape(after[n])]
    assert names and all("head" in name for name in names)  # kernels and biases of both heads
    for name in names:
        assert after[name].shape[-1] == 3
        np.testing.assert_array_equal(after[name][..., 0], theirs[name][..., 10])
        np.testing.assert_array_equal(after[name][..., 1], before[name][..., 1])
        np.testing.assert_array_equal(after[name][..., 2], theirs[name][..., 0])
    for name in theirs.keys() - set(names):
        np.testing.assert_array_equal(after[name], theirs[name])


def test_class_names_agree_whatever_their_case():
    theirs = ("Sky", "Traffic Light", "traffic_light", "car")
    found = fine_tune.matches(theirs, ("sky", "traffic-light", "bus", "Car"))
    assert found == {"sky": 0, "traffic-light": 1, "Car": 3}


def test_the_network_is_that_of_the_run(records, finished):
    config = following(records)
    config.init.weights = str(finished)
    config.net.rates = (1, 3)
    told = []
    assert fine_tune.adopt(config, (), told.append).net.rates == (1, 2)
    assert told == [f"--init_from={finished}: config.net.rates=(1, 2) (was (1, 3))"]
    assert fine_tune.adopt(config, ("net.rates",)).net.rates == (1, 3)
    config.net.update(dict(statistics="source", remat=True))  # how it is trained is one's own
    adopted = fine_tune.adopt(config, ("net.rates",)).net
    assert (adopted.statistics, adopted.remat, adopted.rates) == ("source", True, (1, 3))
    config.init.weights = ""
    assert fine_tune.adopt(config) is config


def test_what_is_no_run(records, tmp_path):
    config = following(records)
    config.init.weights = str(tmp_path)
    with pytest.raises(UserError, match="neither the folder of a finished run .* nor a weights f"):
        fine_tune.adopt(config)
    for name in ("member_00", "member_01"):
        (tmp_path / name).mkdir()
    with pytest.raises(UserError, match="is a sweep; give one of its members, .*member_00 to memb"):
        fine_tune.adopt(config)


def test_class_axes_are_those_of_the_classifiers(records):
    """Of a DeepLabV2 with two rates: kernel and bias of each branch of both heads, all last."""
    config = following(records)
    axes = fine_tune.class_axes(config, make_method(config))
    assert all("_head/" in name for name in axes) and len(axes) == 2 * 2 * 2
    assert {name.rpartition("/")[2]: axis for name, axis in axes.items()} == {
        "kernel": 3, "bias": 0,
    }  # fmt: skip
