"""Counts the images and labels of folders before anything is prepared.

    python -m jaxseg.web.survey OPTIONS.json REPORT.json

OPTIONS are those of `jaxseg.data.builders.folder`, as `datasets.checked` makes them. Every label is
read: a colour or value that the class file does not list is reported with its file and its count
instead of ending the whole at the first one.
"""

import collections
import itertools
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from jaxseg.data import codec
from jaxseg.data.builders import folder
from jaxseg.data.conversion import common, convert, folder_files, label_files
from jaxseg.data.conversion.tree import Files
from jaxseg.errors import UserError

FAULTS = 30  # that are named
SPLITS = ("train", "val")


def survey(options: dict[str, Any]) -> dict[str, Any]:
    """The report.

    Returns:
      splits, {name: number of images}; sizes, {"HxW": number}; labelled; and for labelled ones
      classes, palette, pixels, share (of the labelled pixels) and images_with, lists by class;
      ignored (share of all pixels); faults, a list of {file, said}; faulty, their number.

    Raises:
      UserError: folders that do not go together.
    """
    made = {split: folder.config(split=split, **_options(options)).options for split in SPLITS}
    parts = {split: found["pairs"] for split, found in made.items()}
    pairs = list(itertools.chain.from_iterable(parts.values()))
    classes = made["train"]["classes"]
    read = label_files.reader(classes, options["label_values"]) if classes else None

    def one(files: Files) -> tuple:
        return _counted(files, read)

    number = len(classes.label_set.classes) if classes else 0
    pixels, holding, ignored = np.zeros(256, np.int64), np.zeros(256, np.int64), 0
    sizes: collections.Counter[str] = collections.Counter()
    faults = []
    found = convert.in_threads(one, pairs)
    for size, counts, said in common.track(found, len(pairs), "reading", every=1.0):
        sizes[size] += 1
        if said:
            faults.append(said)
        if counts is not None:
            ignored += int(counts[255])
            counts[255] = 0
            pixels += counts
            holding += counts > 0
    report = {
        "splits": {split: len(found) for split, found in parts.items()},
        "sizes": dict(sizes.most_common(8)),
        "labelled": bool(options["labels"]),
        "faults": faults[:FAULTS],
        "faulty": len(faults),
    }
    if classes:
        report |= {
            "classes": list(classes.label_set.classes),
            "palette": [list(map(int, colour)) for colour in classes.label_set.palette],
            "pixels": pixels[:number].tolist(),
            "share": (pixels[:number] / max(1, pixels[:number].sum())).tolist(),
            "images_with": holding[:number].tolist(),
            "ignored": ignored / max(1, ignored + int(pixels.sum())),
        }
    return report


def _options(options: dict[str, Any]) -> dict[str, Any]:
    keys = ("images", "labels", "classes", "label_values", "image_suffix", "label_suffix",
            "val_percent", "split_seed")  # fmt: skip
    return {key: options[key] for key in keys}


def _counted(files: Files, read) -> tuple[str, np.ndarray | None, dict[str, str] | None]:
    """Size, counts by train id and what is wrong, of one image."""
    disk = folder_files.Disk()
    try:
        with codec.naming(files.image):
            height, width = codec.size_of(disk.read(files.image), upright=True)
    except UserError as error:
        return "unreadable", None, {"file": files.image, "said": str(error)}
    size = f"{height}x{width}"
    if read is None:
        return size, None, None
    try:
        label = convert.named(disk, files.label, read)
    except UserError as error:
        said = str(error).removeprefix(files.label).lstrip(": ")
        return size, None, {"file": files.label, "said": said}
    if label.shape != (height, width):
        wrong = f"the label is {label.shape[0]}x{label.shape[1]}, its image {size}"
        return size, None, {"file": files.label, "said": wrong}
    return size, np.bincount(label.ravel(), minlength=256), None


def main(options_file: str, report_file: str) -> int:
    """Writes the report; returns the exit code, 2 for folders that do not go together."""
    from jaxseg.web.places import write_json

    try:
        report = survey(json.loads(Path(options_file).read_text(encoding="utf-8")))
    except UserError as error:
        print(error)
        return 2
    write_json(Path(report_file), report)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
