"""Combines results of several processes at the end of an evaluation; no-ops with one process."""

import hashlib
from collections.abc import Sequence

import jax
import numpy as np
from jax.experimental import multihost_utils


def gathered(array: np.ndarray) -> np.ndarray:
    """Gathers each process's array [...] into [processes, ...]. Sent as bytes, because JAX would
    cut 64-bit numbers to 32 bits."""
    if jax.process_count() == 1:
        return array[None]
    plain = np.ascontiguousarray(array)
    found = multihost_utils.process_allgather(plain.reshape(-1).view(np.uint8))
    return np.asarray(found).view(array.dtype).reshape(-1, *array.shape)


def total(array: np.ndarray) -> np.ndarray:
    """The sum of the processes' arrays."""
    return gathered(array).sum(0)


def by_id(ids: Sequence[str], valid: np.ndarray, maps: np.ndarray) -> dict[str, np.ndarray]:
    """The maps [n, ...] of all processes' valid images, by a 16-digit hash of the image's id."""
    digests = [hashlib.blake2b(str(i).encode(), digest_size=8).digest() for i in ids]
    names = np.stack([np.frombuffer(digest, np.uint8) for digest in digests])
    every = (gathered(array) for array in (names, valid, maps))
    names, valid, maps = (array.reshape(-1, *array.shape[2:]) for array in every)
    return {names[i].tobytes().hex(): maps[i] for i in np.flatnonzero(valid)}


def in_order(parts: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Gathers the rows of all processes in the order of the images, so that sums of floats are the
    same for any number of processes.

    Args:
      parts: one or more (places int [m], rows [m, C]), with C and the dtype the same everywhere. A
        row's place is the position of its image among all that this process has read, padding
        included. Images at the same place are ordered by process, as `pipeline.eval_batches` deals
        them out.

    Returns:
      [M, C]; the rows of one image stay as they were.
    """
    table = np.concatenate([rows for _, rows in parts])
    if jax.process_count() == 1:
        return table
    counts = gathered(np.asarray(len(table)))
    if not counts.any():
        return table
    missing = int(counts.max()) - len(table)
    where = np.concatenate([places for places, _ in parts]).astype(np.int64)
    where = gathered(np.pad(where, (0, missing)))
    table = gathered(np.pad(table, ((0, missing), (0, 0))))
    kept = np.arange(int(counts.max())) < counts[:, None]
    return table[kept][np.argsort(where[kept], kind="stable")]
