"""What repeats a run, kept as `made` in its config.json: command, versions, data, dates."""

import contextlib
import datetime
import hashlib
import importlib.metadata
import platform
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

import jaxseg
from jaxseg.data import pipeline, records
from jaxseg.errors import UserError
from jaxseg.experiment import batches
from jaxseg.storage import run_folder

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "ml-collections")
END = ("ended", "outcome", "at_step")  # of the latest start; gone while training runs
HASHED = 64  # records of a split that its fingerprint is taken of


class Clock:
    """Notes in the runs' config.json when training began and ended, how, and for how long it ran.

    A context around the training. However it is left, `outcome` says why: 'finished',
    'interrupted', or the error. Only a process that is killed notes no end. `at_step` is the last
    checkpoint's step, and `seconds` adds up what the starts of a run have noted.

    Args:
      folders: of the runs, each with its config.json.
      facts: see `facts`. A run that is resumed keeps those of its beginning, except that another
        command is noted as `resumed_with`.
      saved: the step of the last checkpoint.

    Attributes:
      finished: whether training came to its end; to be set within the context.
    """

    def __init__(self, folders: Sequence[str], facts: dict[str, Any], saved: Callable[[], int]):
        self._folders, self._facts, self._saved = folders, facts, saved
        self.finished = False

    def __enter__(self) -> "Clock":
        self._began, self._start = time.monotonic(), self._saved()
        self._before = [run_folder.read_made(folder) for folder in self._folders]
        now = _now()
        for folder, before in zip(self._folders, self._before, strict=True):
            made = {key: value for key, value in before.items() if key not in END}
            if not made:
                made = {**self._facts, "started": now}
            elif made.get("command") != self._facts.get("command"):
                made["resumed_with"] = self._facts.get("command", "")
            run_folder.write_made(folder, made)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        outcome = "finished" if self.finished else "interrupted"
        if error is not None and not isinstance(error, KeyboardInterrupt):
            said = (str(error).splitlines() or [""])[0]
            outcome = said if isinstance(error, UserError) else f"{type(error).__name__}: {said}"
        # A disk that is full must not hide the error that it caused.
        with contextlib.suppress(OSError) if error is not None else contextlib.nullcontext():
            self._note(outcome)

    def _note(self, outcome: str) -> None:
        seconds, step = time.monotonic() - self._began, self._saved()
        for folder, before in zip(self._folders, self._before, strict=True):
            if before.get("outcome") == outcome == "finished" and step == self._start:
                run_folder.write_made(folder, before)  # there was nothing left to train
                continue
            total = round(before.get("seconds", 0.0) + seconds, 1)
            ended = {"ended": _now(), "outcome": outcome, "at_step": step, "seconds": total}
            run_folder.write_made(folder, run_folder.read_made(folder) | ended)


def facts(config: ConfigDict, reads: Sequence[str], command: str = "") -> dict[str, Any]:
    """All that can be known at the beginning.

    Args:
      config: of the run; its records are prepared.
      reads: the keys of a batch that the method's losses use.
      command: as typed, if there was one.
    """
    device = jax.devices()[0]
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        **({"command": command} if command else {}),
        "jaxseg": jaxseg.__version__,
        **(
            {"commit": commit} if (commit := commit_of(Path(jaxseg.__file__).parent.parent)) else {}
        ),
        "versions": versions,
        "device": f"{jax.device_count()} x {device.device_kind} ({device.platform})",
        "processes": jax.process_count(),
        "data": {name: fingerprint(source) for name, source in _sources(config, reads)},
    }


def _sources(config: ConfigDict, reads: Sequence[str]) -> Iterable[tuple[str, records.Source]]:
    """The splits that training reads and scores, with their names."""
    data = config.data
    for side in pipeline.SIDES:
        if pipeline.keys_of(side, reads):
            opened = batches.open_records(config, data[side], data[side].split)
            yield f"{side} {data[side].split}", opened
    split = data.target.val_split
    if split:
        yield f"target {split}", batches.open_records(config, data.target, split, as_published=True)


def fingerprint(source: records.Source) -> str:
    """A split in a few words, such as '400 images, sha256 0f3c...' of ids and contents.

    It depends on neither machine nor folder. Of a large split HASHED records are read, evenly over
    it: all records would take minutes where there are tens of thousands.
    """
    total, count = hashlib.sha256(str(len(source)).encode()), min(HASHED, len(source))
    for i in range(count):
        record = source[i * len(source) // count]
        for key in ("id", *sorted(source.has)):
            value = record[key]
            total.update(value.encode() if isinstance(value, str) else value)
    return f"{len(source)} images, sha256 {total.hexdigest()[:16]}"


def commit_of(folder: Path) -> str:
    """The commit of a checkout, with '+changes' if files differ from it; '' if it is none."""
    if not (folder / ".git").exists():
        return ""
    try:
        told = [
            subprocess.run(
                ["git", "-C", str(folder), *words], capture_output=True, text=True, timeout=10,
                check=True,
            ).stdout.strip()
            for words in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
        ]  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return ""
    return told[0] + ("+changes" if told[1] else "")


def _now() -> str:
    return datetime.datetime.now().astimezone().isoformat(timespec="seconds")
