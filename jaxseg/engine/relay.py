"""The connection of a process to process 0, kept open on this side when the other side is gone.

JAX's client ends its process within milliseconds once its connection to process 0 breaks, with a
stack trace, and offers Python no way to be asked first. So the client connects to a port of its own
process, and a thread passes the bytes on. When process 0 is gone, the client meets silence, and
there is time to say what happened and to end in good order.
"""

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable

SILENT = 40.0  # seconds without an answer after which the host of process 0 counts as gone
PROXIES = ("grpc_proxy", "https_proxy", "http_proxy")  # gRPC would send its own host's name there


class Relay:
    """Passes bytes between a port of this host and process 0.

    Until `watch` is called it is transparent: what ends on one side is ended on the other.

    Args:
      coordinator: HOST:PORT of process 0; it need not answer yet.

    Attributes:
      address: HOST:PORT to connect to instead.
    """

    def __init__(self, coordinator: str) -> None:
        host, _, port = coordinator.rpartition(":")
        self._target = host.strip("[]"), int(port)
        self._gone: Callable[[str], object] | None = None
        self._ears = socket.create_server(("127.0.0.1", 0))  # for this host only
        self.address = f"127.0.0.1:{self._ears.getsockname()[1]}"
        _thread(self._accept)

    def watch(self, gone: Callable[[str], object] | None) -> None:
        """From now on `gone` is called, once for a connection, instead of closing this side.

        Args:
          gone: takes what happened, such as 'is gone'; None to be transparent again.
        """
        self._gone = gone

    def _accept(self) -> None:
        while True:
            near, _ = self._ears.accept()
            _thread(self._connect, near)

    def _connect(self, near: socket.socket) -> None:
        try:
            far = socket.create_connection(self._target, timeout=20)
        except OSError:  # process 0 has not started: the client tries again
            near.close()
            return
        for each in (near, far):
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        far.settimeout(SILENT)
        asked: list[float] = []  # when the oldest question without an answer was sent
        _thread(self._answers, near, far, asked)
        while data := _received(near):
            if not asked:
                asked.append(time.monotonic())
            try:
                far.sendall(data)
            except OSError:
                self._over(near, far, "is gone")
                return
        _end(near, far)

    def _answers(self, near: socket.socket, far: socket.socket, asked: list[float]) -> None:
        what = "is gone"
        while True:
            try:
                data = far.recv(1 << 16)
                if not data:
                    break
                asked.clear()
                near.sendall(data)
            except TimeoutError:  # nothing for SILENT seconds
                if asked and time.monotonic() - asked[0] > SILENT / 2:
                    what = f"has not answered for {SILENT:.0f} s"
                    break
            except OSError:
                break
        self._over(near, far, what)

    def _over(self, near: socket.socket, far: socket.socket, what: str) -> None:
        _end(far)
        if self._gone:
            self._gone(what)
        else:
            _end(near)


def to(coordinator: str) -> Relay | None:
    """A relay to process 0; None where it cannot be used."""
    if any(os.environ.get(name) or os.environ.get(name.upper()) for name in PROXIES):
        return None
    try:
        return Relay(coordinator)
    except (OSError, ValueError):  # no such interface
        return None


def _thread(target: Callable, *arguments: object) -> None:
    threading.Thread(target=target, args=arguments, name="relay", daemon=True).start()


def _received(near: socket.socket) -> bytes:
    try:
        return near.recv(1 << 16)
    except OSError:
        return b""


def _end(*sockets: socket.socket) -> None:
    for each in sockets:
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
        each.close()
