"""Reads label files of a user's own data exactly, or refuses them.

Some mistakes show in a whole folder only: masks of 0 and 255, of which 255 is always ignored, and
palette files whose indices mean other colours in other files, of the same split or another one.
`Seen` gathers what is needed to notice them.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from jaxseg.data import codec, labels
from jaxseg.data.classfile import ClassFile
from jaxseg.data.conversion.convert import named
from jaxseg.data.conversion.folder_files import Disk
from jaxseg.errors import UserError

VALUES = ("auto", "index", "colour")
LOOKED_AT = 64  # label files of another split


class Seen(NamedTuple):
    """What the label files of a split have shown so far; filled by several threads.

    Attributes:
      values: the grey values and palette indices that occurred.
      palette: index -> (red, green, blue) of the palette files in which it occurred.
    """

    values: set[int]
    palette: dict[int, tuple[int, int, int]]


def reader(
    classes: ClassFile, label_values: str, seen: Seen | None = None
) -> Callable[[bytes], np.ndarray]:
    """Returns the function that reads label files.

    Args:
      classes: the class file: names, and values or colours.
      label_values: 'index': grey values and palette indices are the class file's values (its line
        numbers if it lists colours). 'colour': the colours of RGB, RGBA, grey or palette files are
        the class file's colours. 'auto': by colour if the class file lists colours, but grey files
        by index unless all colours are grey; else by index.
      seen: filled for `check`; with 'auto', palettes that differ between files are refused.

    Returns:
      a function from a file's bytes to uint8 train ids [H, W]. It raises UserError (without the
      file's name) for a value or colour that is not listed, with its pixel count; for more than 8
      bits per channel; for JPEG files.
    """
    greys = classes.colours is not None and all(len(set(c)) == 1 for c in classes.colours)
    seen = seen or Seen(set(), {})

    def read(data: bytes) -> np.ndarray:
        if codec.format_of(data) == "JPEG":
            raise UserError("a JPEG, whose values are blurred; labels are wanted as PNG")
        if (bits := codec.bits(data)) > 8:
            raise UserError(f"{bits} bits a channel; save the label with 8")
        auto = label_values == "auto"
        listed = classes.colours is not None and (greys or not codec.is_grey(data))
        if label_values == "colour" or (auto and listed):
            return _by_colour(data, classes)
        raw = codec.decode_index(data)
        if raw is None:
            raise UserError(
                f"holds colours, not indices; list them in {classes.label_set.name} as 'R G B name'"
            )
        try:
            labels.refuse_unknown(raw, classes.values)
        except UserError as error:
            name = classes.label_set.name
            raise UserError(
                f"{error}; list it in {name} as 'VALUE name' or 'VALUE void', as every line then"
            ) from error
        here = np.flatnonzero(np.bincount(raw.ravel(), minlength=256)).tolist()
        seen.values.update(here)
        if auto and (palette := codec.palette(data)) is not None:
            _compare(seen, palette, here)
        return labels.lookup(labels.id_table(classes.values), raw)

    return read


def check(seen: Seen, classes: ClassFile, label_values: str, where: str) -> None:
    """Refuses labels of which ignored pixels leave a single class, or none, of several.

    Args:
      seen: what `reader` gathered from all files.
      classes, label_values: as for `reader`; with 'index' nothing is refused.
      where: a label file, for the message.

    Raises:
      UserError: masks of 0 and 255, or of 255 alone.
    """
    if label_values != "auto" or labels.IGNORE not in seen.values:
        return
    trains = {classes.values.get(value, labels.IGNORE) for value in seen.values} - {labels.IGNORE}
    if len(classes.label_set.classes) < 2 or len(trains) > 1:
        return
    names = [classes.label_set.classes[train] for train in trains]
    raise UserError(
        f"{where} and the files beside it hold the values "
        f"{' and '.join(map(str, sorted(seen.values)))} only; 255 is always ignored, so "
        f"{names[0] if names else 'no class'} alone would be learnt and scored: write lines "
        f"'0 0 0 name' and '255 255 255 name' into {classes.label_set.name} and set "
        f"label_values=colour (if it is meant so, label_values=index)"
    )


def compare_palettes(disk: Disk, seen: Seen, split: str, others: Sequence[str]) -> None:
    """Compares palettes with those of another split, in LOOKED_AT files evenly over it.

    Args:
      disk: reads the files.
      seen: what `reader` gathered from all files of one split.
      split: name of this split, for messages.
      others: paths of the other split's labels.

    Raises:
      UserError: an index that occurs in both splits is another colour there; a damaged file.
    """
    known = Seen(set(), dict(seen.palette))

    def look(data: bytes) -> None:
        palette, raw = codec.palette(data), codec.decode_index(data)
        if palette is not None and raw is not None:
            here = np.flatnonzero(np.bincount(raw.ravel(), minlength=256)).tolist()
            _compare(known, palette, here, f"the labels of {split}")

    for i in range(count := min(LOOKED_AT, len(others))):
        named(disk, others[i * len(others) // count], look)


def _compare(
    seen: Seen, palette: np.ndarray, indices: list[int], where: str = "a file beside it"
) -> None:
    for index in indices:
        if index == labels.IGNORE or index >= len(palette):
            continue
        colour = tuple(palette[index].tolist())
        if (first := seen.palette.setdefault(index, colour)) != colour:
            raise UserError(
                f"palette index {index} is the colour {' '.join(map(str, colour))} here and "
                f"{' '.join(map(str, first))} in {where}: list the colours in the class file as "
                f"'R G B name', or, if the indices count, set label_values=index"
            )


def _by_colour(data: bytes, classes: ClassFile) -> np.ndarray:
    name = classes.label_set.name
    if classes.colours is None:
        raise UserError(f"{name} lists no colours; write 'R G B name' lines")
    image = codec.decode_image(data)
    ids, unlisted = labels.lookup_colours(classes.colours, image)
    if unlisted.any():
        colours, counts = np.unique(image[unlisted], axis=0, return_counts=True)
        most = counts.argmax()
        others = f" (and {len(counts) - 1} more such colours)" if len(counts) > 1 else ""
        raise UserError(
            f"colour {' '.join(map(str, colours[most]))} in {counts[most]} pixels{others} is not "
            f"in {name}; add a line for it, such as 'R G B void' (for palette files whose indices "
            f"count, set label_values=index)"
        )
    return ids
