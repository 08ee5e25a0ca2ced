"""Large pages for what a step computes on a CPU.

XLA's CPU backend asks for everything between the arguments and the results of a step as one block,
some hundred MB, and frees it after the step. The system hands such a block out page by page, each
set to zero: with pages of 4 KB 130,000 page faults a second were counted, a quarter of the time of
all cores, and what is read and written misses the processor's tables of pages (docs/speed.md). With
pages of 2 MB both are gone. The numbers that are computed do not change.

Where Linux gives them on request, glibc (2.35 and later) asks for them if the environment says so
when the process starts. Hence a process starts itself again, under the same number.
"""

import contextlib
import os
import platform
import sys
from collections.abc import Mapping
from pathlib import Path

ENABLED = Path("/sys/kernel/mm/transparent_hugepage/enabled")
MODULE = "jaxseg.cli.main"  # python -m jaxseg.cli.main
TUNABLES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}


def wanted(enabled: Path = ENABLED, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this process should start again with `TUNABLES`: the system gives large pages to
    those who ask, and nobody has set what the C library does.

    Args:
      enabled: the system's file, with its choice in brackets: always [madvise] never.
      environment: of the process.
    """
    if any(name.startswith(("GLIBC_TUNABLES", "MALLOC_", "LD_PRELOAD")) for name in environment):
        return False
    try:
        if "[madvise]" not in enabled.read_text():
            return False
        name, version = platform.libc_ver()
        return name == "glibc" and tuple(map(int, version.split(".")[:2])) >= (2, 35)
    except (OSError, ValueError):
        return False


def ask() -> None:
    """Starts the program again with large pages if they are `wanted`.

    Call it first of all: nothing that the program has done until then is kept. A program that runs
    within another one (a notebook, a debugger that was started with it) is left alone.
    """
    started = {sys.argv[0], MODULE} & set(sys.orig_argv[1:])
    if sys.executable and started and wanted():
        os.environ.update(TUNABLES)
        with contextlib.suppress(OSError):  # it goes on as it is
            os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
