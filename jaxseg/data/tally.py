"""Counts labelled pixels of a split per image and class, for class weights and priors."""

import concurrent.futures
import contextlib
import os
import zipfile
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxseg.data import transforms
from jaxseg.data.labels import IGNORE
from jaxseg.data.records import Source
from jaxseg.errors import UserError


class Tally(NamedTuple):
    """Pixel counts of a split at the stored size.

    Attributes:
      counts: int64 [images, K], pixels per image and class.
      ignored: int64 [images], pixels of no class.
    """

    counts: np.ndarray
    ignored: np.ndarray


def counted(source: Source, table: np.ndarray, num_classes: int, threads: int = 2) -> Tally:
    """Returns `tally`'s result, cached in the records' folder so that a split is counted once.

    It is counted again for another table, for another number of its images (`data.source_share`),
    or if the cache file cannot be read.
    """
    what = f"{num_classes} {len(source)}".encode()
    key = zlib.crc32(np.asarray(table, np.uint8).tobytes() + what)
    path = Path(source.folder) / f"counts_{source.split}_{key:08x}.npz"
    try:
        with np.load(path, allow_pickle=False) as saved:
            found = Tally(saved["counts"], saved["ignored"])
        if found.counts.shape == (len(source), num_classes):
            return found
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, EOFError):
        pass
    found = tally(source, table, num_classes, threads)
    with contextlib.suppress(OSError):  # read-only folders: counted each time
        draft = path.with_suffix(f".{os.getpid()}.npz")
        np.savez_compressed(draft, counts=found.counts, ignored=found.ignored)
        os.replace(draft, path)
    return found


def tally(source: Source, table: np.ndarray, num_classes: int, threads: int = 2) -> Tally:
    """Counts every label of a split.

    Args:
      source: the records; all counts are 0 if they have no labels.
      table: uint8 [256], from stored ids to the ids to count (see `labels.remap`).
      num_classes: K.
      threads: number of decoding threads.

    Returns:
      a Tally.

    Raises:
      UserError: a damaged record, or an id outside the records' label set (with its pixel count).
    """
    if not source.labelled:
        empty = np.zeros((len(source), num_classes), np.int64)
        return Tally(empty, empty.sum(1))
    known = len(source.label_set.classes)

    def count(index: int) -> np.ndarray:
        record = source[index]
        where = source.where(record)
        label = transforms.decode(record, where=where, size=None, keys=("label",))["label"]
        raw = np.bincount(label.ravel(), minlength=256)
        if raw[known:IGNORE].any():
            odd = known + int(raw[known:IGNORE].argmax())
            raise UserError(
                f"{where}: label id {odd} in {raw[odd]} pixels; {source.label_set.name} has "
                f"{known} classes; delete that folder to prepare it anew"
            )
        return np.bincount(table, weights=raw, minlength=256).astype(np.int64)

    with concurrent.futures.ThreadPoolExecutor(max(1, threads)) as pool:
        try:
            counted = np.stack(list(pool.map(count, range(len(source)))))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return Tally(counted[:, :num_classes], counted[:, num_classes:].sum(1))
