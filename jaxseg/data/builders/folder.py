"""A user's own data: a folder of images and, unless they are unlabelled, a folder of labels.

An image and its label have the same path below their folders, except for extensions and optional
suffixes. Labels are read exactly or refused: see `label_files`. The name of the records' folder
depends on the files' names, sizes and modification times, so changed data are prepared again.
"""

import functools
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

import tensorflow_datasets as tfds

from jaxseg.data import labels
from jaxseg.data.conversion import common, folder_files, label_files, own_split
from jaxseg.data.conversion.convert import Readers, convert, in_threads, named
from jaxseg.data.conversion.tree import Files, size_in
from jaxseg.errors import UserError

LABELS = labels.UNLABELLED  # replaced by the classes of a class file
STORED = "images"  # TFDS's name of the split, for any name of the user's folder


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
    only_labelled: bool = False,
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
      only_labelled: images without labels are left out. What is left is to be learnt, so validation
        images need folders of their own.
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
    given = own_split.Given(
        root, images, labels, val_images, val_labels, partly_labelled, only_labelled,
        folder_files.Names(image_prefix, image_suffix, label_prefix, label_suffix),
        val_percent, split_seed, (classes, own_classes, class_map),
    )  # fmt: skip
    found = own_split.find(given, split)
    return _described(found, given, raw, size, keep_proportions, label_values)


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
    found: own_split.Found, given: own_split.Given, raw: Path | None,
    size: tuple[int, int] | None, cover: bool, label_values: str,
) -> common.Config:  # fmt: skip
    """The builder's config, whose name changes with everything that the records depend on."""
    named, images = found.classes, found.places.images
    used = {
        "files": folder_files.states(found.pairs),
        "classes": named
        and [
            named.label_set.classes,
            list(named.values.items()),
            list((named.colours or {}).items()),
        ],
        "label_values": label_values,
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
            "label_values": label_values,
            "other_splits": functools.partial(own_split.others, given, found),
            "layout": found.places.layout and found.places.layout.tool,
            "images": folder_files.shown(str(images)),
        },
        labels=named.label_set if named else None,
        keys=("label",) if named else (),
        cover=cover,
    )


def find(config: common.Config) -> tuple[folder_files.Disk, list[Files]]:
    """Returns the files of the split, which `config` has already found."""
    return folder_files.Disk(), config.options["pairs"]


def check_labels(config: common.Config) -> None:
    """Reads all labels of the split as the preparation would, and keeps nothing; of images the
    header alone.

    Raises:
      UserError: a file that is no image; a label that is damaged, holds a value or colour that is
        not listed, or has not its image's size; what `label_files.check` and `compare_palettes`
        refuse.
    """
    options, (disk, pairs) = config.options, find(config)
    seen = label_files.Seen(set(), {})
    labelled = options["classes"] and any(files.label for files in pairs)
    read = label_files.reader(options["classes"], options["label_values"], seen) if labelled else 0

    def one(files: Files) -> None:
        size = size_in(disk, files.image)
        if not (read and files.label):
            return
        label = named(disk, files.label, read)
        if label.shape != size:
            raise UserError(
                f"{files.label}: label {label.shape}, image {size}; the two must have one size"
            )

    what = "labels" if labelled else "images"
    title = f"checking the {what} of {options['images']} ({options['split']})"
    for _ in common.track(in_threads(one, pairs), len(pairs), title):
        pass
    if labelled:
        _check_seen(disk, pairs, options, seen)


def _check_seen(
    disk: folder_files.Disk, pairs: list[Files], options: dict, seen: label_files.Seen
) -> None:
    """Refuses what only shows in all labels of a split together."""
    classes, values = options["classes"], options["label_values"]
    first = next(files.label for files in pairs if files.label)
    label_files.check(seen, classes, values, disk.where(first))
    for others in options["other_splits"]() if seen.palette else ():
        label_files.compare_palettes(disk, seen, options["split"], others)


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
            _check_seen(disk, pairs, options, seen)
