"""The files that a data set is prepared from: whether they are there, whether labels of one's own
can be read, and how large the published images are. Nothing here prepares anything.

All functions take the arguments of `records.open_split`, and raise UserError for an unknown data
set, split or option.
"""

import os
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from jaxseg.data import preparing, records
from jaxseg.data.conversion.tree import size_in
from jaxseg.data.labels import LabelSet
from jaxseg.errors import UserError

_read: set[str] = set()  # configs, named by the state of their files, whose labels were in order


class _Split(NamedTuple):
    """A data set's module, the config of a split, and the folder of all records."""

    module: ModuleType
    config: Any
    folder: Path

    @property
    def prepared(self) -> bool:
        with preparing.quiet():
            return records.builder_of(self.module, self.folder, self.config).is_prepared()


def _split(
    name: str,
    split: str,
    *,
    records_dir: str | os.PathLike | None = None,
    raw_dir: str | os.PathLike | None = None,
    size: tuple[int, int] | None = None,
    **options: Any,
) -> _Split:
    folder = Path(records_dir or records.DEFAULT_DIR).expanduser()
    return _Split(*records.configured(name, split, raw_dir, size, options), folder)


def check(name: str, split: str, **given: Any) -> None:
    """Fails fast if raw data is missing; `records.open_split` might find that only after hours.

    Raises:
      UserError: no prepared records and published files missing (files are listed, not opened).
    """
    found = _split(name, split, **given)
    if not found.prepared:
        found.module.find(found.config)


def label_set(name: str, split: str, **given: Any) -> LabelSet:
    """The classes of a split's labels."""
    found = _split(name, split, **given)
    return found.config.labels or found.module.LABELS


def check_labels(name: str, split: str, **given: Any) -> None:
    """Reads all labels of a user's own data that are not prepared yet, and the headers of all
    images, so that a wrong one is told before any other data set is prepared. Published sets,
    whose files are known, are left alone.

    Raises:
      UserError: a label that the preparation would refuse; a file that is no image.
    """
    found = _split(name, split, **given)
    read = getattr(found.module, "check_labels", None)
    if read is None or found.config.name in _read or found.prepared:
        return
    read(found.config)
    _read.add(found.config.name)


def sizes(name: str, split: str, **given: Any) -> list[tuple[int, int]] | None:
    """Reads the sizes of the published images from the headers of their files.

    Returns:
      (height, width) of each image, in the order of the records; None without published files:
      the data set is rendered, or the files were removed.

    Raises:
      UserError: a damaged file.
    """
    found = _split(name, split, **given)
    try:
        files = found.module.find(found.config)
    except UserError:
        return None
    if files is None:
        return None
    tree, pairs = files
    return [size_in(tree, files.image) for files in pairs]
