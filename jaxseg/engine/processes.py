"""Several processes as one run: how they find each other, agree, and end together.

Each process runs the same program with the same settings and reads its share of the data; all
their devices form one pmapped axis, and the state is the same on all. Only process 0 prints and
writes files. With one process all of this does nothing.
"""

import atexit
import contextlib
import os
import socket
import sys
import threading
import time
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

from jaxseg.engine import relay, signals
from jaxseg.engine.watch import GIVE_UP, Stepping, Watch, say
from jaxseg.errors import UserError

FIND = 300  # seconds within which the processes have to find each other

_watch: Watch | None = None  # of this process, if it is one of several


def start(
    coordinator: str | None = None,
    processes: int | None = None,
    process: int | None = None,
    *,
    automatic: bool = False,
    find: float = FIND,
) -> None:
    """Joins the other processes of the run; does nothing without arguments.

    Call it before JAX is used. Afterwards only process 0 writes to standard output.

    Args:
      coordinator: HOST:PORT of process 0, the same in all processes; any free port.
      processes: number of processes.
      process: index of this process, from 0.
      automatic: JAX finds these three itself, under SLURM and Open MPI and on a TPU pod.
      find: seconds to wait for the others.

    Raises:
      UserError: the arguments do not go together, or there is nobody to join.
    """
    address = dict(coordinator=coordinator, processes=processes, process=process)
    given = [name for name, value in address.items() if value is not None]
    if not given and not automatic:
        return
    if automatic and given:
        raise UserError(f"--distributed finds the other processes itself: leave out --{given[0]}")
    if not automatic:
        _check(**address)

    import jax  # slow; wrong flags are reported before it

    # JAX's service would catch SIGTERM; interrupt.py handles that signal, and Ctrl-C too.
    jax.config.update("jax_enable_preemption_service", False)
    where = "SLURM, Open MPI or a TPU pod" if automatic else f"--coordinator={coordinator}"
    devices = None
    # Fires before JAX's own time limit, which aborts with a stack trace.
    late = threading.Timer(find - min(5.0, find / 2), _nobody_there, (where, process))
    late.daemon = True
    late.start()
    through = None
    try:
        if automatic:
            coordinator, processes, process, devices = _detected(int(find))
        if process and coordinator:
            through = relay.to(coordinator)
        jax.distributed.initialize(
            through.address if through else coordinator, processes, process, devices,
            initialization_timeout=int(find),
            cluster_detection_method="deactivate" if coordinator else None,
        )  # fmt: skip
    except (ValueError, RuntimeError, KeyError) as error:
        raise UserError(_why_not(error, where)) from error
    finally:
        late.cancel()
    if jax.process_count() > 1:
        _join(jax.process_index(), jax.process_count(), jax.local_device_count(), through)


def _detected(find: int) -> tuple:
    """(coordinator, processes, process, local devices) as JAX finds them itself; None's if not."""
    from jax._src import clusters  # has no public name

    detect = clusters.ClusterEnv.auto_detect_unset_distributed_params
    return detect(None, None, None, None, None, find)


def _check(coordinator: str | None, processes: int | None, process: int | None) -> None:
    for flag, value in (
        ("coordinator=HOST:PORT", coordinator),
        ("processes=N", processes),
        ("process=I", process),
    ):
        if value is None:
            raise UserError(f"--coordinator, --processes and --process go together: give --{flag}")
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise UserError(f"--coordinator={coordinator} is not HOST:PORT, as in node0:7000")
    if processes < 1:
        raise UserError(f"--processes={processes} must be at least 1")
    if not 0 <= process < processes:
        raise UserError(f"--process={process} is not one of 0 to {processes - 1}")
    try:
        socket.getaddrinfo(host.strip("[]"), int(port))
    except OSError as error:
        raise UserError(f"--coordinator={coordinator}: no such host ({error})") from error


def _why_not(error: Exception, where: str) -> str:
    if "RPC server" in str(error):
        return f"{where}: the port is taken; give another"
    if isinstance(error, RuntimeError):
        return f"the processes cannot be joined: {str(error).splitlines()[0]}"
    return (
        "--distributed finds neither SLURM (srun) nor Open MPI nor a TPU pod: give "
        "--coordinator=HOST:PORT --processes=N --process=I to each process instead"
    )


def _nobody_there(where: str, process: int | None) -> None:
    name = "a process" if process is None else f"process {process}"
    say(f"{name} waited for the others in vain ({where}): start all of them, with the same flags")
    os._exit(2)


def _join(index: int, count: int, devices: int, through: relay.Relay | None) -> None:
    global _watch
    if index:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - open until the process ends
    if threading.current_thread() is threading.main_thread():
        signals.guard()
        signals.unwind()  # an end of this process is told to the others
    _watch = Watch(index, count, through)
    atexit.register(_watch.close)  # runs before JAX disconnects from the other processes
    with end_together():
        counts = gather("devices", str(devices))
        if len(set(counts)) > 1:
            raise UserError(f"the processes have {', '.join(counts)} devices: give each as many")


def count() -> int:
    """The number of processes."""
    return _watch.count if _watch else 1


def index() -> int:
    """The index of this process, from 0."""
    return _watch.index if _watch else 0


def everywhere(devices: Sequence[Any]) -> list[Any]:
    """The devices of a pmap over all processes: from each as many as the local ones given here."""
    if count() == 1:
        return list(devices)
    import jax

    return [d for i in range(count()) for d in jax.local_devices(process_index=i)[: len(devices)]]


def gather(what: str, value: str) -> list[str]:
    """Gathers one text from each process, in the order of their indices.

    All processes have to make the same calls in the same order. It waits without a time limit,
    because another process may be preparing a data set.
    """
    return _watch.gather(what, value) if _watch else [value]


def same(what: str, value: str) -> None:
    """Raises UserError unless all processes pass the same value; `what` names it in the message."""
    sums = gather(what, f"{zlib.crc32(value.encode()):08x}")
    for i, other in enumerate(sums):
        if other != sums[0]:
            raise UserError(
                f"{what} of process {i} is not that of process 0: start all of them with the same "
                "flags and the same files"
            )


def shared_folder(folder: str) -> None:
    """With several processes, makes the folder and raises UserError if one does not see it."""
    if count() == 1:
        return
    mark = f".seen-by-all-{os.getpid()}-{time.time_ns()}"
    path = os.path.join(folder, mark)
    if index() == 0:
        os.makedirs(folder, exist_ok=True)
        open(path, "w").close()
    path = os.path.join(folder, gather("folder", mark)[0])
    until = time.monotonic() + GIVE_UP  # network drives show new files late
    while not os.path.exists(path) and time.monotonic() < until:
        time.sleep(0.1)
    seen = gather("folder seen", str(os.path.exists(path)))
    if index() == 0:
        os.remove(path)
    if "False" in seen:
        raise UserError(
            f"process {seen.index('False')} does not see what process 0 writes to {folder}: give "
            "a --workdir on a drive that all hosts share"
        )


def attend(run: Stepping) -> None:
    """Makes all processes end after the same step of a run once one of them is `asked` to."""
    if _watch:
        _watch.attend(run)


@contextlib.contextmanager
def end_together() -> Iterator[None]:
    """Within this context an error (or interrupt) in one process ends all processes.

    With several processes the error is printed and the process ends at once; it does not propagate.
    So enter this context inside of those that wait for the other processes when they close, such as
    a checkpoint manager.
    """
    try:
        yield
    except BaseException as error:
        if _watch and not isinstance(error, SystemExit | GeneratorExit):
            _watch.fail(error)
        raise
