"""The configs by kind, and reading them."""

import functools
import importlib
from pathlib import Path

import jax
import numpy as np

from configs import common

NO_CONFIG = (
    *(
        "__init__",
        "common",
        "defaults",
        "embedded",
        "geometry",
        "self_training",
        "settings",
        "style_transfer",
    ),
    "supervised",
)


SELF_TRAINING = ("cbst", "dacs", "daformer")  # likewise: test_self_training_configs.py


STYLE = ("cycada", "cyclegan", "fda")  # likewise: test_style_configs.py


SUPERVISED = ("baseline", "fcn")  # with presets of their own: test_supervised_configs.py


CONFIGS = sorted(
    p.stem for p in Path(common.__file__).parent.glob("*.py") if p.stem not in NO_CONFIG
)


def load(name, preset="streets"):
    config = importlib.import_module(f"configs.{name}").get_config(preset)
    if preset.startswith("folders"):
        config.data.classes = "cityscapes"  # instead of a class file, which is the user's
    return config


def count(tree):
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))


def read(config, keys):
    return {key: functools.reduce(lambda c, k: c[k], key.split("."), config) for key in keys}
