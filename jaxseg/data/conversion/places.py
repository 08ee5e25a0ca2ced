"""Finds the folders of one split of a user's own data."""

from pathlib import Path
from typing import NamedTuple

from jaxseg.data.conversion import layouts
from jaxseg.data.conversion.folder_files import WILD
from jaxseg.data.conversion.layouts import SPLIT, Layout
from jaxseg.data.conversion.tree import ROOT_FLAG
from jaxseg.errors import UserError

AUTO = "auto"


class Places(NamedTuple):
    """Where the files of a split lie.

    Attributes:
      images: folder of the images, or a path with wildcards.
      labels: the same of the labels; None for none.
      own: whether no other split's files lie there.
      layout: of the tool that wrote the folder; None for the paths as given.
      top: the folder of the layout, or the one that holds the images' folder.
      listed: names of the split's images without extensions, from a tool's list; None for all.
    """

    images: Path
    labels: Path | None
    own: bool
    layout: Layout | None
    top: Path
    listed: frozenset[str] | None = None


def find(
    root: Path, images: str, labels: str, split: str, *,
    val_images: str = "", val_labels: str = "", partly: bool = False,
) -> Places:  # fmt: skip
    """Finds the folders of a split.

    Args:
      root: start of relative paths.
      images: folder, whose path may contain '{split}'; appended if it has a subfolder of a split.
        If a folder called images is not there, the one above it may have the layout of a tool,
        see `layouts`.
      labels: folder of the same form; '' for none.
      split: name of the split.
      val_images: folder of the validation images; '' for none, 'auto' for the folder beside that
        of `images`' own, with '_val' (or the split's name) behind its name, if there is one.
      val_labels: folder of their labels; '' or a missing one for none, 'auto' likewise.
      partly: whether a split may lack labels.

    Raises:
      UserError: a missing folder; only one of the two paths has '{split}'.
    """
    if not images:
        raise UserError("folder needs the option images, the path of a folder of images")
    beside = _beside(root, images, labels, split, val_images, val_labels)
    if beside and split not in ("train", "all"):
        return beside
    found = _split(root, images, labels, split, partly)
    if split == "train" and _beside(root, images, labels, "val", val_images, val_labels):
        return found._replace(own=True)
    return found


def _beside(root, images, labels, split, val_images, val_labels) -> Places | None:
    """The places of a split that has folders of its own."""
    if val_images and val_images != AUTO:
        here = _absolute(root, val_images)
        there = _absolute(root, val_labels) if val_labels and val_labels != AUTO else None
        for path in filter(None, (here, there)):
            _refuse_missing(path)
        return Places(here, there, True, None, here.parent)
    if not val_images or SPLIT in images or WILD.search(images):
        return None
    given = _absolute(root, images)
    for name in layouts.names_of(split):
        top = given.parent.with_name(f"{given.parent.name}_{name}")
        if not top.is_dir():
            continue
        if (here := top / given.name).is_dir():
            there = next(
                (
                    top / n
                    for n in (Path(labels).name, "labels", "masks")
                    if n and (top / n).is_dir()
                ),
                None,
            )
            return Places(here, there, True, None, top)
        return _by_layout(top, here, split, wants_labels=True)
    return None


def _split(root: Path, images: str, labels: str, split: str, partly: bool) -> Places:
    given = [images, labels] if labels else [images]
    here = _absolute(root, images)
    if not any(map(WILD.search, given)) and not any(SPLIT in path for path in given):
        if not here.is_dir() or (labels and not _absolute(root, labels).is_dir()):
            if here.parent.is_dir() and (found := _known(here, labels and _absolute(root, labels))):
                return _by_layout(here.parent, here, split, bool(labels), found)
        nested = [_has_split(_absolute(root, path), any_split=i == 1 and partly)
                  for i, path in enumerate(given)]  # fmt: skip
        if all(nested):
            given = [f"{path}/{SPLIT}" for path in given]
    by_folder = {SPLIT in path for path in given}
    if len(by_folder) > 1:
        raise UserError(
            f"{SPLIT} stands in one of {images} and {labels} only; both or none need it"
        )
    found = [_named(_absolute(root, path), split) for path in given]
    if partly and len(found) == 2 and SPLIT in given[1] and not found[1].is_dir():
        found = found[:1]
    for path in found:
        if not WILD.search(str(path)):
            _refuse_missing(path)
    top = _absolute(root, images.partition(SPLIT)[0].rstrip("/") or ".")
    top = top if images.startswith(SPLIT) else top.parent
    return Places(found[0], found[1] if len(found) > 1 else None, by_folder.pop(), None, top)


def _known(images: Path, labels: Path | str) -> Layout | None:
    """The layout above a folder of images, if the two are named as by default and not found.

    Photographs alone are one only where no labels are wanted.
    """
    if images.name != "images" or (labels and Path(labels).name != "labels"):
        return None
    found = layouts.find(images.parent)
    if found is None or (labels and not found.labels):
        return None
    return found


def _by_layout(
    top: Path, here: Path, split: str, wants_labels: bool, found: Layout | None = None
) -> Places:
    found = found or layouts.find(top)
    if found is None:
        _refuse_missing(here)
    images = _named(top / found.images, split)
    _refuse_missing(images)
    labels = _named(top / found.labels, split) if found.labels and wants_labels else None
    listed = None
    if found.lists:
        lists = [top / found.lists / f"{name}.txt" for name in layouts.names_of(split)]
        file = next((path for path in lists if path.is_file()), None)
        if file is not None:
            lines = file.read_text(encoding="utf-8", errors="surrogateescape").split()
            listed = frozenset(lines)
    own = SPLIT in found.images or listed is not None
    if not own:
        nested = [path for path in (images, labels) if path is not None]
        if all(_has_split(path) for path in nested):
            images, labels = (path and _named(path / SPLIT, split) for path in (images, labels))
            _refuse_missing(images)
            own = True
    return Places(images, labels, own, found, top, listed)


def _named(path: Path, split: str) -> Path:
    """The path with the name that the split's folder has there."""
    options = [Path(str(path).replace(SPLIT, name)) for name in layouts.names_of(split)]
    return next((option for option in options if option.is_dir()), options[0])


def _has_split(path: Path, any_split: bool = False) -> bool:
    splits = layouts.SPLITS if any_split else ("train",)
    return any((path / name).is_dir() for split in splits for name in layouts.names_of(split))


def _absolute(root: Path, path: str) -> Path:
    return root / Path(path).expanduser()


def _refuse_missing(path: Path) -> None:
    if path.is_dir():
        return
    above = next((parent for parent in path.parents if parent.is_dir()), path)
    has = sorted(p.name for p in above.glob("*") if p.is_dir())
    beside = f"; {above} holds {', '.join(has[:9])}" if has else ""
    raise UserError(f"no folder {path}{beside} (relative paths begin at {ROOT_FLAG})")
