"""Large pages: who starts again to get them, and that it works where the system gives them."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest

from jaxseg.engine import pages

# Allocates 64 MB in a thread, as XLA does, and tells whether large pages were asked for it ("hg").
BLOCK = """
import os, sys, threading
for name in [n for n in os.environ if n.startswith(("GLIBC_TUNABLES", "MALLOC_", "LD_PRELOAD"))]:
    if sys.argv[1:] != ["again"]:
        del os.environ[name]  # what a test's own process was started with
from jaxseg.engine import pages
if sys.argv[1] == "ask":
    sys.orig_argv[-1] = "again"
    pages.ask()
def work():
    block = bytearray(2**26)
    maps = "/proc/self/smaps" if os.path.exists("/proc/self/smaps") else os.devnull
    flags = [line for line in open(maps) if line.startswith("VmFlags")]
    print(sys.argv[1], any(" hg" in line for line in flags), os.getpid())
thread = threading.Thread(target=work)
thread.start()
thread.join()
"""


def test_the_process_starts_again_under_its_number():
    command = [sys.executable, "-c", BLOCK, "ask"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        how, asked, number = process.communicate(timeout=60)[0].split()
    assert int(number) == process.pid and process.returncode == 0
    if how == "again":  # Linux with glibc, and large pages on request
        assert asked == "True"
    else:
        assert not pages.wanted(environment={})


def test_a_program_within_another_one_is_left_alone(monkeypatch):
    """As `%run launch.py` in a notebook, whose own process would be started again."""

    def refuse(*_):
        raise AssertionError("started again")

    monkeypatch.setattr(pages, "wanted", lambda: True)
    monkeypatch.setattr(pages.os, "execv", refuse)
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "ipykernel_launcher", "-f", "x.json"])
    monkeypatch.setattr(sys, "argv", ["launch.py", "--config=configs/advent.py"])
    pages.ask()


@pytest.mark.parametrize("choice", ["[always] madvise never", "always madvise [never]", ""])
def test_where_nothing_is_gained_nothing_is_started_again(tmp_path, choice):
    enabled = tmp_path / "enabled"
    enabled.write_text("always [madvise] never\n")
    name, version = platform.libc_ver()
    new = name == "glibc" and tuple(map(int, version.split(".")[:2])) >= (2, 35)
    assert pages.wanted(enabled, {"PATH": "/bin"}) == new
    for told in ("GLIBC_TUNABLES", "MALLOC_TRIM_THRESHOLD_", "LD_PRELOAD"):
        assert not pages.wanted(enabled, {told: "1"})
    enabled.write_text(choice)
    assert not pages.wanted(enabled, {})
    assert not pages.wanted(Path(tmp_path / "missing"), {})
