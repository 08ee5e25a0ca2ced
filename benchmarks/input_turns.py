"""One side of `input.py`: a worker that delivers batches when it is asked to.

Both sides prefetch. So a turn starts a stream, discards the batches prefetched before timing began,
times the batches after them, and closes the stream before the turn of the other side.
"""

import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.turns import say


def serve(stream: Callable[[int, int], Iterator], save: Callable[[str], Any], skip: int) -> None:
    """Answers commands on standard input until it ends.

    'turn N': times N batches; answers with wall-clock and CPU seconds per batch. 'save FILE':
    writes every image once to a file.

    Args:
      stream: (number of the turn, wanted batches) -> an iterator of at least as many batches, which
        is closed or run to its end after the turn.
      save: writes {'image': uint8 [n, H, W, 3], 'label': uint8 [n, H, W]} to an .npz file.
      skip: number of batches before the timed ones.
    """
    turn = 0
    for line in sys.stdin:
        word, value = line.split(maxsplit=1)
        if word == "save":
            save(value.strip())
            say(saved=True)
            continue
        count, turn = int(value), turn + 1
        say(**timed(stream(turn, skip + count), skip, count))


def timed(batches: Iterator, skip: int, count: int) -> dict[str, float | None]:
    """Returns wall-clock and CPU seconds per batch, for `count` batches after `skip` others."""
    for _ in range(skip):
        next(batches)
    clock, cores = time.perf_counter(), core_seconds()
    for _ in range(count):
        next(batches)
    clock, after = time.perf_counter() - clock, core_seconds()
    close = getattr(batches, "close", None)
    if close is not None:
        close()
    for _ in batches if close is None else ():  # batches that are still being prefetched
        pass
    used = None if cores is None or after is None else (after - cores) / count
    return dict(seconds=clock / count, core_seconds=used)


def core_seconds() -> float | None:
    """Returns CPU seconds used by this process and its workers; None if not known."""
    total = time.process_time()
    try:
        for child in multiprocessing.active_children():
            with open(f"/proc/{child.pid}/stat") as file:
                fields = file.read().rpartition(")")[2].split()
            total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except (OSError, IndexError):
        return None
    return total
