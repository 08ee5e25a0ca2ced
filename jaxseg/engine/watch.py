"""Messages between the processes of a run, in the key-value store of `jax.distributed`.

The store lives in process 0. It does not use the devices and answers while they are busy, unlike a
collective. If one process failed, the others would wait in a collective for ever; so a thread in
each process polls the store, and ends the process when another has ended, with its message. It also
gives signs of life: a process that was killed, or whose host is gone, leaves no message.
"""

import contextlib
import os
import re
import sys
import threading
import time
import traceback
from typing import NoReturn, Protocol

from jaxseg.engine import signals
from jaxseg.engine.relay import Relay
from jaxseg.errors import UserError

LOOK = 0.25  # seconds between two polls of the store
GIVE_UP = 10  # seconds that a failing process waits for the others to notice
SILENT = 40  # seconds without a sign of life after which a process counts as killed
LOST = 1.0  # seconds without the store after which process 0 counts as killed
BEAT = 2.0  # seconds between two signs of life
FAILED, ENDED = "jaxseg-watch/failed/", "jaxseg-watch/ended/"
ALIVE, CLOSED = "jaxseg-watch/alive/", "jaxseg-watch/closed/"


class Stepping(Protocol):
    """The part of `interrupt.Interrupt` that agrees on the last step."""

    asked: bool

    def stand_still(self) -> int: ...
    def go_on(self, last: int) -> None: ...


