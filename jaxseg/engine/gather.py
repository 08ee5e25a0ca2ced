"""What the processes of an evaluation put together; with one process everything is as it was."""

import hashlib
from collections.abc import Sequence

import jax
import numpy as np
from jax.experimental import multihost_utils


def gathered(array: np.ndarray) -> np.ndarray:
    """[...] of each process -> [processes, ...]; as bytes, for JAX gathers 32 bits of a number."""
    if jax.process_count() == 1:
        return array[None]
    plain = np.ascontiguousarray(array)
    found = multihost_utils.process_allgather(plain.reshape(-1).view(np.uint8))
    return np.asarray(found).view(array.dtype).reshape(-1, *array.shape)


def total(array: np.ndarray) -> np.ndarray:
    """The sum of each process's array."""
    return gathered(array).sum(0)


def by_id(ids: Sequence[str], valid: np.ndarray, maps: np.ndarray) -> dict[str, np.ndarray]:
    """The maps [n, ...] of all processes' valid images, by 16 digits made of the id."""
    digests = [hashlib.blake2b(str(i).encode(), digest_size=8).digest() for i in ids]
    names = np.stack([np.frombuffer(digest, np.uint8) for digest in digests])
    every = (gathered(array) for array in (names, valid, maps))
    names, valid, maps = (array.reshape(-1, *array.shape[2:]) for array in every)
    return {names[i].tobytes().hex(): maps[i] for i in np.flatnonzero(valid)}


def in_order(parts: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """The rows of all processes' images in the order of the images, so that sums of floats are the
    same for any number of processes.

    Args:
      parts: at least one of (places int [m], rows [m, C]), C and the type the same everywhere. A
        row's place is how many images this process had met in its batches, with those that fill
        them up, before the row's own. Images met at the same place follow one another by process,
        as `pipeline.eval_batches` deals them out.

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
