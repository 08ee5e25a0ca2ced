"""One run folder, one writer: a lock with the name of the process that trains in it.

The file `writer.json` says who writes (pid, host) and since when. While it runs, the process holds
the operating system's lock on this file, which ends with the process however it ends. Where hosts
share a folder but not such locks (some network drives), the file's age tells: a writer renews it
every minute.
"""

import contextlib
import json
import os
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from jaxseg.errors import UserError

try:
    import fcntl
except ImportError:  # not POSIX
    fcntl = None

FILE = "writer.json"
RENEW = 60.0  # seconds between two renewals of the file
OLD = 900.0  # seconds after which the file of another host counts as left behind


@contextlib.contextmanager
def held(folders: Iterable[str | Path], announce: Callable[[str], None] = print) -> Iterator[None]:
    """Holds the locks of run folders; nobody else can train in them meanwhile.

    Args:
      folders: created if they do not exist.
      announce: called with one line for each lock that an ended process has left behind.

    Raises:
      UserError: somebody else writes in one of the folders.
    """
    ended = threading.Event()
    with contextlib.ExitStack() as opened:
        paths = [opened.enter_context(_held(Path(folder), announce)) for folder in folders]
        thread = threading.Thread(target=_renew, args=(paths, ended), name="lock", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


@contextlib.contextmanager
def _held(folder: Path, announce: Callable[[str], None]) -> Iterator[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / FILE
    file, locked = _taken(path, folder)
    try:
        before = _read(file)
        if before:
            if _lives(before, path, locked):
                raise UserError(_refusal(folder, before))
            announce(f"{path}: {_who(before)} ended without removing it; going on in its place")
        mine = {"pid": os.getpid(), "host": socket.gethostname(), "since": int(time.time()),
                "started": started(os.getpid())}  # fmt: skip
        os.ftruncate(file, 0)
        os.pwrite(file, json.dumps(mine).encode(), 0)
        try:
            yield path
        finally:
            with contextlib.suppress(OSError):
                path.unlink()  # while the lock is held, so that nobody else's file is removed
    finally:
        os.close(file)


def _taken(path: Path, folder: Path) -> tuple[int, bool]:
    """The open file, and whether the system's lock is on it: not every file system has locks."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        locked = fcntl is not None
        try:
            if locked:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            before = _read(file)
            os.close(file)
            raise UserError(_refusal(folder, before)) from error
        except OSError:  # a file system without locks: what the file says has to do
            locked = False
        # Whoever held it until now may have removed the file that was opened.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file), os.stat(path)):
                return file, locked
        os.close(file)


def _read(file: int) -> dict[str, Any]:
    """What the file says; {} if it is empty or cut."""
    try:
        told = json.loads(os.pread(file, 4096, 0))
        return told if isinstance(told, dict) and told.keys() >= {"pid", "host", "since"} else {}
    except ValueError:
        return {}


def _lives(writer: dict[str, Any], path: Path, locked: bool) -> bool:
    """Whether the writer that a file names still runs, though nobody's lock is on the file."""
    if writer["host"] != socket.gethostname():
        # Compared with a new file's time, as the clocks of hosts and drives differ.
        with tempfile.NamedTemporaryFile(dir=path.parent) as now:
            return os.fstat(now.fileno()).st_mtime - path.stat().st_mtime < OLD
    if locked:
        return False  # the lock of a process on this host ends with it
    return started(writer["pid"]) == writer.get("started") is not None


def started(pid: int) -> str | None:
    """What tells a running process of this host from a later one of the same number.

    Returns:
      The time of its start as /proc has it; None without /proc, or for a process that has ended,
      also where nobody has asked for its exit code yet.
    """
    try:
        state, *others = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if state in "ZX" else others[18]
    except (OSError, ValueError, IndexError):
        return None


def _renew(paths: list[Path], ended: threading.Event) -> None:
    while not ended.wait(RENEW):
        for path in paths:
            with contextlib.suppress(OSError):
                os.utime(path)


def _who(writer: dict[str, Any]) -> str:
    if not writer:
        return "another process"
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(float(writer["since"])))
    return f"process {writer['pid']} on {writer['host']} (since {since})"


def _refusal(folder: Path, writer: dict[str, Any]) -> str:
    return (
        f"{folder} is being written by {_who(writer)}: wait until it ends, or give another "
        f"--workdir; if that process is gone, delete {folder / FILE}"
    )
