"""A user's own data: a folder of images and, unless they are unlabelled, a folder of labels.

An image and its label have the same path below their folders, except for extensions and optional
suffixes. Labels are read exactly or refused: see `label_reader`. The name of the records' folder
depends on the files' names, sizes and modification times, so changed data are prepared again.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

from jaxseg.data import classfile, codec, labels
from jaxseg.data.conversion import common, folder_files
from jaxseg.data.conversion.convert import Readers, convert
from jaxseg.data.conversion.tree import Files
from jaxseg.errors import UserError

LABELS = labels.UNLABELLED  # replaced by the classes of a class file
STORED = "images"  # TFDS's name of the split, for any name of the user's folder
LABEL_VALUES = ("auto", "index", "colour")


def config(
    *,
    raw: Path | None = None,
    size: tuple[int, int] | None = None,
    split: str | None = None,
    images: str = "",
    labels: str = "",
    classes: str = "",
    label_values: str = "auto",
    image_suffix: str = "",
    label_suffix: str = "",
    val_percent: float = 10,
    split_seed: int = 0,
) -> common.Config:
    """Returns the config for one split of the user's data.

    Args:
      raw: relative paths of images and labels start at its parent folder.
      size: (height, width) to store at; None = as the files are.
      split: replaces '{split}' in the paths; in paths without it: 'train', 'val' (a share of the
        images) or 'all'.
      images: folder of the images, with subfolders or not; may contain '{split}', which is appended
        if the folder has a subfolder 'train'.
      labels: folder of the labels, of the same form; '' = unlabelled.
      classes: path of a class file (see `classfile`), or name of a built-in label set for labels
        that hold its train ids.
      label_values: how labels are coded: 'auto', 'index' or 'colour', see `label_reader`.
      image_suffix: ending of image names before the extension that labels lack.
      label_suffix: ending of label names that images lack, such as '_L'.
      val_percent: share of 'val' in percent, if the paths have no '{split}'.
      split_seed: seed of the choice of 'val', which does not depend on the order of the files.

    Returns:
      the builder's config; `options` holds 'pairs' (the files) and 'classes' (a ClassFile or None).

    Raises:
      UserError: a missing folder, file or partner; an invalid setting.
    """
    split = split or "train"
    if label_values not in LABEL_VALUES:
        raise UserError(
            f"folder has no label_values={label_values!r}; choose one of {', '.join(LABEL_VALUES)}"
        )
    if labels and not classes:
        raise UserError(
            "folder has labels but no option classes; give a text file with a class name, or "
            "'R G B name', on each line"
        )
    named = _classes(classes) if labels else None
    root = raw.parent if raw is not None else Path()
    places, split_by_folder = folder_files.places(root, images, labels, split)
    pairs = folder_files.pairs(*places, image_suffix=image_suffix, label_suffix=label_suffix)
    if not split_by_folder:
        pairs = folder_files.share(pairs, split, val_percent, split_seed)
    used = {
        "files": folder_files.states(pairs),
        "classes": named and [named.label_set.classes, *map(list, _items(named))],
        "label_values": label_values,
    }
    digest = hashlib.sha256(json.dumps(used).encode()).hexdigest()[:12]
    title = re.sub(r"[^A-Za-z0-9_]+", "_", f"{places[0].name}_{split}")
    return common.Config(
        name=f"{title}-{common.size_name(size)}-{digest}",
        size=size,
        raw=raw,
        options={
            "stored": STORED,
            "split": split,
            "pairs": pairs,
            "classes": named,
            "label_values": label_values,
        },
        labels=named.label_set if named else None,
        keys=("label",) if named else (),
    )


def find(config: common.Config) -> tuple[folder_files.Disk, list[Files]]:
    """Returns the files of the split, which `config` has already found."""
    return folder_files.Disk(), config.options["pairs"]


def label_reader(classes: classfile.ClassFile, label_values: str) -> Callable[[bytes], np.ndarray]:
    """Returns the function that reads label files.

    Args:
      classes: the class file: names, and values or colours.
      label_values: 'index': grey values and palette indices are the class file's values (its line
        numbers if it lists colours). 'colour': the colours of RGB, RGBA, grey or palette files are
        the class file's colours. 'auto': grey files by index; others by colour if the class file
        lists colours, else by index.

    Returns:
      a function from a file's bytes to uint8 train ids [H, W]. It raises UserError (without the
      file's name) for a value or colour that is not listed, with its pixel count; for more than 8
      bits per channel; for JPEG files.
    """

    def read(data: bytes) -> np.ndarray:
        if codec.format_of(data) == "JPEG":
            raise UserError("a JPEG, whose values are blurred; labels are wanted as PNG")
        if (bits := codec.bits(data)) > 8:
            raise UserError(f"{bits} bits a channel; save the label with 8")
        by_colour = label_values == "colour" or (
            label_values == "auto" and classes.colours is not None and not codec.is_grey(data)
        )
        if not by_colour:
            raw = codec.decode_index(data)
            if raw is None:
                raise UserError(
                    f"holds colours, not indices; list them in {classes.label_set.name} as "
                    f"'R G B name'"
                )
            labels.refuse_unknown(raw, classes.values)
            return labels.lookup(labels.id_table(classes.values), raw)
        if classes.colours is None:
            raise UserError(f"{classes.label_set.name} lists no colours; write 'R G B name' lines")
        image = codec.decode_image(data)
        ids, unlisted = labels.lookup_colours(classes.colours, image)
        if unlisted.any():
            colours, counts = np.unique(image[unlisted], axis=0, return_counts=True)
            most = counts.argmax()
            others = f" (and {len(counts) - 1} more such colours)" if len(counts) > 1 else ""
            raise UserError(
                f"colour {' '.join(map(str, colours[most]))} in {counts[most]} pixels{others} is "
                f"not in {classes.label_set.name}; add a line for it, such as 'R G B void' (for "
                f"palette files whose indices count, set label_values=index)"
            )
        return ids

    return read


def _classes(name: str) -> classfile.ClassFile:
    """Reads a class file, or makes one of a built-in set's train ids and colours."""
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
        read = None
        if options["classes"] is not None:
            read = label_reader(options["classes"], options["label_values"])
        return convert(
            disk,
            pairs,
            title=f"converting folder {options['split']}",
            config=self.builder_config,
            readers=Readers(label=read),
        )
