"""Parts of `attack.py`: how tries ended, counted in a file, and how long to go on."""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent


class Share(NamedTuple):
    """What a part of the attack may use."""

    seconds: float
    tries: int


class Counts:
    """How the tries ended, kept in a file, from this call and those before it."""

    def __init__(self, path: Path) -> None:
        self._path, self.wrong = path, False
        self.all: dict[str, dict[str, int]] = json.loads(path.read_text()) if path.exists() else {}

    def add(self, name: str, end: str, count: int = 1) -> None:
        """Counts the end of an attack; `wrong` if it begins with WRONG."""
        ends = self.all.setdefault(name, {})
        ends[end] = ends.get(end, 0) + count
        self.wrong |= end.startswith("WRONG")
        self._path.write_text(json.dumps(self.all, indent=1))


def until(share: Share, begun: float | None = None) -> Iterator[int]:
    """Counts for as long as there is time from `begun` (now) on, once at least."""
    end, number = (begun or time.monotonic()) + share.seconds, 0
    while number == 0 or (time.monotonic() < end and number < share.tries):
        yield number
        number += 1


def environment() -> dict[str, str]:
    path = os.pathsep.join((str(ROOT), str(ROOT / "tests")))
    return os.environ | {"PYTHONPATH": path, "JAX_PLATFORMS": "cpu"}
