"""Lets two programs take turns: the protocol between `step.py` and its workers.

A worker is a process that answers each line on its standard input with one line of JSON. A worker
that does not have the turn waits for input and uses no core.
"""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any


def available() -> list[int]:
    """Returns the numbers of the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def stay_on(cores: list[int]) -> None:
    """Binds this process and its children to these cores, where the system supports it."""
    if cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)


def say(**values) -> None:
    """Answers with one line of JSON."""
    print(json.dumps(values), flush=True)


def answer(step: Callable[[], Any], wait: Callable[[Any], None], peak: Callable[[], int]) -> None:
    """Answers commands on standard input until it ends.

    'step N': makes N steps, then `wait(result of the last step)`; answers with wall-clock and CPU
    seconds per step. 'peak': answers with `peak()`, bytes.
    """
    reset_peak()
    for line in sys.stdin:
        word, *numbers = line.split()
        if word == "peak":
            say(bytes=peak())
            continue
        count = int(numbers[0])
        clock, cores = time.perf_counter(), time.process_time()
        for _ in range(count):
            last = step()
        wait(last)
        say(
            seconds=(time.perf_counter() - clock) / count,
            core_seconds=(time.process_time() - cores) / count,
        )


def reset_peak() -> None:
    """Resets the peak that `peak_resident` returns, where the system can (Linux)."""
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    except OSError:
        pass


def peak_resident() -> int:
    """Returns the peak resident memory of this process since `reset_peak`, bytes."""
    try:
        with open("/proc/self/status") as file:
            lines = dict(line.split(":", 1) for line in file if ":" in line)
        return int(lines["VmHWM"].split()[0]) * 1024
    except (OSError, KeyError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class Worker:
    """A started process that runs `answer`, as seen by the benchmark."""

    def __init__(self, command: list[str], environment: dict[str, str]):
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=os.environ | environment,
        )  # fmt: skip

    def hear(self) -> dict:
        """Returns the next answer; raises RuntimeError if the process has ended."""
        for line in self.process.stdout:
            if line.startswith("{"):
                return json.loads(line)
            sys.stderr.write(line)
        raise RuntimeError(f"a worker ended with code {self.process.wait()}")

    def ask(self, question: str) -> dict:
        """Sends a line and waits for the answer."""
        self.process.stdin.write(question + "\n")
        self.process.stdin.flush()
        return self.hear()

    def close(self) -> None:
        """Ends the process."""
        self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
