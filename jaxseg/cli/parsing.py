"""Parses the flags of a mode; a mistake in them becomes one line of text, exit code 2."""

import contextlib
import difflib
import os
import re
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from absl import app, flags
from ml_collections import ConfigDict

from jaxseg.cli import flags as own
from jaxseg.errors import UserError
from jaxseg.experiment import presets

# Makes `import configs` find the experiments to the end of the process: the flag --config imports
# them when it is first looked at. A context that nobody holds would end at once.
_EXPERIMENTS = contextlib.ExitStack()


def fail(message: str, program: str) -> NoReturn:
    """Prints a message and ends with exit code 2."""
    print(f"{program}: {message}", file=sys.__stderr__)
    sys.exit(2)


def parse(argv: Sequence[str]) -> list[str]:
    """Parses the command line into `absl.flags.FLAGS`; returns what is no flag.

    The config's own code is run first by itself, so that a mistake in it keeps its traceback.
    """
    program = argv[0]
    argv = _with_config(list(argv))
    _EXPERIMENTS.enter_context(presets.importable())
    try:
        argv = [program, *_last_of_each(_with_paths(argv[1:]))]
        for given in _values(argv[1:], "config")[-1:]:
            config = presets.load(given)
            _check_names(argv[1:], config)
    except UserError as error:
        fail(str(error), program)
    try:
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
            rest = flags.FLAGS(argv)
            if flags.FLAGS["config"].value is None:
                fail(_no_config(program, argv), program)
            _ = own.CONFIG.value
    except Exception as error:  # ml_collections raises many kinds for overrides
        fail(_one_line(error), program)
    return rest


def _no_config(program: str, argv: Sequence[str]) -> str:
    """What to say where no config is given, and the work folder has none."""
    example = "configs/advent.py" if program.endswith(".py") else "advent:streets"
    folder = _values(argv[1:], "workdir")
    if folder and _finished(argv):
        return (
            f"--workdir={folder[-1]} holds no run (no config.json), and --config is missing: give "
            f"the folder of a run, or an experiment as in --config={example}"
        )
    return f"--config is missing: try --config={example}"


def asks_help(argv: Sequence[str]) -> bool:
    """Whether --help or a variant of it is among the arguments."""
    return any(a in ("-h", "-help", "--help", "--helpshort") for a in argv[1:])


def show_all_help(argv: Sequence[str]) -> None:
    """Lets absl answer --helpfull and its like, and ends; returns if none of them is given."""
    if any(a.lstrip("-") in ("helpfull", "helpxml", "only_check_args") for a in argv[1:]):
        app.parse_flags_with_usage(list(argv))


def _values(arguments: Sequence[str], name: str) -> list[str]:
    """All values of a flag, in --name=value and in --name value."""
    found = []
    for argument, following in zip(arguments, [*arguments, ""][1:], strict=True):
        flag, equals, value = argument.partition("=")
        if flag in (f"--{name}", f"-{name}"):
            found.append(value if equals else following)
    return found


def _finished(argv: Sequence[str]) -> bool:
    """Whether the mode is one that uses a finished run."""
    modes = ("evaluate", "predict", "translate", "export")
    return (_values(argv[1:], "mode") or [""])[-1] in modes


def _with_config(argv: list[str]) -> list[str]:
    """Takes the config of --workdir's run if there is no --config; before its settings, which are
    known only once it is read."""
    folder = os.path.expanduser((_values(argv[1:], "workdir") or [""])[-1])
    there = folder and os.path.isfile(os.path.join(folder, "config.json"))
    if _values(argv[1:], "config") or not _finished(argv) or not there:
        return argv
    from jaxseg.experiment import of_run

    return [argv[0], f"--config={of_run.__file__}:{folder}", *argv[1:]]


def _with_paths(arguments: Sequence[str]) -> list[str]:
    """The arguments with paths instead of the names of experiments."""
    changed, value_follows = [], False
    for argument in arguments:
        flag, equals, value = argument.partition("=")
        if value_follows:
            changed.append(presets.full(argument))
        elif equals and flag in ("--config", "-config"):
            changed.append(f"{flag}={presets.full(value)}")
        else:
            changed.append(argument)
        value_follows = not value_follows and argument in ("--config", "-config")
    return changed


def _last_of_each(arguments: Sequence[str]) -> list[str]:
    """Drops all but the last value of each setting: those of tuples would be joined."""
    units: list[list[str]] = []  # an argument, or a setting with its value as another argument
    for argument in arguments:
        alone = units and len(units[-1]) == 1 and _setting(units[-1][0]) and "=" not in units[-1][0]
        if alone and not argument.startswith("-"):
            units[-1].append(argument)
        else:
            units.append([argument])
    last = {_setting(unit[0]): i for i, unit in enumerate(units)}
    kept = [u for i, u in enumerate(units) if not _setting(u[0]) or last[_setting(u[0])] == i]
    return [argument for unit in kept for argument in unit]


def _setting(argument: str) -> str:
    """'train.steps' of --config.train.steps=5; '' for another argument."""
    flag = argument.partition("=")[0]
    found = re.fullmatch(r"--?(?:no)?config\.(.+)", flag)
    return found[1] if found else ""


def _check_names(arguments: Sequence[str], config: ConfigDict) -> None:
    """Raises UserError for the first setting that the config does not have."""
    for argument in arguments:
        setting, inside, before = _setting(argument), config, []
        for part in filter(None, re.sub(r"\[.*", "", setting).split(".")):
            if not isinstance(inside, ConfigDict) or part not in inside:
                known = list(inside) if isinstance(inside, ConfigDict) else []
                near = difflib.get_close_matches(part, known, 1)
                where = ".".join(["config", *before])
                listed = f"; {where} has {', '.join(map(str, known))}" if known else ""
                hint = f"; did you mean {near[0]}?" if near else listed
                raise UserError(f"no setting config.{setting}{hint}")
            inside: Any = inside[part]
            before.append(part)


def _one_line(error: Exception) -> str:
    """An error message of absl or ml_collections as one line."""
    text = " ".join(str(error).replace("\\n", " ").replace("\\'", "'").split())
    return re.sub(r"(\d{20})\d{20,}", r"\1...", text)  # a value may have thousands of digits
