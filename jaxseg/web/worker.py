"""A process that computes for the server: predictions and layers with JAX, or data with NumPy.

The server itself never imports JAX. A computation that runs out of memory ends this process and not
the server, which starts another; and its memory is free again when it has been idle for a while.

Requests come on standard input, answers go to standard output: two lengths, a JSON object, bytes.
What is printed meanwhile goes to standard error, the server's log.
"""

import importlib
import json
import os
import struct
import sys
import traceback
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

from jaxseg.errors import UserError

# What can be asked for: (request, bytes) -> (answer, bytes).
TASKS = {
    "predict": "jaxseg.web.network:predict",
    "picture": "jaxseg.web.network:picture",
    "layers": "jaxseg.web.layers:layers",
    "check": "jaxseg.web.network:check",
    "splits": "jaxseg.web.browse:splits",
    "image": "jaxseg.web.browse:image",
}
LENGTHS = struct.Struct("<QQ")


def read(stream: BinaryIO) -> tuple[dict, bytes] | None:
    """The next message of a stream; None at its end."""
    head = _exactly(stream, LENGTHS.size)
    if head is None:
        return None
    lengths = LENGTHS.unpack(head)
    parts = [_exactly(stream, n) for n in lengths]
    return None if None in parts else (json.loads(parts[0]), parts[1])


def write(stream: BinaryIO, content: Mapping[str, Any], blob: bytes = b"") -> None:
    """Writes a message."""
    text = json.dumps(content).encode()
    stream.write(LENGTHS.pack(len(text), len(blob)) + text)
    stream.write(blob)
    stream.flush()


def _exactly(stream: BinaryIO, count: int) -> bytes | None:
    data = stream.read(count) if count else b""
    return data if len(data) == count else None


def answer(content: Mapping[str, Any], blob: bytes) -> tuple[dict, bytes]:
    """Computes one answer; {'error', 'kind'} where it fails: a user's mistake or one of ours."""
    try:
        made, out = task(content["task"])(content, blob)
        return {"ok": True, **made}, out
    except UserError as error:
        return {"ok": False, "error": str(error), "kind": "user"}, b""
    except MemoryError:
        return {"ok": False, "error": "there is not enough memory for this", "kind": "user"}, b""
    except Exception as error:
        traceback.print_exc()
        return {"ok": False, "error": f"{type(error).__name__}: {error}", "kind": "ours"}, b""


def task(name: str) -> Callable[[Mapping[str, Any], bytes], tuple[dict, bytes]]:
    """The function of a task, imported when it is first asked for."""
    module, _, function = TASKS[name].partition(":")
    return getattr(importlib.import_module(module), function)


def main() -> None:
    """Answers until standard input ends."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not get among the answers
    while (message := read(sys.stdin.buffer)) is not None:
        write(out, *answer(*message))


if __name__ == "__main__":
    main()
