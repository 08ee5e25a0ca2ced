"""The workers of a search: who is at work on a trial, and what becomes of the trials of dead ones.

A worker touches worker.json in its trial's folder as long as it works on it. The file names the
host and the processes of worker and training. A trial counts as abandoned if both processes are
gone (another may have their number by now), or, on another host, if the file has not been touched
for some minutes. Then the study marks it as failed, and puts its values in the queue again with its
folder, whose checkpoint the next worker goes on from.
"""

import contextlib
import json
import os
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from jaxseg.storage import run_folder, run_lock

FILE = "worker.json"
PATIENCE = 300.0  # seconds
BEAT = 10.0  # seconds between signs of life
BEGINNING = 5.0  # seconds in which a new trial is left alone


@contextlib.contextmanager
def at_work(folder: Path) -> Iterator[Callable[[int], None]]:
    """Says that this process works on the folder's trial.

    Yields:
      A function to call now and then, with the number of the training process.
    """
    path, last, shown = folder / FILE, 0.0, 0

    def alive(training: int) -> None:
        nonlocal last, shown
        if training != shown:
            both = {"worker": os.getpid(), "training": training}
            since = {role: run_lock.started(process) for role, process in both.items()}
            about = {"host": socket.gethostname(), **both, "since": since}
            run_folder.write_text(path, json.dumps(about))
        elif time.monotonic() - last > BEAT:
            os.utime(path)
        else:
            return
        last, shown = time.monotonic(), training

    alive(-1)
    yield alive
    path.unlink(missing_ok=True)


def counted(study: Any) -> list[Any]:
    """The trials that count: all that ran or run, but for those that were given back."""
    return [
        t
        for t in study.get_trials(deepcopy=False)
        if t.state.name in ("COMPLETE", "PRUNED", "RUNNING")
        or (t.state.name == "FAIL" and "error" in t.user_attrs)
    ]


def hand_back(study: Any, number: int, folder: str) -> None:
    """Marks a trial as failed, and queues its values with its folder."""
    from optuna.trial import TrialState

    trial = study.get_trials(deepcopy=False)[number]
    with contextlib.suppress(ValueError, RuntimeError):  # another worker has just done it
        study.tell(number, state=TrialState.FAIL)
        study.enqueue_trial(trial.params, user_attrs={"folder": folder})


def free_stale(study: Any, folder: Path, patience: float, announce: Callable[[str], None]) -> None:
    """Hands back the trials of workers that are gone."""
    for trial in study.get_trials(deepcopy=False):
        if trial.state.name != "RUNNING":
            continue
        name = trial.user_attrs.get("folder") or f"trial_{trial.number:04d}"
        if _abandoned(folder / name, trial, patience):
            announce(f"trial {trial.number}: its worker is gone; it goes on as a new trial")
            hand_back(study, trial.number, name)


def _abandoned(folder: Path, trial: Any, patience: float) -> bool:
    path = folder / FILE
    started = trial.datetime_start.timestamp() if trial.datetime_start else 0.0
    if time.time() - started < BEGINNING:
        return False
    try:
        about = json.loads(path.read_text())
        touched = path.stat().st_mtime
    except (OSError, ValueError):  # the worker ended between asking and beginning
        return time.time() - started > patience
    if about.get("host") == socket.gethostname():
        since = about.get("since", {})
        return not any(runs(about.get(role), since.get(role)) for role in ("worker", "training"))
    # The clock of the shared file system, which may not be this host's.
    with tempfile.NamedTemporaryFile(dir=folder) as probe:
        return os.stat(probe.name).st_mtime - touched > patience


def runs(process: Any, since: str | None = None) -> bool:
    """Whether a process of this number, and of this start if it is known, runs on this host."""
    if not isinstance(process, int) or process <= 0:
        return False
    if (found := run_lock.started(process)) is not None:
        return since in (None, found)
    if run_lock.started(os.getpid()) is not None:  # where /proc tells, it has ended
        return False
    try:
        os.kill(process, 0)
    except PermissionError:
        return True
    except OSError:
        return False
    return True
