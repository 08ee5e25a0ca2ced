"""One side of `input.py`: a worker that delivers batches when it is asked to.

Both sides read ahead. So a turn begins a stream, lets it run until what was read ahead at leisure
is used up, times the batches after that, and ends the stream before the other side has its turn.
"""

import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.turns import say


def serve(stream: Callable[[int, int], Iterator], save: Callable[[str], Any], skip: int) -> None:
    """Works as asked until the input ends.

    'turn N': times N batches; says seconds a batch by the clock, and of all cores. 'save FILE':
    delivers every image once, into a file.

    Args:
      stream: (number of the turn, batches wanted) -> an iterator of at least as many batches, that
        is closed or run to its end after the turn.
      save: writes {'image': uint8 [n, H, W, 3], 'label': uint8 [n, H, W]} to an .npz file.
      skip: batches before those that are timed.
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
    """Seconds a batch, by the clock and of all cores, of `count` batches after the first `skip`."""
    for _ in range(skip):
        next(batches)
    clock, cores = time.perf_counter(), core_seconds()
    for _ in range(count):
        next(batches)
    clock, after = time.perf_counter() - clock, core_seconds()
    close = getattr(batches, "close", None)
    if close is not None:
        close()
    for _ in batches if close is None else ():  # what is still being read ahead
        pass
    used = None if cores is None or after is None else (after - cores) / count
    return dict(seconds=clock / count, core_seconds=used)


def core_seconds() -> float | None:
    """What this process and its workers have used of all cores; None where that is not known."""
    total = time.process_time()
    try:
        for child in multiprocessing.active_children():
            with open(f"/proc/{child.pid}/stat") as file:
                fields = file.read().rpartition(")")[2].split()
            total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except (OSError, IndexError):
        return None
    return total
