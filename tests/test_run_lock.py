"""One writer for each run folder; what others have left behind."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jaxseg.errors import UserError
from jaxseg.storage import run_lock

ROOT = Path(__file__).resolve().parent.parent
HOLD = """
import sys, time
from jaxseg.storage import run_lock
with run_lock.held([sys.argv[1]]):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_writer_is_refused_by_name(tmp_path):
    folder = tmp_path / "run"
    child = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE,
                             text=True, env=os.environ | {"PYTHONPATH": str(ROOT)})  # fmt: skip
    try:
        assert child.stdout.readline() == "held\n"
        with pytest.raises(UserError) as caught, run_lock.held([tmp_path / "other", folder]):
            pytest.fail("both write")
        said = str(caught.value)
        assert f"process {child.pid} on {socket.gethostname()} (since " in said
        assert str(folder) in said and "--workdir" in said and "\n" not in said
        assert not (tmp_path / "other" / run_lock.FILE).exists()  # released again
        child.send_signal(signal.SIGKILL)
        child.wait()
        told = []
        with run_lock.held([folder], told.append):
            mine = json.loads((folder / run_lock.FILE).read_text())
            assert mine["pid"] == os.getpid() and abs(mine["since"] - time.time()) < 60
        assert f"process {child.pid}" in told[0] and "going on in its place" in told[0]
        assert not (folder / run_lock.FILE).exists()
    finally:
        child.kill()
        child.wait()
        child.stdout.close()


def test_the_same_process_is_no_exception(tmp_path):
    with run_lock.held([tmp_path]), pytest.raises(UserError, match=f"process {os.getpid()}"):
        with run_lock.held([tmp_path]):
            pytest.fail("it is held twice")
    with run_lock.held([tmp_path]):  # and it is free again
        pass


@pytest.mark.parametrize("locks", [True, False])
def test_writers_of_other_hosts_count_until_they_are_old(tmp_path, monkeypatch, locks):
    """Without locks of the file system, processes of this host are looked up by their number."""
    if not locks:

        def refused(*_):
            raise OSError("no locks here")

        monkeypatch.setattr(run_lock.fcntl, "flock", refused)
    path = tmp_path / run_lock.FILE
    theirs = {"pid": 1, "host": "another", "since": 1_700_000_000, "started": "5"}
    path.write_text(json.dumps(theirs))
    with pytest.raises(UserError, match="process 1 on another"), run_lock.held([tmp_path]):
        pytest.fail("another host writes")
    assert json.loads(path.read_text()) == theirs
    long_ago = time.time() - run_lock.OLD - 100
    os.utime(path, (long_ago, long_ago))
    told = []
    with run_lock.held([tmp_path], told.append):
        assert "process 1 on another" in told[0]
    # On this host: gone, or the same number given to another process.
    here = {"pid": os.getpid(), "host": socket.gethostname(), "since": 1, "started": "0"}
    for writer in (here, here | {"pid": 2**22 + 1}):
        path.write_text(json.dumps(writer))
        with run_lock.held([tmp_path], told.append):
            pass
    assert len(told) == 3
    if not locks:
        path.write_text(json.dumps(here | {"started": run_lock.started(os.getpid())}))
        with pytest.raises(UserError, match=f"process {os.getpid()}"), run_lock.held([tmp_path]):
            pytest.fail("that process runs")


@pytest.mark.parametrize("text", ["", '{"pid": 1', "[]", '{"pid": 3}'])
def test_a_cut_lock_is_taken_over(tmp_path, text):
    (tmp_path / run_lock.FILE).write_text(text)
    with run_lock.held([tmp_path], pytest.fail):
        pass


def test_a_long_run_renews_it(tmp_path, monkeypatch):
    monkeypatch.setattr(run_lock, "RENEW", 0.01)
    path = tmp_path / run_lock.FILE
    with run_lock.held([tmp_path]):
        os.utime(path, (1, 1))
        until = time.monotonic() + 5
        while path.stat().st_mtime < 100 and time.monotonic() < until:
            time.sleep(0.01)
        assert path.stat().st_mtime > 100
