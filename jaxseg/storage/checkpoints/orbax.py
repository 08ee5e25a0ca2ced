"""Peculiarities of Orbax: its warnings, its read errors, and its names of step folders."""

import functools
import itertools
import logging
import os
import re
import sys
from pathlib import Path
from typing import Any

from jaxseg.errors import on_files

# Errors after which a file may still be undamaged: the storage's messages begin with these words;
# system errors count unless they mean that a file is missing.
_HINDERED = re.compile(r"(PERMISSION_DENIED|UNAUTHENTICATED|UNAVAILABLE|DEADLINE_EXCEEDED)\b")
_MISSING = (FileNotFoundError, NotADirectoryError, IsADirectoryError)


def hindrance(error: BaseException, folder: Path) -> str | None:
    """Why a possibly undamaged checkpoint could not be read, in one line.

    Args:
      error: raised by the read.
      folder: of the step; Orbax reports a subfolder without permission as missing.

    Returns:
      The reason, or None if the checkpoint itself is damaged.
    """
    cause: BaseException | None = error
    while cause is not None:
        hindered = isinstance(cause, OSError) and not isinstance(cause, _MISSING)
        if hindered or _HINDERED.match(str(cause)):
            return str(cause).splitlines()[0][:300]
        cause = cause.__cause__ or cause.__context__
    closed = []
    for _ in os.walk(folder, onerror=closed.append):
        pass
    barred = [error for error in closed if not isinstance(error, _MISSING)]
    return str(barred[0]) if barred else None


def set_aside(folder: Path) -> None:
    """Renames a step's folder to `<step>.damaged`, which Orbax does not treat as a step."""
    names = (f"{folder.name}.damaged{i or ''}" for i in itertools.count())
    folder.rename(next(f for name in names if not (f := folder.with_name(name)).exists()))


class _NotFromOrbax(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        if record.name == "asyncio":
            return not (record.exc_info and "tensorstore" in str(record.exc_info[1]))
        if "orbax" not in record.pathname:
            return True
        # Each of Orbax's threads logs why it could not write; the error is raised as well. Those
        # that the end of the process overtakes say so.
        error = record.exc_info and record.exc_info[1]
        told = error and (on_files(error, ".") or "after shutdown" in str(error))
        return record.levelno >= logging.ERROR and not told


@functools.cache
def quiet_orbax() -> None:
    """Silences expected messages that would hide the one line that matters.

    Orbax warns of steps without metrics and of read-only managers. When one array of a damaged step
    cannot be read, the pending reads of the others report a closed event loop. Of a full disk each
    of its threads logs a traceback.
    """
    for name in ("absl", "asyncio"):
        logging.getLogger(name).addFilter(_NotFromOrbax())
    before = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            before(unraisable)

    sys.unraisablehook = hook
