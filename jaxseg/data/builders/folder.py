"""A user's own data: a folder of images and, unless they are unlabelled, a folder of labels.

An image and its label have the same path below their folders, except for extensions and optional
suffixes. Labels are read exactly or refused: see `label_files`. The name of the records' folder
depends on the files' names, sizes and modification times, so changed data are prepared again.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import tensorflow_datasets as tfds

from jaxseg.data import classfile, classmap, labels
from jaxseg.data.conversion import common, folder_files, label_files
from jaxseg.data.conversion import places as conversion_places
from jaxseg.data.conversion.convert import Readers, convert
from jaxseg.data.conversion.places import AUTO, Places
from jaxseg.data.conversion.tree import Files
from jaxseg.errors import UserError

LABELS = labels.UNLABELLED  # replaced by the classes of a class file
STORED = "images"  # TFDS's name of the split, for any name of the user's folder
OWN_CLASSES, CLASS_MAP = "classes.txt", "class_map.txt"  # beside the folder of images


def config(
    *,
    raw: Path | None = None,
    size: tuple[int, int] | None = None,
    split: str | None = None,
    images: str = "",
    labels: str = "",
    classes: str = "",
    own_classes: str = "",
    class_map: str = "",
    label_values: str = "auto",
    image_prefix: str = "",
    image_suffix: str = "",
    label_prefix: str = "",
    label_suffix: str = "",
    val_images: str = "",
    val_labels: str = "",
    partly_labelled: bool = False,
    val_percent: float = 10,
    split_seed: int = 0,
    keep_proportions: bool = False,
) -> common.Config:
    """Returns the config for one split of the user's data.

    Args:
      raw: relative paths of images and labels start at its parent folder.
      size: (height, width) to store at; None = as the files are.
      split: replaces '{split}' in the paths; in paths without it: 'train', 'val' (a share of the
        images) or 'all'.
      images: folder of the images, with subfolders or not; may contain '{split}', which is appended
        if the folder has a subfolder 'train', and wildcards, as in 'scenes/*/rgb/*.png'. If there
        is no such folder, the one above it may have a layout of `layouts`.
      labels: folder of the labels, of the same form; '' = unlabelled.
      classes: path of a class file (see `classfile`), or name of a built-in label set for labels
        that hold its train ids. Paths start where the program runs, or at raw's parent folder.
      own_classes: class file of these labels if it is not `classes`; 'auto' = classes.txt beside
        the folder of images, or a tool's own file, if there is one.
      class_map: file with the names that own classes have in `classes` (see `classmap`); 'auto' =
        class_map.txt beside the folder of images, if there is one.
      label_values: how labels are coded: 'auto', 'index' or 'colour', see `label_files.reader`.
      image_prefix, image_suffix: beginning of image names, and their ending before the extension,
        that labels lack.
      label_prefix, label_suffix: of label names that images lack, such as '_L'.
      val_images, val_labels: folders of the validation images and their labels, if they have their
        own; 'auto' = DIR_val/images beside DIR/images, if there is one, with labels if there are.
      partly_labelled: images without labels are for training, those with one for validation.
      val_percent: share of 'val' in percent, if nothing else says what belongs to it.
      split_seed: seed of the choice of 'val', which does not depend on the order of the files.
      keep_proportions: images are not squashed to `size`, but scaled until they cover it.

    Returns:
      the builder's config; `options` holds 'pairs' (the files) and 'classes' (a ClassFile or None).

    Raises:
      UserError: a missing folder, file or partner; an invalid setting.
    """
    split, root = split or "train", raw.parent if raw is not None else Path()
    _check(label_values, labels, classes)
    places = conversion_places.find(
        root, images, labels, split,
        val_images=val_images, val_labels=val_labels, partly=partly_labelled,
    )  # fmt: skip
    if places.layout is not None and places.layout.label_suffix:
        label_suffix = label_suffix or places.layout.label_suffix
    names = folder_files.Names(image_prefix, image_suffix, label_prefix, label_suffix)
    pairs = _pairs(places, names, partly_labelled)
    if not places.own:
        pairs = _chosen(pairs, split, val_percent, split_seed)
    labelled = any(files.label for files in pairs)
    named = _classes(root, places, classes, own_classes, class_map) if labelled else None
    found = _Found(split, pairs, named, label_values, places)
    return _described(found, raw, size, keep_proportions)


class _Found(NamedTuple):
    """The files of a split, and what their labels mean."""

    split: str
    pairs: list[Files]
    classes: classfile.ClassFile | None
    label_values: str
    places: Places


def _check(label_values: str, labels: str, classes: str) -> None:
    if label_values not in label_files.VALUES:
        raise UserError(
            f"folder has no label_values={label_values!r}; choose one of "
            f"{', '.join(label_files.VALUES)}"
        )
    if labels and not classes:
        raise UserError(
            "folder has labels but no option classes; give a text file with a class name, or "
            "'R G B name', on each line"
        )


def _described(
    found: _Found, raw: Path | None, size: tuple[int, int] | None, cover: bool
) -> common.Config:
    """The builder's config, whose name changes with everything that the records depend on."""
    named, images = found.classes, found.places.images
    used = {
        "files": folder_files.states(found.pairs),
        "classes": named and [named.label_set.classes, *map(list, _items(named))],
        "label_values": found.label_values,
    }
    digest = hashlib.sha256(json.dumps(used).encode()).hexdigest()[:12]
    title = re.sub(r"[^A-Za-z0-9_]+", "_", f"{images.name}_{found.split}")
    covers = "covering-" if cover and size else ""
    return common.Config(
        name=f"{title}-{covers}{common.size_name(size)}-{digest}",
        size=size,
        raw=raw,
        options={
            "stored": STORED,
            "split": found.split,
            "pairs": found.pairs,
            "classes": named,
            "label_values": found.label_values,
            "layout": found.places.layout and found.places.layout.tool,
            "images": folder_files.shown(str(images)),
        },
        labels=named.label_set if named else None,
        keys=("label",) if named else (),
        cover=cover,
    )


