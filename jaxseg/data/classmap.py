"""Files that say which of the learnt classes a label file's own classes are, one a line.

    vegetation -> tree      the own name, an arrow (or = or a tab), the learnt name
    sky dome = sky
    ego car -> void         ignored

Own classes that are not listed keep their names, and count where the learnt classes have the name.
"""

import os
import re
from pathlib import Path

from jaxseg.data.classfile import VOID, ClassFile
from jaxseg.data.labels import IGNORE, LabelSet
from jaxseg.errors import UserError


def read(path: str | os.PathLike) -> dict[str, str]:
    """Reads a file of this form as {own name: learnt name}; raises UserError with the line."""
    try:
        text = Path(path).expanduser().read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as a map of classes ({error})") from error
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.strip().startswith("#"):
            continue
        parts = [part.strip() for part in re.split(r"->|=|\t", line.strip())]
        if len(parts) != 2 or not all(parts):
            raise UserError(f"{path}, line {number}: {line.strip()!r} is not 'own name -> name'")
        if found.setdefault(parts[0], parts[1]) != parts[1]:
            raise UserError(f"{path}, line {number}: {parts[0]!r} is mapped twice")
    return found


def renamed(own: ClassFile, names: dict[str, str], learnt: LabelSet, path: str) -> ClassFile:
    """Gives own classes the names of the learnt ones; those with one name are joined.

    Args:
      own: the classes of the label files.
      names: see `read`.
      learnt: the classes that are learnt.
      path: of the map, for messages.

    Raises:
      UserError: a name that is among neither the own nor the learnt classes.
    """
    known = own.label_set.classes
    for name, other in names.items():
        if name not in known:
            raise UserError(f"{path}: no class {name!r} in {own.label_set.name}, {_listed(known)}")
        if other not in learnt.classes and other.lower() not in VOID:
            listed = _listed(learnt.classes)
            raise UserError(f"{path}: {name!r} -> {other!r}, but {learnt.name} {listed}")
    titles = [names.get(name, name) for name in known]
    classes = tuple(title for title in dict.fromkeys(titles) if title.lower() not in VOID)
    if not classes:
        raise UserError(f"{path}: maps every class of {own.label_set.name} to void")
    trains = [classes.index(title) if title in classes else IGNORE for title in titles]
    first = {title: i for i, title in reversed(list(enumerate(titles)))}

    def moved(keys: dict) -> dict:
        return {key: IGNORE if train == IGNORE else trains[train] for key, train in keys.items()}

    values = moved(own.values)
    label_set = LabelSet(
        own.label_set.name,
        classes,
        tuple(own.label_set.palette[first[title]] for title in classes),
        {value: train for value, train in values.items() if train != IGNORE and value < 256},
    )
    return ClassFile(label_set, values, own.colours and moved(own.colours))


def _listed(names) -> str:
    return f"has {', '.join(names)}"
