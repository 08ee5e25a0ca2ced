"""A run's folder: its config.json, its checkpoints, and how anything is written into it."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import jax
from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict

from jaxseg.errors import UserError
from jaxseg.models.segmenters import build as segmenters

CONFIG = "config.json"

# Settings that may differ between a run and its continuation.
FREE = ("train.steps", "train.log_every", "train.eval_every", "train.save_every", "train.keep",
        "train.keep_criteria", "train.pictures", "train.devices", "sweep", "eval", "compile_cache",
        "data.root", "data.records", "data.threads", "net.remat")  # fmt: skip
# Settings of a host, which need not be the same on all.
OWN = ("compile_cache", "data.root", "data.records", "data.threads")


def checkpoints(workdir: str | Path) -> Path:
    """The folder of a run's checkpoints."""
    return Path(workdir, "checkpoints")


def holds_steps(folder: str | Path) -> bool:
    """Whether a folder of checkpoints (see `checkpoints`) is there and holds any."""
    folder = Path(folder)
    return folder.is_dir() and any(path.name.isdigit() for path in folder.iterdir())


def write_whole(path: str | Path, write: Callable[[BinaryIO], Any]) -> None:
    """Writes a file so that there is the whole of it, or what was there before.

    Args:
      path: in a folder that is made if it does not exist.
      write: gets the file, opened for bytes.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    with open(temporary, "wb") as file:
        write(file)
    os.replace(temporary, path)


def write_text(path: str | Path, text: str) -> None:
    """Writes a text in UTF-8, as `write_whole` does."""
    write_whole(path, lambda file: file.write(text.encode()))


def compare_config(config: ConfigDict, workdir: str) -> None:
    """Refuses a workdir that holds a run with other settings.

    A setting that the run does not know was added since; its default is what was done before.
    """
    path = Path(workdir, CONFIG)
    if not (holds_steps(checkpoints(workdir)) and path.exists()):
        return
    before, now = (
        _by_name({**settings, "net": _effective(settings.get("net", {}))})
        for settings in (json.loads(path.read_text()), json.loads(config.to_json()))
    )
    for key in sorted(before):
        there, here = before[key], now.get(key)
        if there != here and not any(key == f or key.startswith(f + ".") for f in FREE):
            raise UserError(
                f"{workdir} holds a run with config.{key}={there}, now it is {here}: "
                "give another --workdir, or delete that folder"
            )


def write_config(config: ConfigDict, workdir: str | Path) -> None:
    """Writes config.json, whole or not at all; of several processes the first does."""
    if jax.process_index() == 0:
        write_text(Path(workdir, CONFIG), json.dumps(config.to_dict(), indent=1))


def shared_settings(config: ConfigDict) -> str:
    """The settings that have to be the same in all processes of a run, as one text to compare."""
    settings = _by_name(json.loads(config.to_json()))
    return json.dumps({key: settings[key] for key in sorted(settings.keys() - set(OWN))})


def _by_name(settings: dict[str, Any]) -> dict[str, Any]:
    """{'train.batch': 4, ...}"""
    return flatten_dict(settings, sep=".")


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
    path = Path(workdir, CONFIG)
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
