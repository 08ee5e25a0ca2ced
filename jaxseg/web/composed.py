"""A config file whose preset is a JSON file: an experiment with data sets of one's own.

python launch.py --config=jaxseg/web/composed.py:FILE.json

The JSON holds `base`, such as 'advent:streets', and `source` and `target`, each null for the
base's own, or what the page for data sets has saved; see `datasets`. It may hold `counts`, the
images [train, val] of the base's source where that is rendered.
"""

import json
from typing import Any

from ml_collections import ConfigDict

from jaxseg.errors import UserError
from jaxseg.experiment import presets


def get_config(path: str) -> ConfigDict:
    """The base's config with its data replaced; raises UserError for a file that is not one."""
    try:
        with open(path, encoding="utf-8") as file:
            spec = json.load(file)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is no readable experiment: {error}") from error
    config = presets.load(spec["base"])
    if not (spec["source"] or spec["target"]):
        return config
    config = config.unlock()
    for side in ("source", "target"):
        if spec[side]:
            config.data[side] = _side(spec[side])
    if spec.get("counts"):
        counts = config.data.source.options.counts
        counts.train, counts.val = spec["counts"]
    own = spec["source"] or spec["target"]
    if own["classes"]:  # the labels that are learnt, or else those that are scored
        config.data.classes = own["classes"]
    return config.lock()


def _side(saved: dict[str, Any]) -> ConfigDict:
    """One side's settings of a data set that was saved by the page."""
    keys = ("images", "labels", "classes", "label_values", "image_suffix", "label_suffix",
            "val_percent", "split_seed")  # fmt: skip
    return ConfigDict(
        dict(
            name="folder",
            split="train",
            val_split="val",
            size=tuple(saved["size"]),
            options=ConfigDict({key: saved[key] for key in keys}),
        )
    )
