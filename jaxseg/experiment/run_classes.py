"""The classes that a run learnt, kept in its folder: class files may be changed afterwards."""

import json
from pathlib import Path

import jax
from ml_collections import ConfigDict

from jaxseg.data import labels
from jaxseg.data.conversion import layouts
from jaxseg.errors import UserError
from jaxseg.experiment import settings
from jaxseg.storage import run_folder

FILE = "classes.json"


def settle(config: ConfigDict) -> None:
    """Takes a class file from `data.root` if there is none of its name where the program runs, and
    that of a tool's export if there is none at all.

    Args:
      config: changed in place: `data.classes` becomes the file's path.

    Raises:
      UserError: no class file, and labels of a tool that are outlines; see `layouts.find`.
    """
    name = config.data.classes
    below = Path(config.data.root, name).expanduser()
    if name in labels.SETS or Path(name).expanduser().is_file():
        return
    file = below if below.is_file() else _of_export(config)
    if file is not None:
        config.data.classes = str(file)


def _of_export(config: ConfigDict) -> Path | None:
    """The class file that a tool wrote with the labels to learn, if they are its export."""
    for side in (config.data.source, config.data.target):
        paths = [side.options.get(key, "") for key in ("images", "labels")]
        if side.name == "folder" and all(paths):
            break
    else:
        return None
    images, masks = (Path(config.data.root, path).expanduser() for path in paths)
    if images.is_dir() and masks.is_dir():
        layouts.refuse(masks)
        return None
    found = layouts.find(images.parent) if images.parent.is_dir() else None
    if found is None or not found.classes:
        return None
    file = images.parent / found.classes
    print(f"classes: those of {found.tool} in {file}")
    return file


def write(config: ConfigDict, workdir: str | Path) -> None:
    """Writes the names of the classes in their order, in the first process only."""
    if jax.process_index() == 0:
        label_set = settings.label_set(config)
        kept = {"set": label_set.name, "classes": label_set.classes, "palette": label_set.palette}
        run_folder.write_text(Path(workdir, FILE), json.dumps(kept, indent=1))


def read(workdir: str | Path) -> tuple[str, ...] | None:
    """Reads the names of a run's classes; None for runs of earlier versions."""
    try:
        return tuple(json.loads(Path(workdir, FILE).read_text())["classes"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def compare(config: ConfigDict, own: ConfigDict, workdir: str | Path) -> None:
    """Refuses to name a run's classes by another list than it learnt.

    Args:
      config: as given now.
      own: the config that the run was trained with.
      workdir: of the run.

    Raises:
      UserError: other classes, or the same in another order.
    """
    ours = settings.label_set(config)
    theirs = read(workdir)
    before = own.data.classes
    if theirs is None:
        theirs = settings.label_set(own).classes
    if ours.classes == theirs:
        return
    if ours.name != before and len(set(theirs) ^ set(ours.classes)) > 0:
        raise UserError(
            f"{workdir} predicts the classes of {before}, but config.data.classes={ours.name}: "
            f"give --config.data.classes={before}"
        )
    pairs = enumerate(zip(theirs, ours.classes, strict=False))
    place = next((i for i, (a, b) in pairs if a != b), min(len(theirs), len(ours.classes)))
    then, now = (repr(n[place]) if place < len(n) else "missing" for n in (theirs, ours.classes))
    raise UserError(
        f"{workdir} was trained with other classes than {ours.name} lists now: class {place} was "
        f"{then} and is {now}; bring the list back ({Path(workdir, FILE)} has it) or train anew"
    )
