"""The end of a run that is asked for: Ctrl-C or SIGTERM, in one process or in several."""

import signal
import threading
from typing import Any

from jaxseg.engine import processes, signals


class Interrupt:
    """Ctrl-C or SIGTERM ask for an end after the step in hand; a second one ends at once.

    With several processes a signal to one of them is enough, and all end after the same step: when
    they hear of it, each stands still for a moment and says which step it has begun, and the
    furthest of these is the last.

    Args:
      step: that the run goes on from; the next one is about to begin.
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
        processes.attend(self)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: Any) -> None:
        self.asked = True
        signals.heard(number)
        for each, handler in self._before.items():  # the second signal may be another one
            signal.signal(each, handler)

    def ends_after(self, step: int) -> bool:
        """Whether `step`, which is done, was the last one; if not, the next one has begun."""
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
        """Lets no further step begin; returns the one that has."""
        with self._moving:
            self._still = True
            return self._begun

    def go_on(self, last: int) -> None:
        """Lets steps begin again, up to the last."""
        with self._moving:
            self._last, self._still = last, False
            self._moving.notify_all()