def _pairs(places: Places, names: folder_files.Names, partly: bool) -> list[Files]:
    """The files of the split's places; of those on a tool's list, if there is one."""
    listed = places.listed
    found = folder_files.pairs(
        places.images, places.labels, names, partly=partly or listed is not None
    )
    if listed is None:
        return found
    found = [files for files in found if Path(files.image).stem in listed]
    for files in found:
        if places.labels is not None and files.label is None and not partly:
            raise UserError(f"{folder_files.shown(files.image)} has no label in {places.labels}")
    if not found:
        raise UserError(f"{places.images} holds none of the images of {places.layout.lists}")
    return found


def _chosen(pairs: list[Files], split: str, val_percent: float, seed: int) -> list[Files]:
    """A split of one folder: by having a label where only some have, else by percent."""
    labelled = [files for files in pairs if files.label]
    if not labelled or len(labelled) == len(pairs) or split not in ("train", "val"):
        return folder_files.share(pairs, split, val_percent, seed)
    return labelled if split == "val" else [files for files in pairs if not files.label]


def _classes(
    root: Path, places: Places, classes: str, own_classes: str, class_map: str
) -> classfile.ClassFile:
    """The classes of the label files, under the names of the learnt ones."""
    if own_classes == AUTO:
        tool = places.layout.classes if places.layout else ""
        found = [places.top / name for name in (OWN_CLASSES, tool) if name]
        own_classes = next((str(path) for path in found if path.is_file()), "")
    if class_map == AUTO:
        path = places.top / CLASS_MAP
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


def _items(classes: classfile.ClassFile) -> tuple:
    return classes.values.items(), (classes.colours or {}).items()


def find(config: common.Config) -> tuple[folder_files.Disk, list[Files]]:
    """Returns the files of the split, which `config` has already found."""
    return folder_files.Disk(), config.options["pairs"]


class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Converts the user's files of one split."""

    name = "folder"
    VERSION = tfds.core.Version("1.0.0")
    _download_and_prepare = common.write_splits

    def _info(self) -> tfds.core.DatasetInfo:
        return common.info(self)

    def _split_generators(self, dl_manager) -> dict[str, Iterator]:
        disk, pairs = find(self.builder_config)
        return {STORED: self._generate_examples(disk, pairs)}

    def _generate_examples(self, disk, pairs) -> Iterator[dict]:
        options = self.builder_config.options
        classes, values = options["classes"], options["label_values"]
        if options["layout"]:
            print(
                f"{options['images']} ({options['split']}): recognised as {options['layout']}",
                flush=True,
            )
        seen = label_files.Seen(set(), {})
        yield from convert(
            disk,
            pairs,
            title=f"converting folder {options['split']}",
            config=self.builder_config,
            readers=Readers(label=classes and label_files.reader(classes, values, seen)),
        )
        if classes is not None:
            first = next(files.label for files in pairs if files.label)
            label_files.check(seen, classes, values, disk.where(first))
