"""Finds the files of a user's own data, pairs images with labels, and splits off validation."""

import hashlib
import os
from pathlib import Path

from jaxseg.data.conversion.tree import ROOT_FLAG, Files, below
from jaxseg.errors import UserError

IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
LABELS = (".png", ".bmp", ".tif", ".tiff", ".gif", ".jpg", ".jpeg")  # JPEG is refused by the reader
SPLIT = "{split}"


class Disk:
    """Files on disk, with the interface of `Tree`."""

    def where(self, path: str) -> str:
        """Returns the path."""
        return path

    def read(self, path: str, most: int = -1) -> bytes:
        """Returns a file's bytes, or the first `most`; raises UserError if it cannot be read."""
        try:
            with Path(path).open("rb") as file:
                return file.read(most)
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error})") from error


def places(
    root: Path, images: str, labels: str, split: str
) -> tuple[tuple[Path, Path | None], bool]:
    """Returns the folders of a split's images and labels, and whether paths have '{split}'.

    Args:
      root: start of relative paths.
      images: folder, whose path may contain '{split}'; appended if it has a subfolder 'train'.
      labels: folder of the same form; '' for none.
      split: name of the split.

    Raises:
      UserError: a missing folder; only one of the two paths has '{split}'.
    """
    if not images:
        raise UserError("folder needs the option images, the path of a folder of images")
    given = [images, labels] if labels else [images]
    if not any(SPLIT in path for path in given):
        nested = [_absolute(root, path) for path in given]
        if all((path / "train").is_dir() for path in nested):
            given = [f"{path}/{SPLIT}" for path in given]
    by_folder = {SPLIT in path for path in given}
    if len(by_folder) > 1:
        raise UserError(
            f"{SPLIT} stands in one of {images} and {labels} only; both or none need it"
        )
    found = [_absolute(root, path.replace(SPLIT, split)) for path in given]
    for path in found:
        if not path.is_dir():
            above = next((parent for parent in path.parents if parent.is_dir()), path)
            has = sorted(p.name for p in above.glob("*") if p.is_dir())
            beside = f"; {above} holds {', '.join(has[:9])}" if has else ""
            raise UserError(f"no folder {path}{beside} (relative paths begin at {ROOT_FLAG})")
    return (found[0], found[1] if labels else None), by_folder.pop()


def pairs(
    images: Path, labels: Path | None, *, image_suffix: str = "", label_suffix: str = ""
) -> list[Files]:
    """Pairs images and labels of equal paths, except for extensions and suffixes; sorted.

    Args:
      images: folder, with subfolders or not; ids are the paths in it, with '__' for '/'.
      labels: folder; None = no labels.
      image_suffix: ending of image names before the extension that labels lack.
      label_suffix: ending of label names that images lack.

    Raises:
      UserError: no images; an image without a label or a label without an image; two files that
        differ only in the extension.
    """
    found = _stems(images, IMAGES, image_suffix, "images")
    named = _stems(labels, LABELS, label_suffix, "labels") if labels is not None else None
    if named is not None:
        for kind, these, those, other in (
            ("image", found, named, labels),
            ("label", named, found, images),
        ):
            lacking = sorted(these.keys() - those.keys())
            if lacking:
                suffix = label_suffix if kind == "image" else image_suffix
                raise UserError(
                    f"{len(lacking)} of {len(these)} {kind}s have no partner, first "
                    f"{these[lacking[0]]}: there is no {other / lacking[0]}{suffix}.*"
                )
    return [
        Files(stem.replace("/", "__"), path, named[stem] if named is not None else None)
        for stem, path in found.items()
    ]


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
            f"folder has no split {split!r}; it has train, val, all; or put {SPLIT} into the "
            f"paths of images and labels"
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


def _absolute(root: Path, path: str) -> Path:
    return root / Path(path).expanduser()


def _stems(folder: Path, endings: tuple[str, ...], suffix: str, kind: str) -> dict[str, str]:
    """Returns {path in the folder without suffix and extension: path}, sorted."""
    found: dict[str, str] = {}
    for path in below(folder):
        inside = path.relative_to(folder)
        if path.suffix.lower() not in endings or any(p.startswith(".") for p in inside.parts):
            continue
        stem = inside.with_suffix("").as_posix()
        if not stem.endswith(suffix):
            continue
        stem = stem.removesuffix(suffix)
        if stem in found:
            raise UserError(f"{found[stem]} and {path} have one name; keep one of them")
        found[stem] = str(path)
    if not found:
        raise UserError(f"{folder} holds no {kind} (*{suffix}.png and the like)")
    return found
