"""A run's folder: its config.json, and whether it holds a run."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from jaxseg.errors import UserError
from jaxseg.models.segmenters import build as segmenters

# Settings that may differ between a run and its continuation.
FREE = ("train.steps", "train.log_every", "train.eval_every", "train.save_every", "train.keep",
        "train.keep_criteria", "train.pictures", "train.devices", "sweep", "eval", "compile_cache",
        "data.root", "data.records", "data.threads", "net.remat")  # fmt: skip


OWN = ("compile_cache", "data.root", "data.records", "data.threads")  # of a host


def compare_config(config: ConfigDict, workdir: str) -> None:
    """Refuses a workdir that holds a run with other settings.

    A setting that the run does not know was added since; its default is what was done before.
    """
    path, saved = os.path.join(workdir, "config.json"), os.path.join(workdir, "checkpoints")
    started = os.path.isdir(saved) and any(name.isdigit() for name in os.listdir(saved))
    if not (started and os.path.exists(path)):
        return
    with open(path) as file:
        before, now = (
            _flat({**settings, "net": _effective(settings.get("net", {}))})
            for settings in (json.load(file), json.loads(config.to_json()))
        )
    for key in sorted(before):
        there, here = before[key], now.get(key)
        if there != here and not any(key == f or key.startswith(f + ".") for f in FREE):
            raise UserError(
                f"{workdir} holds a run with config.{key}={there}, now it is {here}: "
                "give another --workdir, or delete that folder"
            )


def write_config(config: ConfigDict, workdir: str) -> None:
    """Writes config.json, whole or not at all."""
    if jax.process_index() == 0:
        path = os.path.join(workdir, "config.json")
        with open(path + ".new", "w") as file:
            json.dump(config.to_dict(), file, indent=1)
        os.replace(path + ".new", path)


def common(config: ConfigDict) -> str:
    """What all processes have to agree on."""
    settings = _flat(json.loads(config.to_json()))
    return json.dumps({key: settings[key] for key in sorted(settings.keys() - set(OWN))})


def _flat(tree: dict, prefix: str = "") -> dict[str, Any]:
    flat = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat.update(_flat(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat


# Settings that came after the first runs, and what those were trained with.
LATER = {
    "net": dict(depth=False, fusion=False, init_std=0.0, remat=False),
    "disc": dict(spectral=False, init_std=0.0),
}


def read_config(workdir: str | Path) -> ConfigDict:
    """A run's config.json; lists become the tuples that they were, settings that it predates what
    it was trained with, and settings that its network does not have None. UserError if there is no
    such file.
    """
    path = Path(workdir, "config.json")
    try:
        config = ConfigDict(_tuples(json.loads(path.read_text())))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is not the readable config of a run: {error}") from error
    for group, settings in LATER.items():
        if group in config:
            config[group].update({k: v for k, v in settings.items() if k not in config[group]})
    for key in _unused(config.get("net", {})):
        config.net[key] = None
    return config


def _unused(net: Mapping[str, Any]) -> list[str]:
    """Settings of a network that were written when every config had those of all architectures."""
    try:
        return [key for key in segmenters.unused(net) if not isinstance(net[key], bool)]
    except (KeyError, UserError):  # of no network that there is: whoever builds it tells
        return []


def _effective(net: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that count: none that the network lacks, defaults where nothing is said."""
    unused = _unused(net)
    net = {key: value for key, value in net.items() if value is not None and key not in unused}
    try:
        defaults = segmenters.settings_of(net["architecture"], net["backbone"])
    except (KeyError, UserError):
        return net
    defaults = json.loads(json.dumps(defaults))  # lists, as a file has them
    return {key: value for key, value in defaults.items() if value is not None} | net


def _tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
