"""The images that prediction is given: finds them, reads them, and resizes them for the network."""

import collections
import glob
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxseg.data import codec, photograph
from jaxseg.data.conversion import layouts
from jaxseg.errors import UserError

SUFFIXES = layouts.IMAGES  # what training reads
VIDEOS = (
    *(".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".mts", ".m2ts"),
    *(".3gp", ".ogv", ".flv"),
)


class Item(NamedTuple):
    """An image or a video.

    Attributes:
      path: of the file.
      name: path of its outputs in the output folder, without a suffix.
    """

    path: Path
    name: Path

    @property
    def video(self) -> bool:
        """Whether it is a video."""
        return self.path.suffix.lower() in VIDEOS


def check(given: str) -> None:
    """Raises UserError if there is nothing at --input; looks into no folder."""
    if not _matches(given):
        what = "no file fits this pattern" if glob.has_magic(given) else "no such file or folder"
        raise UserError(f"--input={given}: {what}")


def find(given: str | Path, output: str | Path) -> list[Item]:
    """The images and videos of --input.

    A file is taken whatever its suffix. A folder gives the images and videos in it and its
    subfolders, links to folders included; hidden files and folders are skipped, and a link that
    leads nowhere is found, so that it can be told. A pattern, such as
    'shots/*.png' or 'shots/**/front.jpg', gives all that fits it, folders among it as above.
    Images with equal names get their suffix added (a.png, a.jpg -> a_png, a_jpg).

    Args:
      given: a file, a folder or a pattern; '~' is the home folder.
      output: folder of the outputs. It may lie within the input; what is in it is not input.

    Raises:
      UserError: nothing is found, or the output is the input.
    """
    given, output = str(given), Path(output)
    check(given)
    found: list[tuple[Path, Path]] = []  # file, folder that names are relative to
    matches = _matches(given)
    base = Path(os.path.commonpath([path.parent for path in matches]))
    for path in matches:
        alone = len(matches) == 1
        if path.is_dir():
            found += [(file, path if alone else base) for file in _below(path, output)]
        elif alone or path.suffix.lower() in SUFFIXES + VIDEOS:
            found.append((path, path.parent if alone else base))
    if not found:
        kinds = ", ".join(suffix.removeprefix(".") for suffix in SUFFIXES + VIDEOS)
        raise UserError(f"--input={given}: no image in it (looked for {kinds})")
    names = [path.relative_to(inside).with_suffix("") for path, inside in found]
    several = {name for name, count in collections.Counter(names).items() if count > 1}
    return [
        Item(path, name.with_name(name.name + path.suffix.replace(".", "_")))
        if name in several
        else Item(path, name)
        for (path, _), name in zip(found, names, strict=True)
    ]


def _matches(given: str) -> list[Path]:
    path = Path(given).expanduser()
    if path.exists():
        return [path]
    found: dict[Path, Path] = {}  # each file once, whatever links lead to it
    for match in map(Path, sorted(glob.glob(str(path), recursive=True))):
        found.setdefault(match.resolve(), match)
    return list(found.values())


def _below(folder: Path, output: Path) -> Iterator[Path]:
    """The images and videos in a folder, without what lies in the output folder."""
    there, ours = output.resolve(), folder.resolve()
    if ours == there:
        raise UserError(f"--output={output} is the folder of --input; give another one")

    def walk(inside: Path, around: tuple[Path, ...]) -> Iterator[Path]:
        for path in sorted(inside.iterdir()):
            if path.name.startswith("."):
                continue
            if path.is_dir():
                real = path.resolve()
                if real != there and real not in around:  # a link may lead back up
                    yield from walk(path, (*around, real))
            elif path.suffix.lower() in SUFFIXES + VIDEOS and (path.is_file() or path.is_symlink()):
                yield path

    yield from walk(folder, (ours,))


def read(path: Path) -> np.ndarray:
    """Reads an image file of any mode as uint8 [H,W,3]; see `photograph.read`.

    Raises:
      UserError: it cannot be read; the message names the file.
    """
    if not path.exists():
        raise UserError(
            f"{path}: {'a link that leads nowhere' if path.is_symlink() else 'no such file'}"
        )
    with codec.naming(str(path), "give another file"):
        return photograph.read(path.read_bytes())


def resized(images: np.ndarray, size: tuple[int, int] | None) -> np.ndarray:
    """Resizes uint8 [N,H,W,3] to (height, width) for the network, bicubic as in evaluation; None
    leaves them as they are, and a `photograph.Covering` keeps their proportions.
    """
    if isinstance(size, photograph.Covering):
        size = photograph.fitted(images.shape[1:3], size)
    if size is None or images.shape[1:3] == tuple(size):
        return images
    return np.stack([codec.resize_image(image, size) for image in images])
