"""The range of every setting that is a number: all configs are within, and other values
are refused by name before anything is written.
"""

import importlib
import math
from pathlib import Path

import numpy as np
import pytest

from configs import advent, common
from jaxseg.errors import UserError
from jaxseg.experiment import check, ranges

CONFIGS = sorted(
    path.stem
    for path in (Path(__file__).parent.parent / "configs").glob("*.py")
    if "def get_config" in path.read_text()
)
INF, NAN = math.inf, math.nan
IMPOSSIBLE = [
    ("seed", -1), ("seed", 2**32), ("seed", "10**5000"),
    ("train.batch", 0), ("train.accumulate", -1), ("train.steps", 0), ("train.steps", 2**31),
    ("train.warmup_steps", -1), ("train.log_every", 0), ("train.eval_every", -5),
    ("train.save_every", -1), ("train.devices", -1), ("train.keep", 0), ("train.pictures", -1),
    ("eval.batch", 0), ("eval.scales", (1.0, -1.0)), ("eval.scales", (NAN,)),
    ("eval.window", (0, 4)),
    ("eval.stride", (4, -4)), ("eval.depth_cap", 0.0), ("eval.depth_cap", INF),
    ("eval.source_images", -1),
    *((f"optim.{player}.{name}", value) for player in ("gen", "disc") for name, value in (
        ("lr", -0.1), ("lr", NAN), ("lr", INF), ("power", -1.0), ("power", NAN), ("clip", -1.0),
        ("clip", INF), ("momentum", 1.0), ("momentum", -0.1), ("weight_decay", -1e-4),
        ("weight_decay", NAN), ("warm", 1.5), ("schedule_steps", 0), ("high_momentum", 1.0))),
    ("optim.gen.head_multiplier", -1.0),
    ("net.rates", (1, 0)), ("net.summed", -1), ("net.dropout", NAN), ("net.init_std", -1.0),
    ("net.init_std", INF), ("net.low_level", 0), ("disc.width", 0), ("disc.width", -16),
    ("disc.init_std", NAN), ("data.threads", -1), ("data.source.size", (-4, 4)),
    ("data.target.options.seed", -1),
    ("method.settings.adversarial_weights.main", NAN),
    ("method.settings.adversarial_weights.main", -1.0),
    ("mic.weight", -1.0), ("mic.block", 0), ("mic.ratio", 1.0), ("mic.decay", 1.0),
    ("mic.threshold", 1.5), ("mic.margins", (0.5, 0.0)), ("mic.blur_probability", -0.1),
    ("data.rare_classes.temperature", -0.1), ("data.rare_classes.min_pixels", -1),
    ("init.excused", ("ok", "(")), ("init.excused", ("*",)), ("init.excused", ("a{99999999999}",)),
]  # fmt: skip


@pytest.mark.parametrize("name", CONFIGS)
def test_the_shipped_configs_are_within_their_ranges(name):
    for preset in common.PRESETS:
        try:
            config = importlib.import_module(f"configs.{name}").get_config(preset)
        except ValueError:  # not every config has every preset
            continue
        ranges.check(config)


@pytest.mark.parametrize("path, value", IMPOSSIBLE)
def test_what_cannot_be_meant_is_refused_by_name(path, value):
    config = advent.get_config("streets+scratch")
    with config.unlocked():
        group, _, name = path.rpartition(".")
        node = config
        for part in filter(None, group.split(".")):
            node = node[part]
        node[name] = 10**5000 if value == "10**5000" else value  # pytest would name the test by it
    with pytest.raises(UserError) as caught:
        check.check(config)
    said = str(caught.value)
    # Sizes have a message of their own, which is about both numbers.
    assert f"config.{path}" in said and "\n" not in said and len(said) < 300, said


def test_messages():
    config = advent.get_config("streets+scratch")
    for path, value, message in (
        ("lr", -1.0, "config.optim.gen.lr=-1.0 must be at least 0"),
        ("lr", NAN, "config.optim.gen.lr=nan must be finite, at least 0"),
        ("momentum", 1.0, "config.optim.gen.momentum=1.0 must be at least 0 and below 1"),
    ):
        changed = config.copy_and_resolve_references()
        changed.optim.gen[path] = value
        with pytest.raises(UserError) as caught:
            ranges.check(changed)
        assert str(caught.value) == message


def test_the_table_tells_each_settings_range():
    config = advent.get_config("streets+scratch")
    rows = {path: (value, span) for path, value, span in ranges.rows(config)}
    assert rows["train.batch"] == ("4", "at least 1")
    assert rows["optim.gen.momentum"] == ("0.9", "at least 0 and below 1")
    assert rows["eval.depth_cap"] == ("80.0", "above 0.001")
    assert rows["net.rates"] == ("(1, 3, 6, 9)", "at least 1")
    assert rows["augment.source.hue"] == ("0.0", "turns of the colour circle, 0 to 0.5")
    assert rows["data.classes"] == ("'cityscapes'", "") and len(rows) > 90


def test_bounds():
    span = ranges.Range("x", least=0, below=1)
    values = np.array([-1e-9, 0, 0.5, 1 - 1e-9, 1])
    assert [span.holds(value) for value in values] == [False, True, True, True, False]
    span = ranges.Range("x", above=0, most=2)
    assert [span.holds(value) for value in (0, 1e-9, 2, 2.1)] == [False, True, True, False]
