"""The files and classes of a split of a user's own data, and those of the splits beside it."""

from pathlib import Path
from typing import NamedTuple

from jaxseg.data import classfile, classmap
from jaxseg.data.conversion import folder_files, layouts, places
from jaxseg.data.conversion.places import AUTO, Places
from jaxseg.data.conversion.tree import Files
from jaxseg.errors import UserError

OWN_CLASSES, CLASS_MAP = "classes.txt", "class_map.txt"  # beside the folder of images


class Given(NamedTuple):
    """Where the files of all splits lie, and what their labels mean.

    Arguments of `builders.folder.config`, with relative paths from `root` on: `partly` is its
    partly_labelled, `names` its prefixes and suffixes, `seed` its split_seed, and `classes` are its
    classes, own_classes and class_map.
    """

    root: Path
    images: str
    labels: str
    val_images: str
    val_labels: str
    partly: bool
    only_labelled: bool
    names: folder_files.Names
    val_percent: float
    seed: int
    classes: tuple[str, str, str]


class Found(NamedTuple):
    """The files of a split.

    Attributes:
      split: its name.
      pairs: images and labels.
      classes: what the labels mean; None without labels.
      places: the folders.
    """

    split: str
    pairs: list[Files]
    classes: classfile.ClassFile | None
    places: Places


def find(given: Given, split: str) -> Found:
    """Finds the files of a split, and its classes; raises UserError if there are none."""
    here = places.find(
        given.root, given.images, given.labels, split,
        val_images=given.val_images, val_labels=given.val_labels, partly=given.partly,
    )  # fmt: skip
    names = given.names
    if here.layout is not None and not names.label_suffix:
        names = names._replace(label_suffix=here.layout.label_suffix)
    pairs = _pairs(here, names, given.partly or given.only_labelled)
    if given.only_labelled:
        pairs = _labelled(here, pairs)
    if not here.own:
        pairs = _chosen(pairs, split, given.val_percent, given.seed)
    labelled = any(files.label for files in pairs)
    named = _classes(given.root, here, *given.classes) if labelled else None
    return Found(split, pairs, named, here)


def others(given: Given, found: Found) -> list[list[str]]:
    """Paths of the labels of each other split whose labels mean the same classes."""
    labels = []
    for split in layouts.SPLITS.keys() - {found.split}:
        try:
            other = find(given, split)
        except UserError:  # there is no such split
            continue
        if other.classes and _meanings(other.classes) == _meanings(found.classes):
            labels.append([files.label for files in other.pairs if files.label])
    return labels


def _meanings(classes: classfile.ClassFile) -> dict[int, str]:
    """The names of the classes that values in the labels stand for; '' for those ignored."""
    names = dict(enumerate(classes.label_set.classes))
    return {value: names.get(train, "") for value, train in classes.values.items()}


def _pairs(here: Places, names: folder_files.Names, partly: bool) -> list[Files]:
    """The files of the split's places; of those on a tool's list, if there is one."""
    listed = here.listed
    found = folder_files.pairs(here.images, here.labels, names, partly=partly or listed is not None)
    if listed is None:
        return found
    found = [files for files in found if Path(files.image).stem in listed]
    for files in found:
        if here.labels is not None and files.label is None and not partly:
            raise UserError(f"{folder_files.shown(files.image)} has no label in {here.labels}")
    if not found:
        raise UserError(f"{here.images} holds none of the images of {here.layout.lists}")
    return found


def _labelled(here: Places, pairs: list[Files]) -> list[Files]:
    """The images with a label, of a split that none of those to score by is in."""
    if not here.own:
        raise UserError(
            f"images of {here.images} are to be learnt, so those to score by need folders of their "
            f"own: {here.top}_val/images and {here.top}_val/labels, or val_images and val_labels"
        )
    if not (found := [files for files in pairs if files.label]):
        raise UserError(f"no image in {here.images} has a label in {here.labels}")
    return found


def _chosen(pairs: list[Files], split: str, val_percent: float, seed: int) -> list[Files]:
    """A split of one folder: by having a label where only some have, else by percent."""
    labelled = [files for files in pairs if files.label]
    if not labelled or len(labelled) == len(pairs) or split not in ("train", "val"):
        return folder_files.share(pairs, split, val_percent, seed)
    return labelled if split == "val" else [files for files in pairs if not files.label]


def _classes(
    root: Path, here: Places, classes: str, own_classes: str, class_map: str
) -> classfile.ClassFile:
    """The classes of the label files, under the names of the learnt ones."""
    if own_classes == AUTO:
        tool = here.layout.classes if here.layout else ""
        found = [here.top / name for name in (OWN_CLASSES, tool) if name]
        own_classes = next((str(path) for path in found if path.is_file()), "")
    if class_map == AUTO:
        path = here.top / CLASS_MAP
        class_map = str(path) if path.is_file() else ""
    learnt = _class_file(root, classes)
    own = _class_file(root, own_classes) if own_classes else learnt
    if not class_map:
        return own
    path = _existing(root, class_map)
    return classmap.renamed(own, classmap.read(path), learnt.label_set, path)


def _existing(root: Path, name: str) -> str:
    """The path where the program runs, or else below the root."""
    below = root / Path(name).expanduser()
    return str(below) if not Path(name).expanduser().is_file() and below.is_file() else name


def _class_file(root: Path, name: str) -> classfile.ClassFile:
    """Reads a class file, or makes one of a built-in set's train ids and colours."""
    name = _existing(root, name)
    if Path(name).expanduser().is_file():
        return classfile.read(name)
    label_set = classfile.by_name(name)
    return classfile.ClassFile(
        label_set,
        {train: train for train in range(len(label_set.classes))},
        {colour: train for train, colour in enumerate(label_set.palette)},
    )
