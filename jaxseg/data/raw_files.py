"""The files that a data set is prepared from: whether they are there, whether labels of one's own
can be read, and how large the published images are. Nothing here prepares anything.
"""

import os
from pathlib import Path
from types import ModuleType
from typing import Any

from jaxseg.data import preparing, records
from jaxseg.data.conversion.tree import size_in
from jaxseg.data.labels import LabelSet
from jaxseg.errors import UserError

_read: set[str] = set()  # configs, named by the state of their files, whose labels were in order


def check(
    name: str,
    split: str,
    *,
    records_dir: str | os.PathLike | None = None,
    raw_dir: str | os.PathLike | None = None,
    size: tuple[int, int] | None = None,
    **options: Any,
) -> None:
    """Fails fast if raw data is missing; `records.open_split` might find that only after hours.

    Args:
      the same as `records.open_split`.

    Raises:
      UserError: an unknown data set, split or option; no prepared records and published files
        missing (files are listed, not opened).
    """
    module, config = records.configured(name, split, raw_dir, size, options)
    if not _prepared(module, config, records_dir):
        module.find(config)


def label_set(
    name: str,
    split: str,
    *,
    records_dir: str | os.PathLike | None = None,
    raw_dir: str | os.PathLike | None = None,
    size: tuple[int, int] | None = None,
    **options: Any,
) -> LabelSet:
    """The classes of a split's labels; arguments and errors as for `check`."""
    module, config = records.configured(name, split, raw_dir, size, options)
    return config.labels or module.LABELS


def check_labels(
    name: str,
    split: str,
    *,
    records_dir: str | os.PathLike | None = None,
    raw_dir: str | os.PathLike | None = None,
    size: tuple[int, int] | None = None,
    **options: Any,
) -> None:
    """Reads all labels of a user's own data that are not prepared yet, and the headers of all
    images, so that a wrong one is told before any other data set is prepared. Published sets,
    whose files are known, are left alone.

    Args:
      the same as `records.open_split`.

    Raises:
      UserError: a label that the preparation would refuse; a file that is no image.
    """
    module, config = records.configured(name, split, raw_dir, size, options)
    check = getattr(module, "check_labels", None)
    if check is None or config.name in _read or _prepared(module, config, records_dir):
        return
    check(config)
    _read.add(config.name)


def _prepared(module: ModuleType, config: Any, records_dir: str | os.PathLike | None) -> bool:
    with preparing.quiet():
        folder = Path(records_dir or records.DEFAULT_DIR).expanduser()
        return records.builder_of(module, folder, config).is_prepared()


def sizes(
    name: str,
    split: str,
    *,
    records_dir: str | os.PathLike | None = None,
    raw_dir: str | os.PathLike | None = None,
    size: tuple[int, int] | None = None,
    **options: Any,
) -> list[tuple[int, int]] | None:
    """Reads the sizes of the published images from the headers of their files.

    Args:
      the same as `records.open_split`.

    Returns:
      (height, width) of each image, in the order of the records; None without published files:
      the data set is rendered, or the files were removed.

    Raises:
      UserError: a damaged file.
    """
    module, config = records.configured(name, split, raw_dir, size, options)
    try:
        files = module.find(config)
    except UserError:
        return None
    if files is None:
        return None
    tree, pairs = files
    return [size_in(tree, files.image) for files in pairs]
