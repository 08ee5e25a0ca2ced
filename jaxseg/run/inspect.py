"""A report on the data that an experiment reads: `--mode=inspect`.

It uses the same records and table of classes as training and evaluation: it shows what the network
would be given, and the records that it prepares are used again.
"""

import collections
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import rich
from ml_collections import ConfigDict
from PIL import Image
from rich.table import Table

from jaxseg.data import codec, labels, raw_files, records, tally, transforms
from jaxseg.experiment import batches, preparation, settings
from jaxseg.report import paint

COLUMNS, ROWS, WIDTH = 4, 6, 320  # of a contact sheet; width of one picture in pixels


class Part(NamedTuple):
    """One split of the source or target domain.

    Attributes:
      title: such as 'source train', or 'source train, target train' if both use the same records.
      source: its records.
      table: uint8 [256], from the records' label ids to the learnt classes.
      tally: counts of its labels.
      sizes: (height, width) -> number of images; the published size where it is known.
    """

    title: str
    source: records.Source
    table: np.ndarray
    tally: tally.Tally
    sizes: dict[tuple[int, int], int]


def run(config: ConfigDict, output: str) -> None:
    """Counts images, sizes and classes of all splits that a config names; prints and writes them.

    Prints two tables: images by split, and each class's share of the pixels and of the images.
    Writes `<output>/survey.json` with the same numbers, and for each split a contact sheet
    `<output>/<source or target>_<split>.png` of up to 24 images, evenly spaced over the split, or
    12 beside themselves with their labels as an overlay.

    Args:
      config: of an experiment.
      output: folder, created if it does not exist.

    Raises:
      UserError: data are missing, or the user's own labels hold unknown values or have the wrong
        size (both found before anything is prepared); damaged data. The file is named.
    """
    label_set = settings.label_set(config)
    preparation.check_files(config)
    folder = Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    parts = _parts(config, label_set)
    rich.print(_image_table(parts))
    if any(part.source.labelled for part in parts):
        rich.print(_class_table(parts, label_set))
    written = {
        "classes": list(label_set.classes),
        "parts": [_numbers(part, label_set) for part in parts],
    }
    (folder / "survey.json").write_text(json.dumps(written, indent=1))
    for part in parts:
        name = part.title.split(",")[0].replace(" ", "_").replace("/", "_")
        Image.fromarray(contact_sheet(part, label_set)).save(folder / f"{name}.png")
    for line in _remarks(parts, label_set):
        print(line)
    print(f"survey.json and {len(parts)} contact sheets written to {folder}", flush=True)


