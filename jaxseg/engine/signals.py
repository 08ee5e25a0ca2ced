"""Ctrl-C and SIGTERM from the start of a process to its end.

At first, while modules are imported and flags are read, nothing is open and a signal ends the
process at once: an exception in the middle of an import is printed by some modules in C, and lost
in others. Then `unwind` says that a signal is to raise KeyboardInterrupt.

Python runs signal handlers between two bytecode instructions, and XLA may compile for minutes
within one. So a thread listens for signals as well: whatever the main thread is doing, the second
signal ends the process within GRACE seconds.
"""

import contextlib
import functools
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from typing import Any, NoReturn

GRACE = 2.0  # seconds that the second signal leaves for an orderly end of the process
AGAIN = 0.05  # seconds until an interrupt that was lost is raised again
SIGNALS = (signal.SIGINT, signal.SIGTERM)

_last = signal.SIGINT  # the latest signal received
_raised = False
_unwinds = False  # whether a signal raises KeyboardInterrupt
_ears: tuple[socket.socket, socket.socket] | None = None  # wake the listening thread


def guard() -> None:
    """Makes SIGTERM and Ctrl-C end the process in the same way, and starts the listening thread.

    Call it in the main thread before anything slow; further calls do nothing.
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


def unwind() -> None:
    """From now on SIGTERM and Ctrl-C raise KeyboardInterrupt, because there is something to end in
    good order; call it in the main thread.
    """
    global _unwinds
    if not _unwinds:
        _unwinds = True
        signal.signal(signal.SIGALRM, _raise_again)
        sys.unraisablehook = functools.partial(_lost, sys.unraisablehook)


def check() -> None:
    """Raises KeyboardInterrupt once more after a signal, in case that somebody caught the first."""
    if _raised:
        raise KeyboardInterrupt


def heard(number: int) -> None:
    """Records the number of the signal, for `code`."""
    global _last
    _last = signal.Signals(number)


def code() -> int:
    """The exit code of a process that was ended by a signal: 130 for Ctrl-C, 143 for SIGTERM."""
    return 128 + _last


def raised() -> bool:
    """Whether a signal raised KeyboardInterrupt, which C libraries may turn into other errors."""
    return _raised


def leave() -> NoReturn:
    """Ends an interrupted process in good order; a further signal ends it at once."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    if _raised:  # anywhere: threads of libraries may be at work, which crash as Python ends
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):  # closed
                stream.flush()
        os._exit(code())
    sys.exit(code())


def _interrupted(number: int, frame: Any) -> None:
    global _raised
    heard(number)
    if not _unwinds:
        os.write(2, f"{os.path.basename(sys.argv[0])}: interrupted\n".encode())
        os._exit(code())
    _raised = True
    raise KeyboardInterrupt


def _lost(before: Callable[[Any], object], unraisable: Any) -> None:
    """Raises an interrupt again a little later, if it was lost in a destructor or a callback of the
    garbage collector, of which JAX has one: exceptions do not leave them.
    """
    if _raised and issubclass(unraisable.exc_type, KeyboardInterrupt):
        signal.setitimer(signal.ITIMER_REAL, AGAIN)
    else:
        before(unraisable)


def _raise_again(number: int, frame: Any) -> None:
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
