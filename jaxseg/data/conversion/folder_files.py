"""Finds the files of a user's own data, pairs images with labels, and splits off validation."""

import hashlib
import os
import re
from pathlib import Path
from typing import NamedTuple

from jaxseg.data.conversion import layouts
from jaxseg.data.conversion.layouts import IMAGES, SPLIT
from jaxseg.data.conversion.tree import Files, below
from jaxseg.errors import UserError

LABELS = (".png", ".bmp", ".tif", ".tiff", ".gif", ".jpg", ".jpeg")  # JPEG is refused by the reader
WILD = re.compile(r"[*?\[]")


class Disk:
    """Files on disk, with the interface of `Tree`."""

    def where(self, path: str) -> str:
        """Returns the path; bytes of a name that are not UTF-8 are shown as \\xNN."""
        return shown(path)

    def state(self, path: str) -> tuple[int, int]:
        """Returns a file's size in bytes, and when it was written."""
        found = os.stat(path)
        return found.st_size, found.st_mtime_ns

    def read(self, path: str, most: int = -1) -> bytes:
        """Returns a file's bytes, or the first `most`; raises UserError if it cannot be read."""
        try:
            with Path(path).open("rb") as file:
                return file.read(most)
        except OSError as error:
            raise UserError(f"{shown(path)}: cannot be read ({error.strerror})") from error


class Names(NamedTuple):
    """What the names of files have that is not part of a pair's common name."""

    image_prefix: str = ""
    image_suffix: str = ""
    label_prefix: str = ""
    label_suffix: str = ""


PLAIN = Names()


