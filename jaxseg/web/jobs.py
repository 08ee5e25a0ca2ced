"""The queue of jobs: trainings and the like, each a process of its own that outlives the server.

A job is a file `.web/jobs/ID.json` in the folder of runs. It is started through `attend.py`, which
writes the exit code beside it, in a session of its own: when the server ends, training goes on, and
the next server finds it again by its process id and starting time.
"""

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxseg.errors import UserError
from jaxseg.web import attend, launcher
from jaxseg.web.places import Missing, read_json, write_json

OPEN = ("queued", "running", "stopping")
TAIL = 64_000  # bytes of a log that are shown
KEPT = 400  # jobs that are remembered
HEAVY = ("train", "export")  # kinds that wait for each other; others run beside them
ASIDE = 2  # jobs of those other kinds at a time


class Queue:
    """Jobs in order, `width` trainings at a time. All methods may be called from any thread.

    Args:
      folder: of the jobs' files, created if it does not exist.
      width: trainings that run at the same time.

    Raises:
      UserError: another server uses the folder.
    """

    def __init__(self, folder: Path, width: int = 1) -> None:
        self._folder, self._width = folder, width
        self._change, self._ended = threading.RLock(), threading.Event()
        folder.mkdir(parents=True, exist_ok=True)
        self._alone = open(folder / "lock", "a")
        try:
            fcntl.flock(self._alone, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._alone.close()
            raise UserError(
                f"another server looks after the runs in {folder.parent.parent}: end it first, or "
                "give another --runs=DIR"
            ) from error
        self._jobs = {j["id"]: j for j in self._saved()}
        for job in self._jobs.values():  # begun by a server that was killed before it noted it
            if job["state"] == "queued" and self._path(job["id"], "log").exists():
                self._adopt(job)
        self.look()

    def _saved(self) -> Iterator[dict]:
        paths = sorted(p for p in self._folder.glob("*.json") if not p.name.startswith("."))
        for path in paths[:-KEPT]:
            for old in self._folder.glob(f"{path.stem}.*"):
                old.unlink(missing_ok=True)
        yield from filter(None, map(read_json, paths[-KEPT:]))

    def start(self) -> None:
        """Looks after the jobs in a thread until `close`."""

        def go_on() -> None:
            while not self._ended.wait(0.4):
                with contextlib.suppress(OSError):  # a full disk; the next look tries again
                    self.look()

        threading.Thread(target=go_on, name="jobs", daemon=True).start()

    def close(self) -> None:
        """Ends looking after the jobs; those that run go on."""
        self._ended.set()
        with self._change:
            self._alone.close()

    def add(
        self, kind: str, argv: Sequence[str], *, run: str = "", title: str = "",
        more: Mapping[str, Any] | None = None,
    ) -> dict:  # fmt: skip
        """Appends a job.

        Args:
          kind: what the pages call it: 'train', 'data', 'import', 'export', 'inspect'.
          argv: the command; no shell reads it.
          run: name of the run whose folder it writes; '' for none.
          title: one line for the list.
          more: kept with the job.

        Raises:
          UserError: another job writes this folder.
        """
        with self._change:
            if run and (other := self._open_job(run)):
                raise UserError(f"{run} is {other['state']} already: one writer for each folder")
            number = stamp()
            job = {
                "id": number, "kind": kind, "run": run, "title": title or run, "argv": list(argv),
                "state": "queued", "created": time.time(), "started": None, "ended": None,
                "code": None, "said": "", **(more or {}),
            }  # fmt: skip
            self._jobs[number] = job
            self._write(job)
            self.look()
            return dict(job)

    def stop(self, number: str) -> dict:
        """Ends a job: a queued one at once; a training saves its state first."""
        with self._change:
            job = self._named(number)
            if job["state"] == "queued":
                self._end(job, "cancelled", None)
            elif job["state"] in OPEN:
                # The first signal ends a training after its step, a second one at once.
                self._signal(job, signal.SIGINT)
                job["state"] = "stopping"
                self._write(job)
            return dict(job)

    def jobs(self) -> list[dict]:
        """All jobs, the newest first."""
        with self._change:
            return [dict(j) for j in sorted(self._jobs.values(), key=_age, reverse=True)]

    def get(self, number: str) -> dict:
        """A job; Missing if there is none of this id."""
        with self._change:
            return dict(self._named(number))

    def log(self, number: str) -> str:
        """The end of what a job has printed."""
        self.get(number)
        return tail(self._path(number, "log"))

    def state_of(self, run: str) -> dict[str, Any]:
        """{'job', 'job_state', 'said'} of the newest job that writes a run's folder."""
        with self._change:
            job = self._latest(run)
            return {
                "job": job and job["id"],
                "job_state": job and job["state"],
                "said": job["said"] if job else "",
            }

    def coming(self) -> list[str]:
        """The runs whose training waits or has begun, the newest first."""
        return [j["run"] for j in self.jobs() if j["kind"] == "train" and j["state"] in OPEN]

    def tail(self, run: str) -> dict[str, Any]:
        """The end of the log of the newest job of a run, with the job's state."""
        state = self.state_of(run)
        return {**state, "log": self.log(state["job"]) if state["job"] else ""}

    def look(self) -> None:
        """Notices jobs that have ended, and starts the next ones."""
        with self._change:
            for job in self._jobs.values():
                if job["state"] in ("running", "stopping"):
                    self._check(job)
            for lane, width in ((True, self._width), (False, ASIDE)):
                own = [j for j in self._jobs.values() if (j["kind"] in HEAVY) == lane]
                free = width - sum(j["state"] in OPEN[1:] for j in own)
                queued = [j for j in own if j["state"] == "queued"]
                for job in sorted(queued, key=_age)[: max(0, free)]:
                    self._begin(job)

    def _begin(self, job: dict) -> None:
        """Starts a job's process in a session of its own."""
        log, code = (self._path(job["id"], end) for end in ("log", "code"))
        code.unlink(missing_ok=True)
        environment = launcher.environment(COLUMNS="120", PYTHONUNBUFFERED="1")
        try:
            with open(log, "ab") as output:
                process = subprocess.Popen(
                    [sys.executable, attend.__file__, str(code), *job["argv"]],
                    stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                    start_new_session=True, env=environment, cwd=job.get("cwd"),
                )  # fmt: skip
        except OSError as error:
            job["said"] = str(error)
            self._end(job, "failed", None)
            return
        threading.Thread(target=process.wait, daemon=True).start()  # leaves no zombie
        job |= {"state": "running", "started": time.time(), "pid": process.pid,
                "born": attend.born(process.pid)}  # fmt: skip
        self._write(job)

    def _check(self, job: dict) -> None:
        code = self._path(job["id"], "code")
        if attend.born(job["pid"]) == job["born"] is not None:
            return
        text = code.read_text() if code.exists() else ""
        ended = int(text) if text.strip().lstrip("-").isdigit() else None
        if ended is None and self._adopt(job):  # the attendant was killed, and not the training
            return
        stopped = job["state"] == "stopping" or ended in (130, -signal.SIGINT)
        if ended == 0:
            state = "done"
        elif stopped and (ended is not None or job.get("adopted")):
            state = "stopped"
        else:
            state, job["said"] = "failed", said(ended, self.log(job["id"]))
            if job.get("adopted") and ended is None:
                job["said"] = f"its attendant was killed, its exit code is not known: {job['said']}"
        self._end(job, state, ended)

    def _adopt(self, job: dict) -> bool:
        """Finds a job's process by its command, where the one that was noted is gone."""
        known = {j["pid"] for j in self._jobs.values() if j.get("pid") and j["state"] in OPEN}
        pid = attend.living(job["argv"], known)
        if pid is None:
            return False
        job |= {"pid": pid, "born": attend.born(pid), "adopted": True}
        if job["state"] == "queued":
            job |= {"state": "running", "started": time.time()}
        self._write(job)
        return True

    def _end(self, job: dict, state: str, code: int | None) -> None:
        job |= {"state": state, "ended": time.time(), "code": code}
        self._write(job)

    def _signal(self, job: dict, number: int) -> None:
        """To the attendant alone, which hands it on: a group would get it twice."""
        if attend.born(job["pid"]) == job["born"] is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(job["pid"], number)

    def _latest(self, run: str) -> dict | None:
        return max((j for j in self._jobs.values() if j["run"] == run), key=_age, default=None)

    def _open_job(self, run: str) -> dict | None:
        return next(
            (j for j in self._jobs.values() if j["run"] == run and j["state"] in OPEN), None
        )

    def _named(self, number: str) -> dict:
        if number not in self._jobs:
            raise Missing(f"there is no job {number!r}")
        return self._jobs[number]

    def _path(self, number: str, end: str) -> Path:
        return self._folder / f"{number}.{end}"

    def _write(self, job: dict) -> None:
        write_json(self._path(job["id"], "json"), job)


_age: Callable[[dict], tuple] = lambda job: (job["created"], job["id"])  # noqa: E731


def said(code: int | None, log: str) -> str:
    """Why a job failed, in one line: its last words, or the signal that ended it."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    last = lines[-1] if lines else "it printed nothing"
    if code is None:
        return f"it disappeared without an exit code; its last words: {last}"
    if code in (-signal.SIGKILL, 128 + signal.SIGKILL):
        return f"killed, as the system does when memory runs out; its last words: {last}"
    if code < 0:
        return f"ended by {signal.Signals(-code).name}; its last words: {last}"
    return last


def tail(path: Path, most: int = TAIL) -> str:
    """The end of a text file, from the start of a line on; '' if there is none."""
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - most))
            data = file.read()
    except OSError:
        return ""
    if size > most:
        data = data[data.find(b"\n") + 1 :]
    return data.decode("utf-8", "replace")


def stamp() -> str:
    """A name by the present time that no other one has."""
    return f"{time.strftime('%Y%m%d-%H%M%S')}-{time.time_ns() % 10**9 // 1000:06d}"
