"""`jaxseg web` and `python launch.py --mode=web`: the command line of the web page."""

import argparse
import importlib.util
import sys
from collections.abc import Sequence

from jaxseg.errors import UserError

NEEDED = ("starlette", "uvicorn")


def parser(program: str) -> argparse.ArgumentParser:
    """The flags."""
    made = argparse.ArgumentParser(
        prog=program, description="Serves the web page over the run folders of this machine."
    )
    for name, default, text in (
        ("runs", "runs", "folder of the run folders"),
        ("port", 8000, "to listen on"),
        ("data", "data", "folder of data sets and weight files to choose from"),
        ("records", "", "folder of the prepared records; empty: the user's cache folder"),
        ("parallel", 1, "trainings at a time"),
        ("host", "127.0.0.1", "address to listen on; any other one needs a token, printed then"),
    ):
        text = f"{text} (default {default})" if default else text
        made.add_argument(f"--{name}", default=default, type=type(default), help=text)
    return made


def run(arguments: argparse.Namespace) -> int:
    """Serves until Ctrl-C; returns the exit code.

    Raises:
      UserError: packages are missing, or the server cannot start.
    """
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        raise UserError(f"the web page needs {' and '.join(missing)}: pip install 'jaxseg[web]'")
    from jaxseg.web import site

    return site.run(**vars(arguments))


def main(program: str, arguments: Sequence[str]) -> int:
    """Parses and runs; a UserError becomes one line and exit code 2."""
    try:
        return run(parser(program).parse_args(list(arguments)))
    except UserError as error:
        print(f"{program}: {error}", file=sys.stderr)
        return 2
