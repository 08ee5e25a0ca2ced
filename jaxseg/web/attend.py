"""Runs a command and writes its exit code into a file, for a server that may be gone by then.

    python attend.py CODE_FILE COMMAND ARGUMENT...

Signals that ask for an end are handed on to the command. Only the standard library is imported, so
that the attendant stays small beside the training that it attends.
"""

import os
import signal
import subprocess
import sys


def born(pid: int | None) -> str | None:
    """When a process was started, in the system's ticks, which tells it from a later process of
    the same id; None if it is gone or has only not been buried yet."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            fields = file.read().rpartition(")")[2].split()
    except (OSError, ValueError):
        return None
    return None if fields[0] in "ZX" else fields[19]


def living(command: list[str], known: set[int]) -> int | None:
    """The oldest process that attends a command, or else runs it.

    Args:
      command: with all arguments.
      known: process ids that are not meant.

    Returns:
      its id; None if there is none.
    """
    wanted, found = "\0".join([*command, ""]).encode(), []
    for name in os.listdir("/proc"):
        try:
            with open(f"/proc/{int(name)}/cmdline", "rb") as file:
                meant = file.read().endswith(wanted) and int(name) not in known
        except (OSError, ValueError):  # it has ended meanwhile, or is no process
            continue
        if meant and (start := born(int(name))):
            found.append((int(start), int(name)))
    return min(found)[1] if found else None


def main(code_file: str, command: list[str]) -> int:
    """Runs the command to its end; returns its exit code, negative for a signal."""
    asked: list[int] = []
    process = None

    def hand_on(number: int, frame: object) -> None:
        asked.append(number)
        if process is not None:
            process.send_signal(number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, hand_on)
    process = subprocess.Popen(command)
    for number in asked:  # they came before there was a process
        process.send_signal(number)
    code = process.wait()
    with open(code_file + ".tmp", "w", encoding="utf-8") as file:
        file.write(f"{code}\n")
    os.replace(code_file + ".tmp", code_file)
    return code


if __name__ == "__main__":
    sys.exit(min(main(sys.argv[1], sys.argv[2:]), 255))
