"""Several streams of batches as one."""

import contextlib
from collections.abc import Iterator


class JoinedStreams:
    """Merges the batches of several streams (source and target) into one, until one ends or fails.

    Closing it closes all of them, even if nothing was read.
    """

    def __init__(self, *streams: Iterator[dict]):
        self._streams, self._open = streams, bool(streams)

    def __iter__(self) -> Iterator[dict]:
        return self

    def __next__(self) -> dict:
        if not self._open:
            raise StopIteration
        try:
            batches = [next(stream) for stream in self._streams]
        except BaseException:  # includes StopIteration
            self.close()
            raise
        return {key: array for batch in batches for key, array in batch.items()}

    def close(self) -> None:
        """Closes every stream once, even if closing one of them fails."""
        if not self._open:
            return
        self._open = False
        with contextlib.ExitStack() as stack:  # which calls back in reverse order
            for stream in reversed(self._streams):
                if hasattr(stream, "close"):
                    stack.callback(stream.close)
