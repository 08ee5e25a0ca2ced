"""Ctrl-C and SIGTERM from the start of a process to its end.

Python hears of a signal between two steps of its interpreter, and XLA compiles for minutes within
one. So a thread listens as well: whatever the main thread is at, the second signal ends the process
within GRACE seconds.
"""

import os
import signal
import socket
import sys
import threading
from typing import Any, NoReturn

GRACE = 2.0  # seconds for a second signal's KeyboardInterrupt to end the process in order
SIGNALS = (signal.SIGINT, signal.SIGTERM)

_last = signal.SIGINT  # that was heard
_raised = False
_ears: tuple[socket.socket, socket.socket] | None = None  # of the thread


def guard() -> None:
    """Makes SIGTERM end the process as Ctrl-C does, by KeyboardInterrupt, and starts the thread.

    To be called once, in the main thread, before anything slow.
    """
    global _ears
    if _ears is not None:
        return
    _ears = socket.socketpair()
    _ears[1].setblocking(False)
    signal.set_wakeup_fd(_ears[1].fileno(), warn_on_full_buffer=False)
    for number in SIGNALS:
        signal.signal(number, _interrupted)
    threading.Thread(target=_listen, args=(_ears[0],), name="signals", daemon=True).start()


def heard(number: int) -> None:
    """Keeps which signal it was, for `code`."""
    global _last
    _last = signal.Signals(number)


def code() -> int:
    """The exit code of a process that was ended by a signal: 130 for Ctrl-C, 143 for SIGTERM."""
    return 128 + _last


def raised() -> bool:
    """Whether a signal has raised KeyboardInterrupt: libraries in C make other errors of it."""
    return _raised


def leave() -> NoReturn:
    """Ends a process that was interrupted; a further signal ends it on the spot."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    sys.exit(code())


def _interrupted(number: int, frame: Any) -> None:
    global _raised
    heard(number)
    _raised = True
    raise KeyboardInterrupt


def _listen(ear: socket.socket) -> None:
    """Waits for the second signal; then the main thread has GRACE seconds left."""
    count = 0
    while count < 2:
        for number in ear.recv(16):
            if number in SIGNALS:
                heard(number)
                count += 1
    threading.Event().wait(GRACE)
    try:
        print("ended at once", file=sys.__stderr__, flush=True)
    finally:
        os._exit(code())
