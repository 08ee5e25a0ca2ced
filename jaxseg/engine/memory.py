"""Memory that a compiled program needs, compared with what is free, before it runs.

Out of memory, an accelerator stops in the middle of a step; on a CPU the system may end the process
without a word. XLA knows what a program will need as soon as it is compiled: its arguments, its
results, and one block for everything in between.
"""

import contextlib
import ctypes
import gc
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxseg.errors import UserError

# On a CPU the system hands the block out page by page as it is touched. Training steps were found
# to touch all of it (docs/training.md); a program that touches less would run in less memory than
# planned, so only what is short by a good part is refused.
TOUCHED = 0.8
MEMINFO, CGROUP = Path("/proc/meminfo"), Path("/sys/fs/cgroup")


class Needs(NamedTuple):
    """Bytes that running a program takes on one device.

    Attributes:
      arguments: what it is given, which lies there already.
      results: what it returns, without the part that takes the place of arguments.
      between: everything that it computes on the way, at its peak.
    """

    arguments: int
    results: int
    between: int

    @property
    def further(self) -> int:
        """What has to be free when the program starts."""
        return self.results + self.between


def needs(compiled: Any) -> Needs | None:
    """Reads what XLA planned for a compiled program (`jax.stages.Compiled`); None if the backend
    does not say."""
    try:
        planned = compiled.memory_analysis()
    except (NotImplementedError, jax.errors.JaxRuntimeError):  # of backends that do not plan
        return None
    if planned is None:
        return None
    results = planned.output_size_in_bytes - planned.alias_size_in_bytes
    return Needs(planned.argument_size_in_bytes, max(0, results), planned.temp_size_in_bytes)


def free(devices: Sequence[jax.Device]) -> int | None:
    """Bytes that each device has left, of the fullest one; None if it is not known.

    Devices that are simulated on one CPU share its memory.
    """
    if devices[0].platform == "cpu":
        memory = host_memory()
        return None if memory is None else memory // len(devices)
    left = []
    for device in devices:
        told = device.memory_stats() or {}
        if "bytes_limit" in told:
            left.append(told["bytes_limit"] - told.get("bytes_in_use", 0))
    return min(left, default=None)


def host_memory(meminfo: Path = MEMINFO, cgroup: Path = CGROUP) -> int | None:
    """Bytes of main memory that this process can still get.

    What the system calls available and its free swap, or what is left of the limit of the container
    that the process runs in. Where the system has no /proc/meminfo: all of the memory there is.

    Returns:
      Bytes; None if the system tells nothing.
    """
    try:
        lines = (line.split() for line in meminfo.read_text().splitlines())
        told = {line[0].rstrip(":"): 1024 * int(line[1]) for line in lines if len(line) > 1}
        left = told["MemAvailable"] + told.get("SwapFree", 0)
    except (OSError, ValueError, KeyError):
        try:
            return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        except (AttributeError, ValueError, OSError):
            return None
    limited = _left_of_container(cgroup)
    return left if limited is None else min(left, limited)


def _left_of_container(cgroup: Path) -> int | None:
    """Bytes left of a container's limit; None without one. Cached files make room when needed."""
    v1 = cgroup / "memory"
    for limit, used, details, cached in (
        (cgroup / "memory.max", cgroup / "memory.current", cgroup / "memory.stat", "inactive_file"),
        (
            v1 / "memory.limit_in_bytes", v1 / "memory.usage_in_bytes", v1 / "memory.stat",
            "total_inactive_file",
        ),
    ):  # fmt: skip
        try:
            most = int(limit.read_text())  # 'max' in place of a number: no limit
            taken = int(used.read_text())
            rows = dict(line.split() for line in details.read_text().splitlines())
        except (OSError, ValueError):
            continue
        return max(0, most - taken + int(rows.get(cached, 0)))
    return None


def check(
    compiled: Any, devices: Sequence[jax.Device], what: str, remedies: Callable[[float], str]
) -> None:
    """Raises UserError if a compiled program needs more memory than is free.

    Args:
      compiled: `jax.stages.Compiled`, whose arguments already lie on the devices.
      devices: that it runs on.
      what: the program's name in the message, as 'a training step'.
      remedies: what to do about it, given how many times too large the program is.
    """
    planned, left = needs(compiled), free(devices)
    if planned is None or left is None:
        return
    touched = TOUCHED if devices[0].platform == "cpu" else 1.0
    if planned.results + touched * planned.between <= left:
        return
    factor = planned.further / max(left, 1)
    where = "memory" if devices[0].platform == "cpu" else f"memory of {devices[0].device_kind}"
    raise UserError(
        f"{what} needs {size(planned.further)} besides the {size(planned.arguments)} of its "
        f"weights and images, but {size(left)} of {where} are free: {remedies(factor)}"
    )


def give_back() -> None:
    """Returns what the C library holds without need to the system: after a compilation, some
    hundred MB. Does nothing where the C library is not glibc.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


@contextlib.contextmanager
def kept_garbage() -> Iterator[None]:
    """Within this context Python does not look for reference cycles, which takes a quarter of the
    time of tracing a large program: tracing makes millions of objects, and all are needed.
    """
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def looked_at(jitted: Callable, look: Callable[..., None], static: Sequence[int] = ()) -> Callable:
    """The same jitted function; a program is looked at before it first runs.

    JAX keeps what is compiled here, so calling the function does not compile it again. With several
    processes nothing is looked at.

    Args:
      jitted: from `jax.jit` or `jax.pmap`, with positional arguments only.
      look: called as look(compiled, *arguments) with each new `jax.stages.Compiled`. If it raises,
        it is called again with the next arguments of these shapes.
      static: positions of the arguments that are static.
    """
    if jax.process_count() > 1:
        return jitted
    seen: dict[Any, Any] = {}  # programs, None once they may run

    def call(*args: Any) -> Any:
        traced = [arg for i, arg in enumerate(args) if i not in static]
        leaves, tree = jax.tree.flatten(traced)
        kinds = tuple((np.shape(leaf), getattr(leaf, "dtype", type(leaf))) for leaf in leaves)
        key = tree, kinds, tuple(args[i] for i in static)
        if key not in seen:
            seen[key] = jitted.lower(*args).compile()
        if seen[key] is not None:
            look(seen[key], *args)
            seen[key] = None
        return jitted(*args)

    return call


def ran_out(error: BaseException) -> str:
    """What the allocator said, in one line, if an error means that memory ran out; else ''."""
    text = str(error)
    if not isinstance(error, jax.errors.JaxRuntimeError) or "RESOURCE_EXHAUSTED" not in text:
        return ""
    said = text[text.index("RESOURCE_EXHAUSTED") :].splitlines()[0]
    return said.removeprefix("RESOURCE_EXHAUSTED:").strip().rstrip(".")


def size(count: float) -> str:
    """A number of bytes for people, as '48.1 GB'."""
    for unit, power in (("GB", 1e9), ("MB", 1e6)):
        if count >= power:
            return f"{count / power:.1f} {unit}"
    return f"{count / 1e3:.0f} kB"
