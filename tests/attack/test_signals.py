"""Signals at any moment of a launched process: what it exits with, and how soon."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent

# Minutes within one call of C that lets other threads go on, as XLA's compiler does, without its
# seconds of tracing.
COMPILING = """
import hashlib
from jaxseg.engine import signals
signals.guard()
signals.unwind()
print("begun", flush=True)
try:
    hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)
except KeyboardInterrupt:
    signals.leave()
"""
# What some modules in C make of an exception in the middle of an import, before and after what has
# to be ended in good order.
SWALLOWING = """
import time
from jaxseg.engine import signals
signals.guard()
if {later}:
    signals.unwind()
try:
    print("begun", flush=True)
    time.sleep(60)
except BaseException:
    pass
try:
    signals.check()
except KeyboardInterrupt:
    print("launch.py: interrupted", file=sys.stderr)
    signals.leave()
"""
# Exceptions do not leave destructors, nor callbacks of the garbage collector, of which JAX has one.
DESTROYING = """
import sys, time
from jaxseg.engine import signals
signals.guard()
signals.unwind()
class Slow:
    def __del__(self):
        print("begun", flush=True)
        time.sleep(60)
try:
    Slow()
    time.sleep(60)
except KeyboardInterrupt:
    print("launch.py: interrupted", file=sys.stderr)
    signals.leave()
"""
# Anything before the first step.
STARTING = """
import time
from jaxseg.cli import modes
def slow(*_):
    print("begun", flush=True)
    try:
        time.sleep(60)
    except KeyboardInterrupt as error:
        if {disguised}:
            raise ValueError("what C code makes of it") from error
        raise
modes._run = slow
modes.main(["launch.py", "--config=configs/advent.py"])
"""


def started(source: str) -> subprocess.Popen:
    process = subprocess.Popen(
        [sys.executable, "-c", source], cwd=ROOT, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert process.stdout.readline() == "begun\n", process.communicate()[1]
    return process


@pytest.mark.parametrize(
    "number, code, disguised", [(signal.SIGINT, 130, True), (signal.SIGTERM, 143, False)]
)
def test_one_signal_during_the_start(number, code, disguised):
    process = started(STARTING.format(disguised=disguised))
    process.send_signal(number)
    _, said = process.communicate(timeout=30)
    assert process.returncode == code and said.strip().splitlines()[-1] == "launch.py: interrupted"
    assert "Traceback" not in said


@pytest.mark.parametrize(
    "source", [SWALLOWING.format(later=False), SWALLOWING.format(later=True), DESTROYING]
)
@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_one_signal_whose_exception_is_lost(number, code, source):
    process = started("import sys; sys.argv[0] = 'launch.py'" + source)
    process.send_signal(number)
    _, said = process.communicate(timeout=30)
    assert (process.returncode, said) == (code, "launch.py: interrupted\n")


@pytest.mark.parametrize("second, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_second_signal_ends_a_process_that_compiles(second, code):
    process = started(COMPILING)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert process.poll() is None  # it hears of the first one when the call returns
    process.send_signal(second)
    sent = time.monotonic()
    process.communicate(timeout=60)
    assert process.returncode == code
    assert time.monotonic() - sent < 10  # 2 s and a little; the test machine may be busy
