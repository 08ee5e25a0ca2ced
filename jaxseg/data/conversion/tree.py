"""The files of a published data set, in folders or still in their zips, under one naming."""

import os
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from jaxseg.errors import UserError

ROOT_FLAG = "--config.data.root=DIR"


class Files(NamedTuple):
    """The files of one image, as paths inside a `Tree`."""

    id: str
    image: str
    label: str | None = None
    depth: str | None = None
    instances: str | None = None
    colours: str | None = None  # says what the colours of the label mean
    camera: str | None = None  # says how far what the depth file holds is


def below(folder: Path) -> list[Path]:
    """The files in a folder and those in it, links followed, sorted; neither pipes nor devices.

    Raises:
      UserError: a folder that cannot be listed, a link to a folder that it lies in.
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
                    continue  # of the system: a disk that is mounted here
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
    """The files of a published data set, in folders or still in their zips, under one naming.

    Args:
      folder: the data set's folder; every *.zip in it is opened in place.
      tops: the names a published path begins with, such as ('images', 'labels'); what stands before
        them (an archive's own folder) is dropped.
      expected: one line showing the layout, for error messages.

    Raises:
      UserError: the folder is missing, holds nothing of the layout, or a zip is broken.
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
            if path.suffix == ".zip" and path.parent == folder:
                try:
                    archive = zipfile.ZipFile(path)
                except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
                    raise UserError(
                        f"{path}: not a complete zip ({error}); fetch it again"
                    ) from error
                for member in archive.namelist():
                    self._add(member, tops, archive, member)
        for path in files:  # after the zips: an unpacked file goes before its packed copy
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
        """Returns the UserError for an incomplete tree: problem, expected layout and flag."""
        return UserError(f"{self.folder} {problem}; expected DIR/{self.expected} (set {ROOT_FLAG})")

    def stems(self, top: str, suffix: str) -> dict[str, str]:
        """Returns {path less `top` and `suffix`: path}, sorted, of the files between the two."""
        return {
            path[len(top) + 1 : -len(suffix)]: path
            for path in sorted(self._places)
            if path.startswith(f"{top}/") and path.endswith(suffix)
        }

    def where(self, path: str) -> str:
        """Returns where a path really lies, for messages: a file name, or 'ARCHIVE:MEMBER'."""
        holder, place = self._places[path]
        return place if isinstance(holder, str) else f"{holder.filename}:{place}"

    def read(self, path: str, most: int = -1) -> bytes:
        """Returns a file's bytes, or the first `most`; UserError naming it when it is damaged."""
        holder, place = self._places[path]
        try:
            with Path(place).open("rb") if isinstance(holder, str) else holder.open(place) as file:
                return file.read(most)
        except (NotImplementedError, RuntimeError) as error:  # a method unknown here; encrypted
            raise UserError(f"{self.where(path)}: cannot be read ({error}); unpack it") from error
        except (OSError, zipfile.BadZipFile, zlib.error, EOFError, ValueError) as error:
            raise UserError(
                f"{self.where(path)}: cannot be read ({error}); fetch it again"
            ) from error

    def pair(self, images: dict[str, str], **others: dict[str, str]) -> list[Files]:
        """Joins files of equal stems; UserError naming the first that lacks its partner."""
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
