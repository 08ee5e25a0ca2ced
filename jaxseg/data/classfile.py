"""Text files that list the classes of a user's own data, one per line.

    road                 the line's number, from 0, is the value of the label images
    7 road               the value, then the name
    128 64 128 road      red, green, blue, optionally a name (NVIDIA DIGITS, CamVid)

So do the files that annotation tools write: LabelMe's labels.txt (its first line `__ignore__`
counts as -1), CVAT's labelmap.txt (`road:128,64,128::`), Roboflow's _classes.csv and other CSV with
or without a heading, `0: road`, Supervisely's JSON. See `classtext`.

Empty lines and lines that begin with # are skipped. Lines with the same name are one class, which
joins several values or colours. Pixels of a class called void, ignore, ignored, unlabelled,
unlabeled or __ignore__, and those of value 255, are neither learnt nor scored.
"""

import colorsys
import os
from pathlib import Path
from typing import NamedTuple

from jaxseg.data import classtext
from jaxseg.data.labels import IGNORE, SETS, LabelSet
from jaxseg.errors import UserError

VOID = ("void", "ignore", "ignored", "unlabelled", "unlabeled", classtext.UNNUMBERED)


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
    path = Path(name).expanduser()
    if not path.is_file():
        if path.suffix == ".txt" and not path.parent.is_dir():
            raise UserError(f"{name}: there is no folder {path.parent} (--config.data.root=DIR)")
        raise UserError(
            f"no label set is called {name!r}, nor is there such a file; choose one of "
            f"{', '.join(SETS)}, or give the path of a text file with a class name on each line"
        )
    return read(name).label_set


def read(path: str | os.PathLike) -> ClassFile:
    """Reads a class file; raises UserError with the file and line of an error."""
    try:
        text = Path(path).expanduser().read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: cannot be read as a class file: not UTF-8 ({error.reason}); save it so"
        ) from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read as a class file ({error})") from error
    lines = classtext.parse(path, text)
    if not lines:
        raise UserError(f"{path}: holds no classes; give one name a line, or 'R G B name'")
    coloured = lines[0].colour is not None
    names = []
    for place, line in enumerate(lines):
        most = max((line.value, *(line.colour or ())) if not coloured else line.colour)
        if most > 255:
            raise UserError(
                f"{path}, line {line.number}: {most} is more than 255, the largest value"
            )
        name = line.name or f"class {place}"
        if not coloured and line.value == IGNORE and name.lower() not in VOID:
            raise UserError(
                f"{path}, line {line.number}: the value 255 is always ignored; write masks of 0 "
                f"and 255 as the colours '0 0 0 name' and '255 255 255 name', with "
                f"label_values=colour"
            )
        names.append(name)
    classes = [name for name in dict.fromkeys(names) if name.lower() not in VOID]
    if not 0 < len(classes) <= 255:
        raise UserError(f"{path}: {len(classes)} classes to learn; 1 to 255 are possible")
    trains = [classes.index(name) if name in classes else IGNORE for name in names]
    known: dict = {}
    for line, train in zip(lines, trains, strict=True):
        if known.setdefault(line.colour if coloured else line.value, train) != train:
            raise UserError(
                f"{path}, line {line.number}: {line.text!r} gives another class to the same key"
            )
    values = {line.value: train for line, train in zip(lines, trains, strict=True)}
    colours = known if coloured else None
    palette = _palette(len(classes))
    if colours:
        first = {train: colour for colour, train in reversed(colours.items())}
        palette = tuple(first[train] for train in range(len(classes)))
    ids = {value: train for value, train in values.items() if train != IGNORE and value < 256}
    return ClassFile(LabelSet(str(path), tuple(classes), palette, ids), values, colours)


def _palette(number: int) -> tuple[tuple[int, int, int], ...]:
    """Distinct colours: hues in steps of the golden ratio, three shades."""
    colours = []
    for i in range(number):
        hue, (saturation, value) = i * 0.618034 % 1, ((0.65, 0.9), (0.9, 0.6), (0.35, 0.75))[i % 3]
        colours.append(tuple(round(255 * c) for c in colorsys.hsv_to_rgb(hue, saturation, value)))
    return tuple(colours)
