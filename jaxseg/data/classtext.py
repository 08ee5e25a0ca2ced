"""Reads the text of a class file, in the forms that people and annotation tools write.

Nothing is guessed: a text that two forms fit with different meanings, or that none fits, is
refused with the line. `classfile` gives the lines their meaning.
"""

import csv
import json
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from jaxseg.errors import UserError

UNNUMBERED = "__ignore__"  # LabelMe's first line, which counts as -1


class Line(NamedTuple):
    """What a line says of a class.

    Attributes:
      number: of the line in the file, from 1; of the entry in JSON.
      text: the line.
      name: '' if it has none.
      value: of the pixels in grey and palette files.
      colour: (red, green, blue), or None in a file without colours.
    """

    number: int
    text: str
    name: str
    value: int
    colour: tuple[int, int, int] | None = None


_SEPARATORS = (",", ";", "\t", "|")
_HEADS = {
    "name": ("name", "class", "label", "class name", "label name", "title", "category"),
    "value": ("value", "pixel value", "id", "index", "class id", "label id", "pixel"),
    "red": ("r", "red"),
    "green": ("g", "green"),
    "blue": ("b", "blue"),
}
# For each form: what it is called, and the pattern of a line with its groups in this order.
_NUMBER = r"(?P<value>\d+)"
_COLOUR = r"(?P<red>\d+)[,\s]\s*(?P<green>\d+)[,\s]\s*(?P<blue>\d+)"
_FORMS = (
    ("'name:R,G,B:parts:actions'", re.compile(rf"(?P<name>[^:]+):{_COLOUR}:[^:]*:[^:]*")),
    ("'name: R G B'", re.compile(rf"(?P<name>\D.*?)\s*[:=]\s*[(\[]?{_COLOUR}[)\]]?")),
    (
        "'R G B name'",
        re.compile(r"(?P<red>\d+)\s+(?P<green>\d+)\s+(?P<blue>\d+)(?:\s+(?P<name>.*))?"),
    ),
    (
        "'name R G B'",
        re.compile(r"(?P<name>\D.*?)\s+(?P<red>\d+)\s+(?P<green>\d+)\s+(?P<blue>\d+)"),
    ),
    ("'value: name'", re.compile(rf"{_NUMBER}\s*(?:[:=.)]|\s-\s)\s*(?P<name>.*)")),
    ("'name: value'", re.compile(rf"(?P<name>\D.*?)\s*[:=]\s*{_NUMBER}")),
    ("'value name'", re.compile(rf"{_NUMBER}\s+(?P<name>.*)")),
)
_KINDS = {  # fields of a line without a heading: int where the field is a number
    (int, str): ("value", "name"),
    (str, int): ("name", "value"),
    (int, int, int, str): ("red", "green", "blue", "name"),
    (str, int, int, int): ("name", "red", "green", "blue"),
    (int, str, int, int, int): ("value", "name", "red", "green", "blue"),
}


def parse(path: Any, text: str) -> list[Line]:
    """Reads the lines of a class file.

    Args:
      path: of the file, for messages.
      text: its contents.

    Raises:
      UserError: no form fits all lines, or the file is something else; the line is named.
    """
    if text.lstrip()[:1] in ("{", "["):
        return _json(path, text)
    lines = [
        (number, line.strip())
        for number, line in enumerate(re.split(r"\r\n|\r|\n", text), 1)
        if line.strip() and not line.strip().startswith("#")
    ]
    if any(re.match(r"(nc|names)\s*:", line) for _, line in lines):
        raise UserError(
            f"{path}: the data.yaml of YOLO, whose labels are outlines; export masks, and give a "
            f"text file with a class name on each line"
        )
    if lines and lines[0][1] == UNNUMBERED:
        return _names(path, lines)
    for form in (_by_pattern(_FORMS[:2]), _table, _by_pattern(_FORMS[2:])):
        if found := form(path, lines):
            return found
    return _names(path, lines)


def _names(path, lines) -> list[Line]:
    """Names alone; the line's place, from 0, is the value, and LabelMe's `__ignore__` is -1."""
    first = -1 if lines and lines[0][1] == UNNUMBERED else 0
    for number, line in lines[1:]:
        if line == UNNUMBERED:
            raise UserError(f"{path}, line {number}: {line} must be the first line, as in LabelMe")
    ends = [re.fullmatch(r"(\D.*?)\s+(\d+)", line) for _, line in lines]
    if len(lines) > 1 and all(ends):
        told = [int(match[2]) for match in ends]
        if told != list(range(len(told))):
            name, value = ends[0].groups()
            raise UserError(
                f"{path}, line {lines[0][0]}: {lines[0][1]!r} may be the value {value} of {name!r} "
                f"or a name; write '{value} {name}', or '0 {lines[0][1]}'"
            )
    return [
        Line(number, line, line, value) for value, (number, line) in enumerate(lines, start=first)
    ]