class Watch:
    """Watches the other processes; once it is created, all of them end together.

    Attributes:
      index: of this process, from 0.
      count: number of processes.
      through: how this process is connected to process 0, if it watches that connection.
    """

    def __init__(self, index: int, count: int, through: Relay | None = None) -> None:
        from jax._src import distributed  # the store has no public name

        self.index, self.count, self._store = index, count, distributed.global_state.client
        self._gathered, self._runs = 0, 0
        self._run: tuple[str, Stepping, set[str]] | None = None
        self._beaten = 0.0  # when this process last gave a sign of life
        begun = time.monotonic()
        self._heard = {i: ("", begun) for i in range(count) if i != index}  # last sign, since when
        self._lost: float | None = None  # since when the store does not answer
        self._ending, self._closed = threading.Lock(), threading.Event()
        self._code = 1  # with which this process ends, if it does
        self._thread = threading.Thread(target=self._look, name="watch", daemon=True)
        self._thread.start()
        self._through = through
        if through:
            through.watch(lambda what: self._give_up("process 0", what, silent=True))

    def gather(self, what: str, value: str) -> list[str]:
        """See `processes.gather`."""
        self._gathered += 1
        folder = f"jaxseg/{self._gathered} {what}/"
        self._store.key_value_set(f"{folder}{self.index}", f"={value}")  # must not be empty
        # Polled, because signal handlers cannot run inside one long blocking call.
        while len(told := dict(self._store.key_value_dir_get(folder))) < self.count:
            time.sleep(LOOK / 5)
        return [told[f"{folder}{i}"].removeprefix("=") for i in range(self.count)]

    def attend(self, run: Stepping) -> None:
        """See `processes.attend`."""
        self._runs += 1
        self._run = (f"jaxseg-watch/stop-{self._runs}/", run, set())

    def fail(self, error: BaseException) -> None:
        """Prints this process's error, sends it to the others, and ends the process."""
        if not isinstance(error, UserError | KeyboardInterrupt):
            time.sleep(3 * LOOK)  # if another process caused this error, its message is shown
        if cut_off(error):  # in the middle of a collective
            other = f"process {1 - self.index}" if self.count == 2 else "another process"
            self._give_up(other, "is gone")
        self._ending.acquire()  # never released: the thread that has it ends the process
        if isinstance(error, KeyboardInterrupt):
            text, code = "interrupted", signals.code()
        elif isinstance(error, UserError):
            text, code = str(error), 2
        else:
            traceback.print_exception(error, file=sys.__stderr__)
            text, code = f"{type(error).__name__}: {error}".splitlines()[0], 1
        say(f"process {self.index} of {self.count}: {text}")
        self._end(code, f"{code} {text.splitlines()[0]}")

    def close(self) -> None:
        """Stops polling."""
        if self._through:
            self._through.watch(None)
        with contextlib.suppress(Exception):  # the store may be gone
            self._store.key_value_set(f"{CLOSED}{self.index}", "yes", True)
        self._closed.set()
        self._thread.join(4 * LOOK)

    def _look(self) -> None:
        while not self._closed.wait(LOOK):
            now = time.monotonic()
            try:
                if now - self._beaten > BEAT:
                    self._store.key_value_set(f"{ALIVE}{self.index}", f"{now}", True)
                    self._beaten = now
                entries = dict(self._store.key_value_dir_get("jaxseg-watch/"))
                if self._run:
                    self._agree(entries, *self._run)
            except Exception:  # process 0 and its store are gone; JAX aborts this process soon
                self._lost = self._lost or now
                if now - self._lost > LOST and not self._closed.is_set():
                    self._give_up("process 0", "is gone")
                continue
            self._lost = None
            for key in entries:
                if key.startswith(FAILED):
                    self._follow(key.removeprefix(FAILED), entries[key])
            self._listen(entries, now)

    def _listen(self, entries: dict[str, str], now: float) -> None:
        """Ends this process if another one has given no sign of life for too long."""
        for process, (sign, since) in self._heard.items():
            latest = entries.get(f"{ALIVE}{process}", "")
            if latest != sign or f"{CLOSED}{process}" in entries:
                self._heard[process] = (latest, now)
            elif now - since > SILENT:
                self._give_up(f"process {process}", f"has given no sign of life for {SILENT} s")

    def _give_up(self, who: str, what: str, *, silent: bool = False) -> None:
        """Ends this process because another one is gone; `silent`: the store does not answer."""
        if self._ending.acquire(blocking=False):
            say(
                f"process {self.index} of {self.count} ends because {who} {what}: it "
                "was killed, or its host is gone; the same command in all processes goes on from "
                "the last checkpoint"
            )
            if silent:
                _leave(1)
            self._end(1, "", missing=1)
        elif silent:  # this process is ending already, and would wait for the store
            time.sleep(4 * LOOK)
            _leave(self._code)

    def _agree(self, entries: dict[str, str], folder: str, run: Stepping, said: set[str]) -> None:
        """Sends the request to end and agrees on the last step; `said`: messages already sent."""
        if run.asked and "asked" not in said:
            said.add("asked")
            self._store.key_value_set(f"{folder}asked", "yes", True)
        if f"{folder}asked" in entries and "begun" not in said:
            said.add("begun")
            self._store.key_value_set(f"{folder}begun/{self.index}", str(run.stand_still()))
        begun = [int(step) for key, step in entries.items() if key.startswith(f"{folder}begun/")]
        if len(begun) == self.count and "last" not in said:
            said.add("last")
            run.go_on(max(begun))

    def _follow(self, who: str, message: str) -> None:
        """Ends this process because another one has ended."""
        if self._ending.acquire(blocking=False):
            code, _, text = message.partition(" ")
            say(f"process {self.index} of {self.count} ends because process {who} has: {text}")
            self._end(int(code), "")

    def _end(self, code: int, message: str, missing: int = 0) -> None:
        """Ends this process with the others, without unwinding the stack: outer contexts (a
        checkpoint manager that waits for the others, JAX's disconnection) would never return.
        """
        self._code = code
        try:
            if message:
                self._store.key_value_set(f"{FAILED}{self.index}", message, True)
            self._store.key_value_set(f"{ENDED}{self.index}", "yes", True)
            until = time.monotonic() + GIVE_UP
            while time.monotonic() < until:
                if len(self._store.key_value_dir_get(ENDED)) >= self.count - missing:
                    break
                time.sleep(LOOK / 5)
            if self.index == 0:  # the store ends with this process
                time.sleep(2 * LOOK)
        except Exception:  # the store is gone already
            pass
        _leave(code)


def cut_off(error: BaseException) -> bool:
    """Whether an error of a collective (Gloo's on CPUs, NCCL's on GPUs) says that the connection to
    another process broke."""
    text = str(error)
    return bool(
        re.search(r"(?i)gloo.*(by peer|(read|write) error|broken pipe)", text, re.DOTALL)
    ) or ("remote process exited" in text)


def _leave(code: int) -> NoReturn:
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)


def say(text: str) -> None:
    """A line on standard error."""
    print(f"{os.path.basename(sys.argv[0])}: {text}", file=sys.__stderr__, flush=True)
