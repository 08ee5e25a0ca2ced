"""Files of a published data set, in folders or in zip archives, under the same paths."""

import os
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from jaxseg.data import codec
from jaxseg.errors import UserError

ROOT_FLAG = "--config.data.root=DIR"


class Files(NamedTuple):
    """The files of one image, as paths inside a `Tree`."""

    id: str
    image: str
    label: str | None = None
    depth: str | None = None
    instances: str | None = None
    colours: str | None = None  # file with the meaning of the label's colours
    camera: str | None = None  # file with the calibration that turns the depth file into metres


def below(folder: Path) -> list[Path]:
    """Lists the regular files in a folder and its subfolders, sorted; follows links.

    Raises:
      UserError: a folder that cannot be listed, a link to a folder that contains it.
    """
    found: list[Path] = []

    def walk(inside: Path, above: tuple[str, ...]) -> None:
        here = os.path.realpath(inside)
        around = (*above, here)
        with os.scandir(inside) as entries:
            for entry in entries:
                path = inside / entry.name
                if entry.is_file():
                    found.append(path)
                if not entry.is_dir():
                    continue
                hidden = entry.name.startswith(".") or entry.name == "lost+found"
                if hidden and not os.access(path, os.R_OK | os.X_OK):
                    continue  # a system folder at the root of a mounted disk
                target = os.path.realpath(path) if entry.is_symlink() else None
                if target and any(
                    f"{place}/".startswith(f"{target.rstrip('/')}/") for place in around
                ):
                    raise UserError(f"{path}: a link to a folder that it lies in; remove the link")
                walk(path, around)

    try:
        walk(folder, ())
    except OSError as error:
        raise UserError(
            f"{error.filename or folder}: cannot be listed ({error.strerror})"
        ) from error
    return sorted(found)


class Tree:
    """Files of a published data set, in folders or in zip archives, under the same paths.

    Args:
      folder: the data set's folder; every *.zip in it is read without unpacking. A *.zip further
        down, in or named like one of `tops`, stands for a folder of its name.
      tops: top-level folders of the published layout, such as ('images', 'labels'); folders above
        them (such as an archive's own) are removed from paths.
      expected: the layout in one line, for error messages.

    Raises:
      UserError: the folder is missing or holds no file of the layout, or a zip is broken.
    """

    def __init__(self, folder: Path | None, tops: tuple[str, ...], expected: str):
        self.folder, self.expected = folder, expected
        if folder is None or not folder.is_dir():
            raise UserError(
                f"no folder {folder or 'for the raw data'}; expected DIR/{expected} "
                f"(set {ROOT_FLAG})"
            )
        self._places: dict[str, tuple[str | zipfile.ZipFile, str]] = {}
        files = below(folder)
        for path in files:
            inside = path.relative_to(folder).with_suffix("")
            if path.suffix == ".zip" and (path.parent == folder or set(inside.parts) & set(tops)):
                try:
                    archive = zipfile.ZipFile(path)
                except NotImplementedError as error:  # zipfile's own: a version that it lacks
                    raise UserError(f"{path}: cannot be read ({error}); unpack it") from error
                except (zipfile.BadZipFile, OSError, ValueError) as error:
                    raise UserError(
                        f"{path}: not a complete zip ({error}); fetch it again"
                    ) from error
                above = "" if path.parent == folder else f"{inside.as_posix()}/"
                for member in archive.namelist():
                    self._add(above + member, tops, archive, member)
        for path in files:  # after the zips, so that an unpacked file replaces its packed copy
            self._add(path.relative_to(folder).as_posix(), tops, str(folder), str(path))
        if not self._places:
            raise self.error("holds none of the published files")

    def _add(
        self, name: str, tops: tuple[str, ...], holder: str | zipfile.ZipFile, place: str
    ) -> None:
        parts = PurePosixPath(name).parts
        if name.endswith("/") or "__MACOSX" in parts or parts[-1].startswith("."):
            return
        for i, part in enumerate(parts[:-1]):
            if part in tops:
                self._places["/".join(parts[i:])] = (holder, place)
                return

    def error(self, problem: str) -> UserError:
        """Returns a UserError with the problem, the expected layout and the flag to set."""
        return UserError(f"{self.folder} {problem}; expected DIR/{self.expected} (set {ROOT_FLAG})")

    def stems(self, top: str, suffix: str) -> dict[str, str]:
        """Returns the files `top`/*`suffix`, sorted: {path without `top` and `suffix`: path}."""
        return {
            path[len(top) + 1 : -len(suffix)]: path
            for path in sorted(self._places)
            if path.startswith(f"{top}/") and path.endswith(suffix)
        }

    def where(self, path: str) -> str:
        """Returns the real location for messages: a file name, or 'ARCHIVE:MEMBER'."""
        holder, place = self._places[path]
        return place if isinstance(holder, str) else f"{holder.filename}:{place}"

    def state(self, path: str) -> tuple[int, int]:
        """Returns a file's size in bytes, and when it was written; in a zip, its checksum."""
        holder, place = self._places[path]
        if not isinstance(holder, str):
            member = holder.getinfo(place)
            return member.file_size, member.CRC
        found = os.stat(place)
        return found.st_size, found.st_mtime_ns

    def read(self, path: str, most: int = -1) -> bytes:
        """Returns a file's bytes, or the first `most`; raises UserError if it is damaged."""
        holder, place = self._places[path]
        try:
            with Path(place).open("rb") if isinstance(holder, str) else holder.open(place) as file:
                return file.read(most)
        # zipfile's own: NotImplementedError, a compression that it lacks; RuntimeError, encrypted
        except (NotImplementedError, RuntimeError) as error:
            raise UserError(f"{self.where(path)}: cannot be read ({error}); unpack it") from error
        except (OSError, zipfile.BadZipFile, zlib.error, EOFError, ValueError) as error:
            raise UserError(
                f"{self.where(path)}: cannot be read ({error}); fetch it again"
            ) from error

    def pair(self, images: dict[str, str], **others: dict[str, str]) -> list[Files]:
        """Joins files of equal stems; raises UserError for the first one without a partner."""
        if not images:
            raise self.error("holds no images")
        for kind, files in others.items():
            lacking = sorted(images.keys() - files.keys())
            if lacking:
                raise self.error(
                    f"is incomplete: {len(lacking)} of {len(images)} images have no {kind}, "
                    f"first {images[lacking[0]]}"
                )
            surplus = sorted(files.keys() - images.keys())
            if surplus:
                raise self.error(
                    f"is incomplete: {len(surplus)} {kind} files have no image, "
                    f"first {files[surplus[0]]}"
                )
        return [
            Files(
                stem.rsplit("/", 1)[-1],
                path,
                **{kind: files[stem] for kind, files in others.items()},
            )
            for stem, path in images.items()
        ]


def size_in(tree: Any, path: str) -> tuple[int, int]:
    """Reads (height, width) of an upright image, mostly from its first bytes alone.

    Args:
      tree: a `Tree`, or what has its `read` and `where`.
      path: of the image in it.

    Raises:
      UserError: it is damaged, or no image; the message names the file.
    """
    with codec.naming(tree.where(path)):
        try:  # in some files a thumbnail or a colour profile comes before the size
            return codec.size_of(tree.read(path, 2**16), upright=True)
        except (OSError, SyntaxError, ValueError):
            return codec.size_of(tree.read(path), upright=True)