def _by_pattern(forms) -> Callable[[Any, list], list[Line] | None]:
    """Makes the reader of the first form that a line fits; all lines must fit it."""

    def parse(path, lines) -> list[Line] | None:
        for meaning, pattern in forms:
            matches = [pattern.fullmatch(line) for _, line in lines]
            if not any(matches):
                continue
            if None in matches:
                number, line = lines[matches.index(None)]
                raise UserError(
                    f"{path}, line {number}: {line!r} is not {meaning} as other lines are"
                )
            return [
                _line(number, line, match.groupdict(), place)
                for place, ((number, line), match) in enumerate(zip(lines, matches, strict=True))
            ]
        return None

    return parse


def _table(path, lines) -> list[Line] | None:
    """Comma-separated values, and the like, with or without a heading."""
    separators = [s for s in _SEPARATORS if all(s in line for _, line in lines)]
    if not separators:
        some = [(n, line) for n, line in lines if re.search(r"^\d+\s*[,;\t|]|[,;\t|]\s*\d+$", line)]
        return _refuse(path, some[0]) if some else None
    if not lines:
        return None
    rows = [
        next(csv.reader([line], delimiter=separators[0], skipinitialspace=True))
        for _, line in lines
    ]
    rows = [[field.strip() for field in row] for row in rows]
    heads = _heading(rows[0])
    if heads is None:
        kinds = [tuple(int if field.isdecimal() else str for field in row) for row in rows]
        if not any(int in kind for kind in kinds):
            return None if not str(path).lower().endswith(".csv") else _refuse(path, lines[0])
        for line, kind in zip(lines, kinds, strict=True):
            if kind not in _KINDS or kind != kinds[0]:
                _refuse(path, line)
        heads = _KINDS[kinds[0]]
    else:
        lines, rows = lines[1:], rows[1:]
    found = []
    for place, ((number, line), row) in enumerate(zip(lines, rows, strict=True)):
        groups = dict(zip(heads, row, strict=False))
        numbers = [groups[key] for key in heads if key and key != "name" and key in groups]
        if len(row) < len(heads) or not all(n.isdecimal() for n in numbers):
            _refuse(path, (number, line))
        found.append(_line(number, line, groups, place))
    return found


def _heading(row: Sequence[str]) -> list[str] | None:
    """What each column holds, '' for what is not read; None if the row is no heading."""
    heads = []
    for field in row:
        word = field.lower().replace("_", " ").strip()
        heads.append(next((key for key, words in _HEADS.items() if word in words), ""))
    named = [head for head in heads if head]
    colours = {"red", "green", "blue"} & set(named)
    if len(colours) in (1, 2):
        return None
    colour = bool(colours)
    if "name" in named and len(set(named)) == len(named) and ("value" in named or colour):
        return heads
    return None


def _refuse(path, line) -> None:
    raise UserError(
        f"{path}, line {line[0]}: {line[1]!r} cannot be told; write a class a line, as 'name', "
        f"'value name' or 'R G B name'"
    )


def _line(number: int, text: str, groups: dict[str, str | None], place: int) -> Line:
    colour = None
    if groups.get("red") is not None:
        colour = tuple(int(groups[key]) for key in ("red", "green", "blue"))
    value = int(groups["value"]) if groups.get("value") is not None else place
    return Line(number, text, (groups.get("name") or "").strip(), value, colour)


def _json(path, text: str) -> list[Line]:
    """Supervisely's colours of exported masks or its meta.json; an object of names; a list."""
    try:
        found = json.loads(text)
    except ValueError as error:
        raise UserError(f"{path}: neither lines of classes nor JSON ({error})") from error
    if isinstance(found, list) and all(isinstance(name, str) for name in found):
        return _names(path, list(enumerate(found, 1)))
    if isinstance(found, dict) and isinstance(found.get("classes"), list):
        found = {
            each.get("title"): _hexadecimal(each.get("color"))
            for each in found["classes"]
            if isinstance(each, dict)
        }
    lines = []
    for number, (name, key) in enumerate(found.items() if isinstance(found, dict) else (), 1):
        if isinstance(key, list) and len(key) == 3 and all(type(c) is int for c in key):
            lines.append(Line(number, name, name, number - 1, tuple(key)))
        elif type(key) is int:
            lines.append(Line(number, name, name, key))
    if not lines or len(lines) < len(found) or len({line.colour is None for line in lines}) > 1:
        raise UserError(
            f"{path}: no list of classes; wanted is {{name: value, ...}} or {{name: [red, green, "
            f"blue], ...}}, or a text file with a class name on each line"
        )
    if lines[0].colour and all(line.colour != (0, 0, 0) for line in lines):
        lines.append(Line(len(lines) + 1, "no object", "void", len(lines), (0, 0, 0)))
    return lines


def _hexadecimal(colour: Any) -> list[int] | None:
    if isinstance(colour, str) and re.fullmatch(r"#[0-9a-fA-F]{6}", colour):
        return [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return None
