"""What the processes of a run tell each other: texts in the key-value store of `jax.distributed`.

The store lies in process 0. It costs the devices nothing and answers while they are busy, which a
collective does not. A process that fails would leave the others waiting in a collective for ever,
so a thread in each looks at the store, and whatever ends one process ends all, with its message.
"""

import os
import sys
import threading
import time
import traceback
from typing import Protocol

from jaxseg.engine import signals
from jaxseg.errors import UserError

LOOK = 0.25  # seconds between looks at the store
GIVE_UP = 10  # seconds in which the others have to hear of a failure
FAILED, ENDED = "jaxseg-watch/failed/", "jaxseg-watch/ended/"


class Stepping(Protocol):
    """Who takes the steps of a run; see `interrupt.Interrupt`."""

    asked: bool

    def stand_still(self) -> int: ...
    def go_on(self, last: int) -> None: ...


class Watch:
    """This process among the others; from the making of it on they end together.

    Attributes:
      index, count: which of how many processes this is.
    """

    def __init__(self, index: int, count: int) -> None:
        from jax._src import distributed  # the store has no public name

        self.index, self.count, self._store = index, count, distributed.global_state.client
        self._gathered, self._runs = 0, 0
        self._run: tuple[str, Stepping, set[str]] | None = None
        self._ending, self._closed = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._look, name="watch", daemon=True)
        self._thread.start()

    def gather(self, what: str, value: str) -> list[str]:
        """See `processes.gather`."""
        self._gathered += 1
        folder = f"jaxseg/{self._gathered} {what}/"
        self._store.key_value_set(f"{folder}{self.index}", f"={value}")  # none may be empty
        # Asked for again and again: a signal is heard in between, as it is not within one call.
        while len(found := dict(self._store.key_value_dir_get(folder))) < self.count:
            time.sleep(LOOK / 5)
        return [found[f"{folder}{i}"].removeprefix("=") for i in range(self.count)]

    def attend(self, run: Stepping) -> None:
        """Lets all processes end after the same step of a run, once one of them is `asked` to."""
        self._runs += 1
        self._run = (f"jaxseg-watch/stop-{self._runs}/", run, set())

    def fail(self, error: BaseException) -> None:
        """Tells of this process's error, here and to the others, and ends the process."""
        if not isinstance(error, UserError | KeyboardInterrupt):
            time.sleep(3 * LOOK)  # it may well be that another one failed: then that one is told of
        self._ending.acquire()  # for good: whoever has it ends the process
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
        """Stops looking."""
        self._closed.set()
        self._thread.join(4 * LOOK)

    def _look(self) -> None:
        while not self._closed.wait(LOOK):
            try:
                found = dict(self._store.key_value_dir_get("jaxseg-watch/"))
                if self._run:
                    self._agree(found, *self._run)
            except Exception:  # the store is gone, and process 0 with it: JAX ends this one too
                continue
            for key in found:
                if key.startswith(FAILED):
                    self._follow(key.removeprefix(FAILED), found[key])

    def _agree(self, found: dict[str, str], folder: str, run: Stepping, said: set[str]) -> None:
        """Passes on the wish to end, and finds the step; `said` is what was done of that."""
        if run.asked and "asked" not in said:
            said.add("asked")
            self._store.key_value_set(f"{folder}asked", "yes", True)
        if f"{folder}asked" in found and "begun" not in said:
            said.add("begun")
            self._store.key_value_set(f"{folder}begun/{self.index}", str(run.stand_still()))
        begun = [int(step) for key, step in found.items() if key.startswith(f"{folder}begun/")]
        if len(begun) == self.count and "last" not in said:
            said.add("last")
            run.go_on(max(begun))

    def _follow(self, who: str, message: str) -> None:
        """Ends this process because another one has ended."""
        if self._ending.acquire(blocking=False):
            code, _, text = message.partition(" ")
            say(f"process {self.index} of {self.count} ends because process {who} has: {text}")
            self._end(int(code), "")

    def _end(self, code: int, message: str) -> None:
        """Ends this process when the others end as well; nothing else of it is run any more.

        What lies outside (a checkpoint manager that waits for the others, JAX taking leave of
        them) would not come to an end.
        """
        try:
            if message:
                self._store.key_value_set(f"{FAILED}{self.index}", message, True)
            self._store.key_value_set(f"{ENDED}{self.index}", "yes", True)
            until = time.monotonic() + GIVE_UP
            while time.monotonic() < until:
                if len(self._store.key_value_dir_get(ENDED)) == self.count:
                    break
                time.sleep(LOOK / 5)
            if self.index == 0:  # with which the store ends
                time.sleep(2 * LOOK)
        except Exception:  # the store is gone already
            pass
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)


def say(text: str) -> None:
    """A line on standard error."""
    print(f"{os.path.basename(sys.argv[0])}: {text}", file=sys.__stderr__, flush=True)
