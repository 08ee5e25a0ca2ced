"""Text files that list the classes of a user's own data, one per line, in one of three forms.

    road                 the line's number, from 0, is the value of the label images
    7 road               the value, then the name
    128 64 128 road      red, green, blue, optionally a name (NVIDIA DIGITS, CamVid)

Empty lines and lines that begin with # are skipped. Lines with the same name are one class, which
joins several values or colours. Pixels of a class called void, ignore, ignored, unlabelled or
unlabeled, and those of value 255, are neither learnt nor scored.
"""

import colorsys
import os
import re
from pathlib import Path
from typing import NamedTuple

from jaxseg.data.labels import IGNORE, SETS, LabelSet
from jaxseg.errors import UserError

_VOID = ("void", "ignore", "ignored", "unlabelled", "unlabeled")
_COLOUR = re.compile(r"(\d+)\s+(\d+)\s+(\d+)(?:\s+(.*))?")
_VALUE = re.compile(r"(\d+)\s+(.*)")


class ClassFile(NamedTuple):
    """The contents of a class file.

    Attributes:
      label_set: the classes to learn, in the order of their first lines; its name is the path.
      values: pixel value (in a file with colours, the line's number) -> train id or IGNORE.
      colours: (red, green, blue) -> train id or IGNORE; None in a file without colours.
    """

    label_set: LabelSet
    values: dict[int, int]
    colours: dict[tuple[int, int, int], int] | None


def by_name(name: str) -> LabelSet:
    """Returns a built-in label set of `jaxseg.data.labels`, or that of a class file.

    Args:
      name: name of a built-in set, or path of a class file (see `read`).

    Raises:
      UserError: no such set or file; the message lists the sets.
    """
    if name in SETS:
        return SETS[name]
    if not Path(name).expanduser().is_file():
        raise UserError(
            f"no label set is called {name!r}, nor is there such a file; choose one of "
            f"{', '.join(SETS)}, or give the path of a text file with a class name on each line"
        )
    return read(name).label_set


def read(path: str | os.PathLike) -> ClassFile:
    """Reads a class file; raises UserError with the file and line of an error."""
    try:
        text = Path(path).expanduser().read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as a class file ({error})") from error
    lines = [
        (number, line.strip())
        for number, line in enumerate(re.split(r"\r\n|\r|\n", text), 1)
        if line.strip() and not line.strip().startswith("#")
    ]
    if not lines:
        raise UserError(f"{path}: holds no classes; give one name a line, or 'R G B name'")
    form = _form(path, lines)
    names, keys = [], []
    for place, (number, line) in enumerate(lines):
        match = form.fullmatch(line) if form else None
        parts = match.groups() if match else (line,)
        key = tuple(map(int, parts[:-1])) or (place,)
        if max(key) > 255:
            raise UserError(
                f"{path}, line {number}: {max(key)} is more than 255, the largest value"
            )
        name = (parts[-1] or f"class {place}").strip()
        if key == (IGNORE,) and name.lower() not in _VOID:
            raise UserError(
                f"{path}, line {number}: the value 255 is always ignored; write masks of 0 and 255 "
                f"as the colours '0 0 0 name' and '255 255 255 name', with label_values=colour"
            )
        names.append(name)
        keys.append(key)
    classes = [name for name in dict.fromkeys(names) if name.lower() not in _VOID]
    if not 0 < len(classes) <= 255:
        raise UserError(f"{path}: {len(classes)} classes to learn; 1 to 255 are possible")
    trains = [classes.index(name) if name in classes else IGNORE for name in names]
    known: dict[tuple[int, ...], int] = {}
    for (number, line), key, train in zip(lines, keys, trains, strict=True):
        if known.setdefault(key, train) != train:
            raise UserError(f"{path}, line {number}: {line!r} gives another class to the same key")
    values = dict(enumerate(trains)) if form is not _VALUE else {k: t for (k,), t in known.items()}
    colours = known if form is _COLOUR else None
    palette = _palette(len(classes))
    if colours:
        first = {train: colour for colour, train in reversed(colours.items())}
        palette = tuple(first[train] for train in range(len(classes)))
    ids = {value: train for value, train in values.items() if train != IGNORE and value < 256}
    return ClassFile(LabelSet(str(path), tuple(classes), palette, ids), values, colours)


def _form(path, lines: list[tuple[int, str]]) -> re.Pattern | None:
    """Returns the pattern of the form of all lines, None for names only."""
    for form, meaning in ((_COLOUR, "'R G B name'"), (_VALUE, "'value name'")):
        fitting = [form.fullmatch(line) is not None for _, line in lines]
        if all(fitting):
            return form
        if any(fitting):
            number, line = lines[fitting.index(False)]
            raise UserError(f"{path}, line {number}: {line!r} is not {meaning} as other lines are")
    return None


def _palette(number: int) -> tuple[tuple[int, int, int], ...]:
    """Distinct colours: hues in steps of the golden ratio, three shades."""
    colours = []
    for i in range(number):
        hue, (saturation, value) = i * 0.618034 % 1, ((0.65, 0.9), (0.9, 0.6), (0.35, 0.75))[i % 3]
        colours.append(tuple(round(255 * c) for c in colorsys.hsv_to_rgb(hue, saturation, value)))
    return tuple(colours)
