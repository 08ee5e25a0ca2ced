"""The server's side of a worker process: starts it, asks it, ends it when it is idle."""

import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any

from jaxseg.errors import UserError
from jaxseg.web import launcher, worker

IDLE = 600.0  # seconds after which an idle worker is ended


class Failed(Exception):
    """The worker failed, which is no mistake of the user's: status 500."""


class Worker:
    """One worker process, started when it is first asked. Requests wait for each other."""

    def __init__(self, idle: float = IDLE) -> None:
        self._idle, self._turn, self._process = idle, threading.Lock(), None
        self._used, self._timer = time.monotonic(), None

    def ask(self, task: str, content: Mapping[str, Any], blob: bytes = b"") -> tuple[dict, bytes]:
        """The worker's answer to a task; see `worker.TASKS`.

        Raises:
          UserError: the request was at fault.
          Failed: the worker was.
        """
        with self._turn:
            process = self._running()
            try:
                worker.write(process.stdin, {**content, "task": task}, blob)
                found = worker.read(process.stdout)
            except (BrokenPipeError, OSError):
                found = None
            self._used = time.monotonic()
            if found is None:
                code = process.wait()
                self._process = None
                why = " (the system does so when memory runs out)" if code == -9 else ""
                raise Failed(f"the computing process ended with {code}{why}; the server's output "
                             "says more. The next request starts another one")  # fmt: skip
        made, out = found
        if not made.pop("ok"):
            raise (UserError if made["kind"] == "user" else Failed)(made["error"])
        return made, out

    def close(self) -> None:
        """Ends the process; the next request starts another one."""
        with self._turn:
            if self._timer:
                self._timer.cancel()
            process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(OSError):
                process.stdin.close()
            try:
                process.wait(3)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            process.stdout.close()

    @property
    def pid(self) -> int | None:
        """Of the process; None if there is none."""
        return self._process and self._process.pid

    def _running(self) -> subprocess.Popen:
        if self._process is None or self._process.poll() is not None:
            # Memory is taken as it is needed, so that a training beside it finds some.
            environment = launcher.environment()
            environment.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
            self._process = subprocess.Popen(
                [sys.executable, "-m", "jaxseg.web.worker"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment,
                start_new_session=True,  # Ctrl-C is for the server, which then ends this
            )  # fmt: skip
            self._watch()
        return self._process

    def _watch(self) -> None:
        def look() -> None:
            if time.monotonic() - self._used > self._idle and not self._turn.locked():
                self.close()
            elif self._process is not None:
                self._watch()

        self._timer = threading.Timer(min(30.0, self._idle), look)
        self._timer.daemon = True
        self._timer.start()
