"""Finds and loads experiments by name: `advent:streets` is configs/advent.py with a preset.

In a checkout the experiments are the folder configs/ beside the package; an installed package holds
them in jaxseg/configs. In both cases they import each other as `configs`. Nothing here imports JAX.
"""

import contextlib
import difflib
import functools
import importlib
import importlib.util
import inspect
import os
import sys
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path

from ml_collections import ConfigDict

import jaxseg
from jaxseg.errors import UserError

_LOCK = threading.RLock()


@functools.cache
def folder() -> Path:
    """The folder of the experiments.

    Raises:
      UserError: the installation lacks it.
    """
    package = Path(jaxseg.__file__).resolve().parent
    for place in (package / "configs", package.parent / "configs"):
        if (place / "common.py").is_file():
            return place
    raise UserError(f"no folder configs in {package} or beside it: install jaxseg again")


def names() -> list[str]:
    """The names of all experiments, such as 'advent'."""
    return sorted(p.stem for p in folder().glob("*.py") if "\ndef get_config(" in p.read_text())


def path_of(given: str) -> str:
    """The file of an experiment.

    Args:
      given: 'NAME' of an experiment, or a path of a .py file; without a preset. The experiments of
        an installed package can be called 'configs/NAME.py' too.

    Raises:
      UserError: there is no such file or experiment.
    """
    if given.endswith(".py") or os.sep in given:
        if os.path.isfile(given):
            return given
        if os.path.dirname(given) == "configs" and Path(given).stem in names():
            return str(folder() / os.path.basename(given))
        raise UserError(f"no config file {given!r}; the experiments are in configs/")
    if given not in names():
        near = difflib.get_close_matches(given, names(), 1)
        meant = f"did you mean {near[0]}?" if near else f"choose one of {', '.join(names())}"
        raise UserError(f"no experiment {given!r}; {meant}")
    return str(folder() / f"{given}.py")


def full(given: str) -> str:
    """'NAME:PRESET' with the path of its file instead of the name; see `path_of`."""
    name, colon, preset = given.partition(":")
    return path_of(name) + colon + preset


@contextlib.contextmanager
def importable() -> Iterator[None]:
    """Within the block `import configs` finds the experiments, wherever they are installed."""

    def named():
        return [name for name in sys.modules if name.split(".")[0] == "configs"]

    with _LOCK:
        place = str(folder())
        present = sys.modules.get("configs")
        if place in list(map(os.path.realpath, getattr(present, "__path__", ()))):
            yield
            return
        others = {name: sys.modules.pop(name) for name in named()}  # a user's own package
        spec = importlib.util.spec_from_file_location(
            "configs", os.path.join(place, "__init__.py"), submodule_search_locations=[place]
        )
        module = sys.modules["configs"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        try:
            yield
        finally:
            for name in named():
                del sys.modules[name]
            sys.modules.update(others)


def load(given: str) -> ConfigDict:
    """The config of an experiment.

    Args:
      given: 'NAME', 'NAME:PRESET', or the same with the path of a file instead of the name.

    Raises:
      UserError: no such experiment or preset, or a file that gives no config. What else the file
        raises is a mistake in its code.
    """
    name, colon, preset = given.partition(":")
    path = path_of(name)
    spec = importlib.util.spec_from_file_location("config_file", path)
    if spec is None:
        raise UserError(f"the config {path} is no .py file")
    with importable():
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        if not hasattr(module, "get_config"):
            raise UserError(f"the config {path} has no function get_config")
        wanted = (preset,) if colon else ()
        try:
            inspect.signature(module.get_config).bind(*wanted)
        except TypeError as error:
            raise UserError(
                f"the config {path} given as {given!r}: get_config has {error}"
            ) from error
        try:
            config = module.get_config(*wanted)
        except ValueError as error:
            if not _meant(error, path):
                raise
            raise UserError(str(error)) from error
    if not isinstance(config, ConfigDict):
        raise UserError(f"get_config of {path} returns {config!r}, which is no ConfigDict")
    return config


@functools.cache
def accepted(name: str) -> tuple[str, ...]:
    """The presets of an experiment, with one modifier at most.

    The names are those in the PRESETS and MODIFIERS of the files in configs/, in the order of their
    first mention; what the experiment refuses is left out. It is found out once by trying: half a
    second.

    Raises:
      UserError: no such experiment.
    """
    path = path_of(name)
    bases: dict[str, None] = {}
    modifiers: dict[str, None] = {}
    with importable():  # once for all that is loaded here
        for file in sorted(folder().glob("*.py")):
            module = importlib.import_module(f"configs.{file.stem}")
            bases |= dict.fromkeys(getattr(module, "PRESETS", ()))
            modifiers |= dict.fromkeys(getattr(module, "MODIFIERS", ()))
        plain = [base for base in bases if _works(f"{path}:{base}")]
        several = [f"{base}+{modifier}" for base in plain for modifier in modifiers]
        return (*plain, *(preset for preset in several if _works(f"{path}:{preset}")))


def _works(given: str) -> bool:
    try:
        load(given)
    except UserError:
        return False
    return True


def _meant(error: ValueError, path: str) -> bool:
    """Whether the config raised the error itself, as it does for an unknown preset."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    here = os.path.realpath(os.path.dirname(path))
    own = os.path.realpath(os.path.dirname(last.filename)) in (here, str(folder()))
    return own and (last.line or "").startswith("raise ")