def shown(name: str) -> str:
    """Returns a file's name as valid text."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def pairs(
    images: Path, labels: Path | None, names: Names = PLAIN, *, partly: bool = False
) -> list[Files]:
    """Pairs images and labels of equal paths, except for extensions and what `names` has; sorted.

    A path with wildcards stands for the files that it matches; their common name is what the
    wildcards stand for. A label may also have the whole name of its image, as in a.jpg.png.

    Args:
      images: folder, with subfolders or not, or a path with wildcards; ids are the paths in it,
        with '__' for '/'.
      labels: folder or path of the same form; None = no labels.
      names: what is left out of the comparison.
      partly: whether images without labels are allowed.

    Raises:
      UserError: no images; an image without a label or a label without an image; two files that
        differ only in the extension.
    """
    apart = names.label_suffix if labels == images else ""
    start, end = names.image_prefix, names.image_suffix
    found = _stems(images, IMAGES, (start, end), "images", apart=apart)
    named = None
    if labels is not None:
        start, end = names.label_prefix, names.label_suffix
        named = _stems(labels, LABELS, (start, end), "labels", optional=partly)
        if not named.keys() & found.keys():
            whole = {stem + Path(path).suffix: stem for stem, path in found.items()}
            named = {whole.get(stem, stem): path for stem, path in named.items()}
        _refuse_lonely(found, named, images, labels, names, partly)
    return [
        Files(shown(stem).replace("/", "__"), path, named.get(stem) if named is not None else None)
        for stem, path in found.items()
    ]


def _refuse_lonely(found, named, images, labels, names: Names, partly: bool) -> None:
    for kind, these, those, other, start, end in (
        ("image", found, named, labels, names.label_prefix, names.label_suffix),
        ("label", named, found, images, names.image_prefix, names.image_suffix),
    ):
        lacking = sorted(these.keys() - those.keys())
        if lacking and not (partly and kind == "image"):
            if not named:
                layouts.refuse(labels if labels.is_dir() else images)
            stem = Path(lacking[0])
            raise UserError(
                f"{len(lacking)} of {len(these)} {kind}s have no partner, first "
                f"{shown(these[lacking[0]])}: there is no "
                f"{shown(str(other / stem.with_name(start + stem.name + end)))}.*"
            )


def share(found: list[Files], split: str, val_percent: float, seed: int) -> list[Files]:
    """Selects a split of images from one folder by hash, independent of their order.

    Args:
      found: all images.
      split: 'train', 'val' or 'all'.
      val_percent: share of 'val', rounded to whole images, at least one image unless it is 0.
      seed: seed of the choice.

    Raises:
      UserError: an unknown split, a share out of range, no image left for the split.
    """
    if split not in ("train", "val", "all"):
        raise UserError(
            f"folder has no split {split!r}; it has train, val, all; one of its own needs folders "
            f"of its own, such as {SPLIT} in the paths of images and labels stands for"
        )
    if not 0 <= val_percent < 100:
        raise UserError(f"folder: val_percent={val_percent} must be at least 0 and below 100")
    if split == "all":
        return found
    number = max(round(len(found) * val_percent / 100), 1) if val_percent else 0
    drawn = sorted(found, key=lambda files: hashlib.sha256(f"{seed} {files.id}".encode()).digest())
    held_out = {files.id for files in drawn[:number]}
    chosen = [files for files in found if (files.id in held_out) == (split == "val")]
    if not chosen:
        raise UserError(
            f"folder: no images are left for {split} of {len(found)} with val_percent={val_percent}"
        )
    return chosen


def states(found: list[Files]) -> list[tuple]:
    """Returns path, size in bytes and modification time of each file, to detect changes."""
    paths = [path for files in found for path in (files.image, files.label) if path is not None]
    return [(path, (state := os.stat(path)).st_size, state.st_mtime_ns) for path in paths]


def _stems(
    place: Path, endings, around: tuple[str, str], kind: str, *, apart="", optional=False
) -> dict[str, str]:
    """Returns {common name: path}, sorted; files that end in `apart` are others' labels."""
    start, end = around
    found: dict[str, str] = {}
    for stem, path in _matched(place):
        name = Path(stem).name
        if path.suffix.lower() not in endings or (apart and name.endswith(apart)):
            continue
        if not (name.startswith(start) and name.endswith(end)):
            continue
        short = name.removeprefix(start).removesuffix(end)
        stem = stem.removesuffix(name) + short
        if stem in found:
            raise UserError(
                f"{shown(found[stem])} and {shown(str(path))} have one name; keep one of them"
            )
        found[stem] = str(path)
    if not found and not optional:
        if place.is_dir():
            layouts.refuse(place)
        named = f" named {start}*{end}" if start or end else ""
        raise UserError(f"{place} holds no {kind}{named} ({', '.join(endings)})")
    return found


def _matched(place: Path) -> list[tuple[str, Path]]:
    """Files below a folder, or that match a path with wildcards, with their common names."""
    fixed = place
    while WILD.search(str(fixed)):
        fixed = fixed.parent
    files = below(fixed) if fixed.is_dir() else []
    inside = [(path, path.relative_to(fixed)) for path in files]
    inside = [(path, i) for path, i in inside if not any(p.startswith(".") for p in i.parts)]
    if fixed == place:
        return [(i.with_suffix("").as_posix(), path) for path, i in inside]
    pattern = place.relative_to(fixed).as_posix()
    wild = re.compile(_expression(pattern), re.DOTALL)
    found = []
    for path, i in inside:
        if match := wild.fullmatch(i.as_posix()):
            stem = "/".join(group for group in match.groups() if group)
            extension = path.suffix if pattern.endswith("*") else ""
            found.append((stem.removesuffix(extension), path))
    return found


def _expression(pattern: str) -> str:
    """A path with `**/`, `*`, `?` and `[...]` as a regular expression with a group for each."""
    found = ""
    for part in re.findall(r"\*\*/|\*|\?|\[[^\]]+\]|[^*?\[]+|\[", pattern):
        wild = {"**/": "(?:(.*)/)?", "*": "([^/]*)", "?": "([^/])"}.get(part)
        if wild is None and part.startswith("[") and len(part) > 1:
            wild = f"([{part[1:-1].replace('!', '^', 1) if part[1] == '!' else part[1:-1]}])"
        found += wild or re.escape(part)
    return found
