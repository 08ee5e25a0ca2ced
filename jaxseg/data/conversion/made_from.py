"""What records were made from, kept beside them: the list of files, their sizes and times.

A data set's records are found by its name and options, not by the folder of its published files.
This notices that the files are others now: another `data.root`, images added, a label corrected.
"""

import contextlib
import hashlib
import json
from pathlib import Path
from typing import NamedTuple

from jaxseg.data.conversion.tree import Files, Tree

FILE = "made_from.json"


class MadeFrom(NamedTuple):
    """The files of a split.

    Attributes:
      root: the folder that they lie in.
      images: number of images.
      names: digest of the files' paths below the root and their sizes.
      times: digest of their modification times (of files in a zip archive: of their checksums).
    """

    root: str
    images: int
    names: str
    times: str


def describe(root: Path | None, tree: Tree, pairs: list[Files]) -> MadeFrom:
    """Describes the files of a split; they are not opened."""
    names, times = hashlib.sha256(), hashlib.sha256()
    start = f"{root}/"  # data sets in folders of the user's own have whole paths
    for files in pairs:
        for path in files[1:]:
            if path is not None:
                size, time = tree.state(path)
                names.update(f"{path.removeprefix(start)!a} {size}\n".encode())
                times.update(f"{time}\n".encode())
    where = str(root.resolve()) if root is not None else ""
    return MadeFrom(where, len(pairs), names.hexdigest()[:16], times.hexdigest()[:16])


def read(folder: Path) -> MadeFrom | None:
    """Reads what the records in a folder were made from; None if that is not known."""
    try:
        found = json.loads((folder / FILE).read_text())
        return MadeFrom(**{name: found[name] for name in MadeFrom._fields})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write(folder: Path, now: MadeFrom) -> None:
    """Writes it beside the records; a folder that cannot be written to is left as it is."""
    with contextlib.suppress(OSError):
        (folder / FILE).write_text(json.dumps(now._asdict(), indent=1))


def change(before: MadeFrom | None, now: MadeFrom, stored: int) -> str:
    """Says what has changed since the records were made.

    Times count only in the same folder: a copy elsewhere has others.

    Args:
      before: what `read` returned; None for records of earlier versions, which did not know: then
        only the number of images is compared.
      now: the files as they are.
      stored: number of the records.

    Returns:
      '' if nothing has, otherwise a phrase.
    """
    if before is None:
        return "" if stored == now.images else f"{stored} images then, {now.images} now"
    if before.names != now.names:
        counts = f"{before.images} images then, {now.images} now"
        same = before.images == now.images
        moved = f"in {before.root} then, in {now.root} now"
        parts = [*([] if same else [counts]), *([moved] if before.root != now.root else [])]
        return "; ".join(parts) or "other names or sizes than then"
    if before.root == now.root and before.times != now.times:
        return "files were written since"
    return ""
