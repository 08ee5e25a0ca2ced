"""No connection leaves the machine: a run, an evaluation and a prediction where sockets refuse."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent

# Python's audit events come before the system is asked, also for what C code of the standard
# library does; a name looked up is as good as a connection.
REFUSING = """
import socket, sys, os
sys.path[:0] = [{root!r}, {tests!r}]

def watch(event, arguments):
    if event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"):
        host = arguments[0]
        here = host in (None, "", "localhost", "127.0.0.1", "::1", socket.gethostname())
    elif event in ("socket.connect", "socket.sendto", "socket.sendmsg", "socket.bind"):
        if arguments[0].family not in (socket.AF_INET, socket.AF_INET6):
            return
        address = arguments[1]
        here = address is None or address[0] in ("127.0.0.1", "::1", "localhost")
    elif event in ("urllib.Request", "http.client.connect", "ftplib.connect", "smtplib.connect"):
        here = False
    else:
        return
    if not here:
        os.write(2, f"NETWORK {{event}} {{arguments[-1]}}\\n".encode())
        os._exit(77)

sys.addaudithook(watch)
"""
WORK = """
from pathlib import Path
import numpy as np
from PIL import Image
from kit import small
from jaxseg.experiment.finished import Wanted
from jaxseg.run import evaluate, predict, train

folder = Path({folder!r})
config = small.small_config("advent", folder / "records")
config.train.steps, config.train.warmup_steps, config.train.eval_every = 2, 1, 2
config.compile_cache = False
assert train.run(config, str(folder / "run")) == 0
Image.fromarray(np.zeros((32, 64, 3), np.uint8)).save(folder / "a.png")
last = Wanted(step="last")
evaluate.evaluate(config, str(folder / "run"), last)
predict.predict(config, str(folder / "run"), str(folder / "a.png"), str(folder / "out"), last)
print("done")
"""


def run(source, folder=""):
    source = source.format(root=str(ROOT), tests=str(ROOT / "tests"), folder=str(folder))
    return subprocess.run(
        [sys.executable, "-c", source], cwd=ROOT, capture_output=True, text=True, timeout=400,
        check=False, env=os.environ | {"JAX_PLATFORMS": "cpu"},
    )  # fmt: skip


def test_the_refusal_refuses():
    for attempt in (
        "socket.create_connection(('192.0.2.1', 80), 1)",
        "socket.getaddrinfo('example.org', 80)",
        "import urllib.request; urllib.request.urlopen('http://192.0.2.1/', timeout=1)",
        "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('192.0.2.1', 53))",
    ):
        done = run(REFUSING + attempt)
        assert done.returncode == 77 and "NETWORK" in done.stderr, (attempt, done.stderr)
    assert run(REFUSING + "socket.socketpair(); print('fine')").stdout == "fine\n"


def test_a_run_needs_no_network(tmp_path):
    done = run(REFUSING + WORK, tmp_path)
    assert done.returncode == 0 and done.stdout.endswith("done\n"), done.stderr[-2000:]
