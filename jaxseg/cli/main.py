"""`jaxseg COMMAND`: finds the command and runs it.

A further command is a line of COMMANDS. Its module has

- `parser(program)`: an `argparse.ArgumentParser`, and
- `run(arguments)`: runs it with what was parsed; returns the exit code, or None for 0. A UserError
  becomes one line and exit code 2.

The module is imported when the command is used, for its --help, or for shell completion: what is
slow belongs into `run`. Those without a module are modes of a config, and have absl flags instead.
"""

import importlib
import os
import sys
from collections.abc import Sequence
from typing import NamedTuple

import jaxseg
from jaxseg.engine import pages, signals
from jaxseg.errors import UserError, one_line_on_files


class Command(NamedTuple):
    """A command: the module that runs it ('' for a mode of a config), and a line of help."""

    module: str
    summary: str


COMMANDS = {
    "train": Command("", "trains an experiment, or goes on with it"),
    "evaluate": Command("", "scores a trained network on labelled target images"),
    "predict": Command("", "segments images, folders of them and videos"),
    "inspect": Command("", "counts and shows the data of an experiment"),
    "compare": Command("jaxseg.cli.compare", "puts finished runs and sweeps on one page"),
    "translate": Command("", "writes the source's images in the target's look, and judges them"),
    "export": Command("", "writes a network as one file for JAX alone or for ONNX"),
    "search": Command("", "looks for good settings, in any number of processes"),
    "describe": Command("", "parameters, operations and memory of an experiment"),
    "list": Command(
        "jaxseg.cli.listing", "experiments, presets, settings, data sets, published numbers"
    ),
    "web": Command("jaxseg.web.command", "serves the web page: runs, training, data, models"),
    "completion": Command("jaxseg.cli.completion", "prints completion for bash, zsh or fish"),
}

MODE_USAGE = """jaxseg {name}: {summary}

jaxseg {name} {example}

`jaxseg list` names the experiments, `jaxseg list NAME` the presets of one, and
`jaxseg list NAME:PRESET` all settings, each of which can be changed: --config.KEY=VALUE."""
EXAMPLES = {
    "train": "--config=advent:streets [--workdir=DIR] [--config.train.steps=500]",
    "evaluate": "--workdir=runs/advent_streets [--step=last] [--split=test]",
    "predict": "--workdir=runs/advent_streets --input=photos --output=predictions",
    "translate": "--config=cyclegan:streets --output=translated --judge=runs/source_only_streets",
    "inspect": "--config=advent:streets_folder --config.data.root=DIR",
    "export": "--workdir=runs/advent_streets --format=onnx [--size=512,1024]",
    "search": "--config=advent --space=space.toml --trials=40 [--criterion=entropy]",
    "describe": "--config=advent:gta5_cityscapes",
}


def main() -> None:
    """The console script `jaxseg`."""
    command = COMMANDS.get("".join(sys.argv[1:2]))
    if command and not command.module:
        pages.ask()  # may start the program again
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Runs a command line without the program's name; returns the exit code."""
    first, *rest = arguments or ["--help"]
    if first in ("-h", "--help", "-help", "help"):
        print(usage())
        return 0
    if first == "--version":
        print(f"jaxseg {jaxseg.__version__}")
        return 0
    if first not in COMMANDS:
        print(f"jaxseg: no command {first!r}; choose one of {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    program, command = f"jaxseg {first}", COMMANDS[first]
    if not command.module:
        signals.guard()
        from jaxseg.cli import modes

        shown = MODE_USAGE.format(name=first, summary=command.summary, example=EXAMPLES[first])
        modes.main([program, *rest], usage=shown, mode=first)
    try:
        module = importlib.import_module(command.module)
        with one_line_on_files(os.getcwd()):
            return module.run(module.parser(program).parse_args(rest)) or 0
    except UserError as error:
        print(f"{program}: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # of `jaxseg list | head`
        sys.stderr.close()
        return 1


def usage() -> str:
    """What --help prints."""
    width = max(map(len, COMMANDS)) + 2
    rows = [f"  {name:{width}}{command.summary}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "jaxseg: unsupervised domain adaptation for semantic segmentation",
            "",
            "jaxseg COMMAND [--help]",
            "",
            *rows,
            "",
            "jaxseg train --config=advent:streets     # minutes on two cores",
            "jaxseg predict --workdir=runs/advent_streets --input=photos",
        ]
    )


if __name__ == "__main__":  # python -m jaxseg.cli.main, as `jaxseg`
    main()
