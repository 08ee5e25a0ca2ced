"""The commands of the ordinary launcher that the server starts."""

import os
import sys
from pathlib import Path

import jaxseg
from jaxseg.errors import UserError
from jaxseg.experiment import of_run, presets
from jaxseg.web import composed

# `jaxseg` itself, which need not be on the path.
_JAXSEG = [sys.executable, "-u", "-c", "from jaxseg.cli.main import main; main()"]


def environment(**more: str) -> dict[str, str]:
    """The environment of a process that imports jaxseg, from a checkout that is not installed too.

    Args:
      **more: further variables.
    """
    root = str(Path(jaxseg.__file__).resolve().parent.parent)
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))
    return {**os.environ, "PYTHONPATH": path, **more}


def argument(config: str) -> str:
    """What --config is given for 'advent:streets', for the absolute folder of a run, or for the
    JSON file of an experiment with data of one's own.

    Raises:
      UserError: no such experiment.
    """
    if config.endswith(".json"):
        return f"{composed.__file__}:{config}"
    if Path(config).is_absolute():
        return f"{of_run.__file__}:{config}"
    if config.partition(":")[0] not in presets.names():
        raise UserError(f"there is no experiment {config!r}")
    return presets.full(config)


def train(config: str, workdir: Path, overrides: list[str]) -> list[str]:
    """The command that trains.

    Args:
      config: see `argument`.
      workdir: of the new run, or of the run to resume.
      overrides: as '--config.KEY=VALUE'.
    """
    return [*_JAXSEG, "train", *_what(config, workdir), *overrides]


def inspect(config: str, workdir: Path, overrides: list[str]) -> list[str]:
    """The command that prepares data and counts them; see `train`."""
    return [*_JAXSEG, "inspect", *_what(config, workdir), *overrides]


def export(config: str, workdir: Path, form: str, output: Path, step: str) -> list[str]:
    """The command that exports a network of a run into a file; see `train`."""
    flags = [f"--format={form}", f"--output={output}", f"--step={step}"]
    return [*_JAXSEG, "export", *_what(config, workdir), *flags]


def _what(config: str, workdir: Path) -> list[str]:
    return [f"--config={argument(config)}", f"--workdir={workdir}"]
