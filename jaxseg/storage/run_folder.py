"""A run's folder: its config.json, the place of its checkpoints, and atomic writes."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import jax
from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict

from jaxseg.errors import UserError, naming
from jaxseg.models.segmenters import build as segmenters

CONFIG = "config.json"
MADE = "made"  # of config.json: how the run was made, which is no setting

# Settings that may differ between a run and its continuation.
FREE = ("train.steps", "train.log_every", "train.eval_every", "train.save_every", "train.keep",
        "train.keep_criteria", "train.pictures", "train.devices", "train.skip_bad_steps", "sweep",
        "eval", "log", "compile_cache", "data.root", "data.records", "data.threads",
        "net.remat", MADE)  # fmt: skip
# Settings that may differ between the hosts of one run.
OWN = ("compile_cache", "data.root", "data.records", "data.threads")


def checkpoints(workdir: str | Path) -> Path:
    """The folder of a run's checkpoints."""
    return Path(workdir, "checkpoints")


def holds_steps(folder: str | Path) -> bool:
    """Whether a folder of checkpoints (see `checkpoints`) exists and holds any."""
    folder = Path(folder)
    return folder.is_dir() and any(path.name.isdigit() for path in folder.iterdir())


def write_whole(path: str | Path, write: Callable[[BinaryIO], Any]) -> None:
    """Writes a file atomically: on failure the previous file, if any, stays.

    Args:
      path: the file; its folder is created if it does not exist.
      write: called with the file opened for writing bytes.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    try:
        with naming(path), open(temporary, "wb") as file:
            write(file)
        os.replace(temporary, path)
    except OSError:  # half a file would keep a full disk full
        temporary.unlink(missing_ok=True)
        raise


def write_text(path: str | Path, text: str) -> None:
    """Writes a text file in UTF-8 atomically."""
    write_whole(path, lambda file: file.write(text.encode()))


# Settings added later whose presets are not all as things were before.
ADDED = {"method.settings.colours": "torchvision", "mic.colours": "torchvision"}


def compare_config(config: ConfigDict, workdir: str) -> str:
    """Compares a config with that of the run in the workdir, if there is one.

    A setting missing in the run's config was added later; its default equals the earlier behaviour,
    or `ADDED` tells what that was.

    Returns:
      One line about schedules that change because the run goes on for more steps than it was
      planned for; empty if they stay.

    Raises:
      UserError: the workdir holds a run with other settings.
    """
    path = Path(workdir, CONFIG)
    if not (holds_steps(checkpoints(workdir)) and path.exists()):
        return ""
    before, now = (
        _by_name({**settings, "net": _effective(settings.get("net", {}))})
        for settings in (_read(path), json.loads(config.to_json()))
    )
    named = Path(workdir, "classes.json").exists()
    planned, steps, longer = before.get("train.steps"), now["train.steps"], False
    warm = before.get("train.warmup_steps", 0)  # the schedules of some players begin after it
    for key, value in ADDED.items():
        if key in now and not (key.startswith("mic.") and not before.get("mic.weight")):
            before.setdefault(key, value)
    for key in sorted(before):
        there, here = before[key], now.get(key)
        lengths = (planned, steps), (planned and planned - warm, steps - warm)
        follows = key.endswith(".schedule_steps") and (there, here) in lengths
        longer |= follows and there != here
        free = follows or any(key == f or key.startswith(f + ".") for f in FREE)
        # A path of classes: the names are compared, see `experiment.run_classes`.
        free |= named and key.startswith("data.") and key.endswith(".classes")
        free |= key == "data.translated"  # of its images the folder is compared
        if there != here and not free:
            raise UserError(
                f"{workdir} holds a run with config.{key}={there}, now it is {here}: "
                "give another --workdir, or delete that folder"
            )
    if not longer:
        return ""
    return (
        f"{workdir} was planned for {planned} steps, now for {steps}: from here on the learning "
        f"rates are those of a schedule over {steps} steps"
    )


def write_config(config: ConfigDict, workdir: str | Path) -> None:
    """Writes config.json atomically, in the first process only; keeps what `write_made` wrote."""
    if jax.process_index() == 0:
        made = read_made(workdir)
        settings = config.to_dict() | ({MADE: made} if made else {})
        write_text(Path(workdir, CONFIG), json.dumps(settings, indent=1))


def read_made(workdir: str | Path) -> dict[str, Any]:
    """How a run was made, as its config.json has it; {} if nothing is noted or readable."""
    try:
        return dict(json.loads(Path(workdir, CONFIG).read_text()).get(MADE) or {})
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def write_made(workdir: str | Path, made: Mapping[str, Any]) -> None:
    """Notes in config.json how a run was made, in the first process only."""
    if jax.process_index() == 0:
        path = Path(workdir, CONFIG)
        settings = json.loads(path.read_text()) | {MADE: dict(made)}
        write_text(path, json.dumps(settings, indent=1))


def shared_settings(config: ConfigDict) -> str:
    """The settings that have to be equal in all processes of a run, as one text to compare."""
    settings = _by_name(json.loads(config.to_json()))
    return json.dumps({key: settings[key] for key in sorted(settings.keys() - set(OWN))})


def _by_name(settings: dict[str, Any]) -> dict[str, Any]:
    """{'train.batch': 4, ...}"""
    return flatten_dict(settings, sep=".")


# Settings added after the first runs, with the values that those runs used.
LATER = {
    "net": dict(depth=False, fusion=False, init_std=0.0, remat=False),
    "disc": dict(spectral=False, init_std=0.0),
}


def read_config(workdir: str | Path) -> ConfigDict:
    """Reads a run's config.json. Lists become tuples again; settings added later get the values
    that the run was trained with; settings that its network does not have become None.

    Raises:
      UserError: no such file, or not a readable config.
    """
    saved = _read(Path(workdir, CONFIG))
    config = ConfigDict(_tuples({key: saved[key] for key in saved if key != MADE}))
    for group, settings in LATER.items():
        if group in config:
            config[group].update({k: v for k, v in settings.items() if k not in config[group]})
    for key in _unused(config.get("net", {})):
        config.net[key] = None
    return config


def _read(path: Path) -> dict[str, Any]:
    try:
        settings = json.loads(path.read_text())
        if not isinstance(settings, dict):
            raise ValueError(f"it holds {type(settings).__name__}, not settings")
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(
            f"{path} is not the readable config of a run: {error}; restore that file, or delete it "
            "to go on with the settings given now"
        ) from error
    return settings


def _unused(net: Mapping[str, Any]) -> list[str]:
    """Saved settings that the network does not have; earlier versions saved all settings."""
    try:
        return [key for key in segmenters.unused(net) if not isinstance(net[key], bool)]
    except (KeyError, UserError):  # an unknown network; building it gives the error message
        return []


def _effective(net: Mapping[str, Any]) -> dict[str, Any]:
    """The effective settings of a network: those that it has, with defaults for missing ones."""
    unused = _unused(net)
    net = {key: value for key, value in net.items() if value is not None and key not in unused}
    try:
        defaults = segmenters.settings_of(net["architecture"], net["backbone"])
    except (KeyError, UserError):
        return net
    defaults = json.loads(json.dumps(defaults))  # tuples become lists, as in a file
    return {key: value for key, value in defaults.items() if value is not None} | net


def _tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
