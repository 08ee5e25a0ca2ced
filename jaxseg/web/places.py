"""The folders that the server may read and write, and paths within them."""

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

from jaxseg.errors import UserError

OWN = ".web"  # folder of the server's own files, in the folder of the runs


class Missing(UserError):
    """What was asked for is not there: status 404."""


class Places(NamedTuple):
    """Where everything lies.

    Attributes:
      runs: holds the run folders; new ones are made here.
      data: published and own data sets, weight files: what may be chosen on the pages.
      records: prepared records; empty for the default folder in the user's cache.
    """

    runs: Path
    data: Path
    records: str = ""

    @property
    def own(self) -> Path:
        """The server's own files: jobs, logs, data sets made here."""
        return self.runs / OWN


def within(root: Path, relative: str) -> Path:
    """A path below a root that exists there.

    Args:
      root: a folder.
      relative: comes from outside; may try to leave the root with '..', an absolute path or a link.

    Raises:
      UserError: it leaves the root.
      Missing: nothing is there.
    """
    if "\0" in relative:
        raise UserError("a path cannot hold a zero byte")
    top = root.resolve()
    path = (top / relative).resolve()
    if not path.is_relative_to(top):
        raise UserError(f"{relative} is not within {root}")
    if not path.exists():
        raise Missing(f"there is no {relative} in {root}")
    return path


def new_name(name: str) -> str:
    """A name for a new folder, as it was given.

    Raises:
      UserError: it could not be one.
    """
    allowed = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.")
    if not name or len(name) > 100 or name[0] in ".-" or set(name) - allowed:
        raise UserError(f"{name!r} is no name for a folder: give letters, digits, _ and -")
    return name


def read_json(path: Path) -> Any:
    """The content of a JSON file; None if it is missing or not whole."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def write_json(path: Path, content: Any) -> None:
    """Writes a JSON file so that a reader sees the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(content, indent=1), encoding="utf-8")
    os.replace(temporary, path)