def contact_sheet(part: Part, label_set: labels.LabelSet) -> np.ndarray:
    """Images evenly spaced over a split, each beside itself with its labels as overlay, and a
    legend; uint8 [H, W, 3]."""
    each = 2 if part.source.labelled else 1  # pictures of an image
    number = min(COLUMNS * ROWS // each, len(part.source))
    pictures = [
        picture
        for i in range(number)
        for picture in _pictures(part, len(part.source) * i // number, label_set)
    ]
    rows = [pictures[i : i + COLUMNS] for i in range(0, len(pictures), COLUMNS)]
    sheet = paint.grid(rows, ("",) * min(COLUMNS, len(pictures)), WIDTH)
    if not part.source.labelled:
        return sheet
    return np.concatenate([sheet, paint.legend(label_set, sheet.shape[1])])


def _parts(config: ConfigDict, label_set: labels.LabelSet) -> list[Part]:
    parts: dict[tuple, Part] = {}
    for prefix in ("source", "target"):
        side = config.data[prefix]
        for split in filter(None, dict.fromkeys((side.split, side.get("val_split", "")))):
            scored = prefix == "target" and split != side.split
            source = batches.open_records(config, side, split, as_published=scored)
            key, title = (source.folder, source.split), f"{prefix} {split}"
            if key in parts:
                title = f"{parts[key].title}, {title}"
                parts[key] = parts[key]._replace(title=title)
                continue
            if len(source) > 1000:
                print(f"counting {len(source)} images of {title}", flush=True)
            table = labels.remap(source.label_set, label_set)
            counted = tally.tally(source, table, len(label_set.classes), config.data.threads)
            published = raw_files.sizes(
                side.name, split, raw_dir=config.data.root, **side.options.to_dict()
            )
            sizes = collections.Counter(published or _stored_sizes(source))
            parts[key] = Part(title, source, table, counted, dict(sizes.most_common()))
    return list(parts.values())


def _stored_sizes(source: records.Source) -> list[tuple[int, int]]:
    if source.size is not None:
        return [source.size] * len(source)
    return [codec.size_of(source[i]["image"]) for i in range(len(source))]


def _pictures(part: Part, index: int, label_set: labels.LabelSet) -> list[np.ndarray]:
    """An image, and if it has labels the same with an overlay."""
    source, record = part.source, part.source[index]
    height, width = codec.size_of(record["image"])
    size = (max(1, round(height * 2 * WIDTH / width)), 2 * WIDTH) if width > 2 * WIDTH else None
    keys = ("image", "label") if source.labelled else ("image",)
    sample = transforms.decode(
        record, where=source.where(record), size=size, keys=keys, table=part.table
    )
    if not source.labelled:
        return [sample["image"]]
    return [sample["image"], paint.overlay(sample["image"], sample["label"], label_set)]


def _numbers(part: Part, label_set: labels.LabelSet) -> dict:
    counts, holding = part.tally.counts.sum(0), (part.tally.counts > 0).sum(0)
    numbers = {
        "title": part.title,
        "name": part.source.name,
        "split": part.source.split,
        "images": len(part.source),
        "labelled": part.source.labelled,
        "sizes": {_by(size): number for size, number in part.sizes.items()},
        "stored": _stored(part),
    }
    if part.source.labelled:
        numbers["ignored_share"] = _ignored(part)
        for key, values in (
            ("pixels", counts),
            ("pixel_share", _shares(part)),
            ("images_with", holding),
        ):
            numbers[key] = dict(zip(label_set.classes, values.tolist(), strict=True))
    return numbers


def _shares(part: Part) -> np.ndarray:
    """Share of the labelled pixels, [K] in 0..1."""
    counts = part.tally.counts.sum(0)
    return counts / max(1, counts.sum())


def _ignored(part: Part) -> float:
    """Share of all pixels that have no learnt class."""
    ignored = int(part.tally.ignored.sum())
    return ignored / max(1, ignored + int(part.tally.counts.sum()))


def _stored(part: Part) -> str:
    if part.source.keeps_proportions and "covering" in part.source.folder.parent.name:
        return "in proportion"
    return _by(part.source.size) if part.source.size else "as published"


def _image_table(parts: list[Part]) -> Table:
    table = Table("split", "data set", title="images", title_justify="left")
    for head in ("images", "sizes", "stored at", "ignored"):
        table.add_column(head, justify="right")
    for part in parts:
        sizes = [f"{_by(size)} ({number})" for size, number in part.sizes.items()]
        if len(sizes) > 3:
            sizes = [*sizes[:2], f"{len(sizes) - 2} more"]
        ignored = f"{100 * _ignored(part):.1f} %" if part.source.labelled else "no labels"
        table.add_row(
            part.title.replace(", ", "\n"),
            part.source.name,
            str(len(part.source)),
            "\n".join(sizes),
            _stored(part),
            ignored,
        )
    return table


def _class_table(parts: list[Part], label_set: labels.LabelSet) -> Table:
    table = Table("class", title="% of the labelled pixels | % of the images", title_justify="left")
    columns = []
    for part in parts:
        if part.source.labelled:
            table.add_column(part.title.replace(", ", "\n"), justify="right")
            holding = (part.tally.counts > 0).mean(0)
            columns.append(
                [
                    f"{100 * pixels:.3f} | {100 * images:3.0f}" if images else "never"
                    for pixels, images in zip(_shares(part), holding, strict=True)
                ]
            )
    for name, *cells in zip(label_set.classes, *columns, strict=True):
        table.add_row(name, *cells)
    return table


def _remarks(parts: list[Part], label_set: labels.LabelSet) -> list[str]:
    lines = []
    for part in parts:
        if not part.source.labelled:
            continue
        if left_out := labels.left_out(part.source.label_set, label_set):
            lines.append(f"note: ignored, as not learnt, in {part.title}: {', '.join(left_out)}")
        absent = [
            name
            for name, number in zip(label_set.classes, part.tally.counts.sum(0), strict=True)
            if not number
        ]
        if absent:
            lines.append(f"note: {part.title} never shows {', '.join(absent)}")
        empty = int((part.tally.counts.sum(1) == 0).sum())
        if empty:
            lines.append(f"note: {empty} images of {part.title} have no labelled pixel")
    return lines


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
