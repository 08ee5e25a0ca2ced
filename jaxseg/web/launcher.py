"""Where the ordinary launcher and the configs are, and the commands that start them."""

import importlib
import importlib.util
import sys
from pathlib import Path

from ml_collections import ConfigDict

from jaxseg.web import composed, saved

_ROOT = Path(__file__).resolve().parent.parent.parent


def configs() -> Path:
    """The folder of the configs."""
    return _ROOT / "configs"


def train(config: str, workdir: Path, overrides: list[str]) -> list[str]:
    """The command that trains.

    Args:
      config: 'advent:streets', or the folder of a run whose settings are used.
      workdir: of the new run, or of the run to resume.
      overrides: as '--config.KEY=VALUE'.
    """
    return [*_launch(), f"--config={argument(config)}", f"--workdir={workdir}", *overrides]


def argument(config: str) -> str:
    """What --config is given for a config's name with its preset, for the folder of a run, or
    for the JSON file of an experiment with data of one's own."""
    if config.endswith(".json"):
        return f"{composed.__file__}:{config}"
    if Path(config).is_absolute():
        return f"{saved.__file__}:{config}"
    name, _, preset = config.partition(":")
    return f"{configs() / name}.py" + (f":{preset}" if preset else "")


def _launch() -> list[str]:
    return [sys.executable, "-u", str(_ROOT / "launch.py")]


def load(config: str) -> ConfigDict:
    """The config of 'advent:streets'; raises ValueError for an unknown one."""
    name, _, preset = config.partition(":")
    parent = str(configs().parent)
    if parent not in sys.path:  # launch.py's own folder is there already
        sys.path.append(parent)
    module = importlib.import_module(f"{configs().name}.{name}")
    return module.get_config(*([preset] if preset else []))


def inspect(config: str, workdir: Path, overrides: list[str]) -> list[str]:
    """The command that prepares data and counts them; see `train`."""
    where = [f"--config={argument(config)}", f"--workdir={workdir}", "--mode=inspect"]
    return [*_launch(), *where, *overrides]


def can_export() -> bool:
    """Whether this version exports networks."""
    return importlib.util.find_spec("jaxseg.run.export") is not None


def export(config: str, workdir: Path, form: str, output: Path, step: str) -> list[str]:
    """The command that exports a network of a run into a file; see `train`."""
    flags = [f"--format={form}", f"--output={output}", f"--step={step}", "--mode=export"]
    return [*_launch(), f"--config={argument(config)}", f"--workdir={workdir}", *flags]
