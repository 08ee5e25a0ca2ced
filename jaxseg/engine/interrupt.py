"""Ends a run in good order after Ctrl-C or SIGTERM, with one process or several."""

import signal
import threading
from typing import Any

from jaxseg.engine import processes, signals


class Interrupt:
    """A first Ctrl-C or SIGTERM ends the run after the current step; a second one ends it at once.

    With several processes a signal to one of them is enough, and all end after the same step: each
    pauses and reports the step it has begun, and the latest of these becomes the last step.

    Args:
      step: the step that the run resumes from; the next one is about to begin.
    """

    def __init__(self, step: int) -> None:
        self.asked = False
        self._begun = step + 1
        self._last: int | None = None
        self._still = False  # no further step may begin
        self._moving = threading.Condition()

    def __enter__(self) -> "Interrupt":
        self._before: dict[int, Any] = {}
        for number in signals.SIGNALS:
            try:
                self._before[number] = signal.signal(number, self._ask)
            except ValueError:  # not the main thread
                pass
        signals.check()
        processes.attend(self)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: Any) -> None:
        self.asked = True
        signals.heard(number)
        for each, handler in self._before.items():  # the second signal may be of the other kind
            signal.signal(each, handler)

    def ends_after(self, step: int) -> bool:
        """Whether the completed `step` was the last one; if not, the next one counts as begun."""
        if processes.count() == 1:
            return self.asked
        with self._moving:
            while self._still:
                self._moving.wait(1.0)
            if self._last is not None and step >= self._last:
                return True
            self._begun = step + 1
            return False

    def stand_still(self) -> int:
        """Lets no further step begin; returns the latest step that has begun."""
        with self._moving:
            self._still = True
            return self._begun

    def go_on(self, last: int) -> None:
        """Lets steps begin again, up to step `last`."""
        with self._moving:
            self._last, self._still = last, False
            self._moving.notify_all()
