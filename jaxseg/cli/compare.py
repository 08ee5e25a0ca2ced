"""`jaxseg compare DIR...`: finished runs and sweeps on one page."""

import argparse


def parser(program: str) -> argparse.ArgumentParser:
    """The command's arguments."""
    made = argparse.ArgumentParser(
        prog=program,
        description="Writes one page that compares finished runs and sweeps, and prints its table. "
        "Runs that differ in the seed only are one row, with mean and standard deviation.",
    )
    made.add_argument("folders", metavar="DIR", nargs="+", help="folder of a run or of a sweep")
    made.add_argument(
        "--output", default="comparison.html", help="path of the page (default %(default)s)"
    )
    return made


def run(arguments: argparse.Namespace) -> None:
    """Writes the page."""
    from jaxseg.run import compare

    compare.compare(arguments.folders, arguments.output)
