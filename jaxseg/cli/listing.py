"""`jaxseg list`: experiments, presets, settings, data sets and published numbers."""

import argparse
import ast
import itertools
import re
import shutil
import textwrap
from collections.abc import Iterator
from pathlib import Path

import jaxseg
from jaxseg.experiment import comments, presets

_PUBLISHED = re.compile(r"configs/(\w+)\.py(:[\w+]+)?\s+# published: (.*)")


def parser(program: str) -> argparse.ArgumentParser:
    """Takes what to list."""
    made = argparse.ArgumentParser(
        prog=program,
        description="Lists experiments, the presets of NAME, the settings of NAME:PRESET.",
    )
    made.add_argument(
        "what", nargs="?", default="", metavar="NAME|NAME:PRESET|data|published",
        help="an experiment, one with a preset, the data sets, or the papers' numbers",
    )  # fmt: skip
    return made


def run(arguments: argparse.Namespace) -> None:
    """Prints the list."""
    what = arguments.what
    kinds = {"": _experiments, "data": _data_sets, "published": _published}
    if what in kinds:
        lines = kinds[what]()
    elif ":" in what:
        lines = _settings(what)
    else:
        lines = _presets(what)
    print("\n".join(lines))


def _first_line(path: Path) -> str:
    text = ast.get_docstring(ast.parse(path.read_text())) or ""
    return " ".join(text.split("\n\n")[0].split())


def _experiments() -> Iterator[str]:
    yield "Experiments (jaxseg train --config=NAME:PRESET; jaxseg list NAME for the presets):"
    width = max(map(len, presets.names())) + 2
    for name in presets.names():
        yield _row(name, width, _first_line(presets.folder() / f"{name}.py"))
    yield ""
    yield "jaxseg list data, jaxseg list published: data sets, the papers' numbers"


def _presets(name: str) -> Iterator[str]:
    path = Path(presets.path_of(name))
    yield (
        (ast.get_docstring(ast.parse(path.read_text())) or "")
        .replace("python launch.py --config=configs/", "jaxseg train --config=")
        .replace(".py", "")
    )
    yield ""
    yield "Presets:"
    for base, group in itertools.groupby(presets.accepted(name), lambda p: p.partition("+")[0]):
        yield f"  {' '.join(group)}" if base else ""
    yield ""
    yield f"jaxseg list {name}:PRESET has the settings."


def _settings(given: str) -> Iterator[str]:
    from jaxseg.experiment import ranges  # NumPy and Pillow, to tell the augmentations' ranges

    config = presets.load(given)
    told = comments.of_configs(presets.folder()) | comments.of_method(config.method.name)
    yield f"Settings of {given}; change one with --config.SETTING=VALUE"
    for path, value, span in ranges.rows(config):
        if value == "None":  # of another network
            continue
        parts = (comments.of(path, told), "" if span == "finite" else span)
        meaning = "; ".join(filter(None, parts))
        yield _row(f"{path} = {value}", 44, meaning)


def _data_sets() -> Iterator[str]:
    yield "Data sets (data.source.name, data.target.name; docs/data.md says where files belong):"
    for path in sorted((Path(jaxseg.__file__).parent / "data" / "builders").glob("[!_]*.py")):
        yield _row(path.stem, 16, _first_line(path))


def _published() -> Iterator[str]:
    yield "What the papers report, in % (target mIoU); not reproduced here:"
    for path in sorted(presets.folder().glob("*.py")):
        for name, preset, number in _PUBLISHED.findall(path.read_text()):
            yield _row(f"{name}{preset}", 42, number)


def _row(left: str, width: int, right: str) -> str:
    """Two columns; the right one is wrapped at the terminal's width."""
    across = max(60, min(140, shutil.get_terminal_size((100, 24)).columns))
    left = f"  {left:{width}}"
    if not right:
        return left.rstrip()
    gap = " " * (width + 2)
    lines = textwrap.wrap(right, max(20, across - width - 3))
    if len(left) > width + 2:
        return f"{left}\n" + "\n".join(f"{gap} {line}" for line in lines)
    return f"{left} " + f"\n{gap} ".join(lines)
