"""The exception for mistakes that a user can correct: shown as a single line, exit code 2.

And the system's errors on files and disks, told in one such line.
"""

import contextlib
import errno
import inspect
import os
import re
import shutil
import socket
from collections.abc import Callable, Iterable, Iterator


class UserError(Exception):
    """A mistake in the user's input; the message names the file, key or shape and the remedy."""


def check_keywords(
    function: Callable,
    given: Iterable[str],
    *,
    what: str,
    noun: str = "setting",
    reserved: Iterable[str] = (),
) -> None:
    """Compares a user's settings with the signature of the function that will receive them.

    The caller then need not catch TypeError: one raised inside the function is a developer's
    mistake, and keeps its traceback.

    Args:
      function: takes the settings as keyword arguments.
      given: the names of the settings.
      what: the start of the message, such as "method advent".
      noun: what the message calls a setting.
      reserved: parameters that the caller passes itself, so that they are not settings.

    Raises:
      UserError: an unknown setting, or a missing one without a default; the message lists all
        settings that the function takes.
    """
    given, reserved = set(given), set(reserved)
    parameters = inspect.signature(function).parameters.values()
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    known = {p.name for p in parameters if p.name not in reserved and p.kind not in variable}
    takes = f"it takes {', '.join(sorted(known)) or 'none'}"
    anything = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters)
    if not anything and (unknown := sorted(given - known)):
        raise UserError(f"{what} has no {noun} {unknown[0]!r}; {takes}")
    keyword = inspect.Parameter.KEYWORD_ONLY
    needed = [p.name for p in parameters if p.kind is keyword and p.default is p.empty]
    if missing := [name for name in needed if name not in given | reserved]:
        raise UserError(f"{what} needs the {noun} {missing[0]!r}; {takes}")


@contextlib.contextmanager
def naming(path: str | os.PathLike) -> Iterator[None]:
    """Within this context an OSError without a file's name, as of a write, gets this one."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            error.filename = os.fspath(path)
        raise


@contextlib.contextmanager
def one_line_on_files(folder: str | os.PathLike) -> Iterator[None]:
    """Within this context errors of files and disks become a UserError; see `on_files`."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if text := on_files(error, folder):
            raise UserError(text) from error
        raise


def on_files(error: BaseException, folder: str | os.PathLike) -> str | None:
    """One line on a file that cannot be written or read: its name, the free space, the remedy.

    Args:
      error: an OSError, or one that came of a full or closed disk, as storage libraries raise.
      folder: what the program writes to, named if the error names no file.

    Returns:
      None for errors of other kinds, the network's among them.
    """
    number, reason, path = _fault(error)
    if number is None:
        return None
    path = os.path.abspath(path or folder)
    there = path
    while not os.path.exists(there):
        there = os.path.dirname(there)
    try:
        free = f", {shutil.disk_usage(there).free / 2**20:,.1f} MiB free there"
    except OSError:
        free = ""
    return f"{path}: {reason}{free}: {_REMEDIES.get(number, _OTHERWISE)}"


_ROOM = (
    "make room (or raise the quota), or give another folder; whole checkpoints stay, and the same "
    "command goes on from the last one"
)
_PERMIT = "give a folder that you may read and write, or change the permissions"
_REMEDIES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), _ROOM),
    **dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM), _PERMIT),
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), "raise the limit on open files (ulimit -n)"),
}
_OTHERWISE = "check the path and the drive, then give the same command again"
# Storage libraries raise errors of their own; they tell of these in the system's words.
_IN_WORDS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EACCES)


def _fault(error: BaseException) -> tuple[int | None, str, str | None]:
    """(errno, the system's words, the file if it is known) of an error or of what it came of."""
    if isinstance(error, OSError) and not isinstance(error, ConnectionError | TimeoutError):
        if error.errno is not None and not isinstance(error, socket.gaierror):
            return error.errno, os.strerror(error.errno), _text(error.filename)
        return None, "", None
    seen: BaseException | None = error
    looked: list[BaseException] = []  # what is raised again may be its own cause
    while seen is not None and not any(seen is other for other in looked):
        looked.append(seen)
        if isinstance(seen, OSError) and seen.errno in _IN_WORDS:
            return seen.errno, os.strerror(seen.errno), _text(seen.filename)
        for number in _IN_WORDS:
            if os.strerror(number) in str(seen):
                found = re.search(r'"(/[^"]+)"|\'(/[^\']+)\'', str(seen))
                return number, os.strerror(number), found and (found[1] or found[2])
        seen = seen.__cause__ or seen.__context__
    return None, "", None


def _text(name: object) -> str | None:
    return os.fsdecode(name) if isinstance(name, str | bytes | os.PathLike) else None
