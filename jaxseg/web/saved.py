"""A config file whose preset is the folder of a run: the run's own settings.

python launch.py --config=jaxseg/web/saved.py:runs/advent_streets --workdir=runs/advent_streets

The server resumes, extends and clones runs with it, whichever command they were started with.
"""

import json
import os

from ml_collections import ConfigDict


def get_config(folder: str) -> ConfigDict:
    """The settings in the config.json of a run's folder; raises ValueError without one."""
    try:
        with open(os.path.join(folder, "config.json"), encoding="utf-8") as file:
            settings = json.load(file)
    except (OSError, ValueError) as error:
        raise ValueError(f"{folder} holds no readable config.json: {error}") from error
    return ConfigDict(_tuples(settings)).lock()


def _tuples(value):
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
