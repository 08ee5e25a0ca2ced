"""Memory and latency of the web page's server over fabricated run folders.

python benchmarks/web.py --runs=200

Prints a table: resident memory at the start and after use, and the median time of answers. The
figures of docs/web.md come from here.
"""

import argparse
import json
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REPEATS = 15
CLASSES = [f"class {i}" for i in range(19)]


def fabricate(folder: Path) -> None:
    """A run of 7000 steps that logged every 25 and was evaluated every 700."""
    folder.mkdir(parents=True)
    config = {
        "method": {"name": "advent"},
        "seed": 0,
        "train": {"steps": 7000, "warmup_steps": 350},
        "data": {"source": {"name": "streets"}, "target": {"name": "camvid"}},
        "net": {"architecture": "fpn", "backbone": "efficientnet_lite0"},
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "results.json").write_text("{}")
    shares = dict.fromkeys(CLASSES, 0.123456789012345)
    train = {f"loss/part{i}": 1.23456789012345 for i in range(12)}
    lines = []
    for step in range(25, 7001, 25):
        lines.append({"kind": "train", "step": step, **train})
        if step % 700 == 0:
            maps = {"iou": shares, "pixels": shares, "class_accuracy": shares}
            lines.append({"kind": "eval", "step": step, "miou": 0.4, "entropy": 0.1, **maps})
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "metrics.jsonl").write_text(text)


def resident(pid: int) -> float:
    """Resident memory of a process in MB."""
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(text for text in status.splitlines() if text.startswith("VmRSS"))
    return int(line.split()[1]) / 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=200)
    count = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as folder, socket.socket() as free:
        for i in range(count):
            fabricate(Path(folder, "runs", f"run_{i:05d}"))
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        flags = [f"--runs={folder}/runs", f"--data={folder}", f"--port={port}"]
        server = subprocess.Popen(
            [sys.executable, str(ROOT / "launch.py"), "--mode=web", *flags],
            stdout=subprocess.PIPE, text=True, cwd=ROOT,
        )  # fmt: skip
        try:
            server.stdout.readline()
            measure(server.pid, f"http://127.0.0.1:{port}", count)
        finally:
            server.terminate()
            server.wait()


def measure(pid: int, address: str, count: int) -> None:
    """Prints the table."""

    def took(path: str) -> float:
        start = time.perf_counter()
        urllib.request.urlopen(address + path).read()
        return 1000 * (time.perf_counter() - start)

    print(f"{count} runs\nmemory at the start          {resident(pid):8.1f} MB")
    print(f"list, the first time         {took('/api/runs'):8.0f} ms")
    for title, path in (
        ("list", "/api/runs"),
        ("list, filtered and sorted", "/api/runs?q=run_0001&sort=-best"),
        ("facts of a run", "/api/runs/run_00001"),
        ("log of a run", "/api/runs/run_00001/metrics"),
    ):
        times = [took(path) for _ in range(REPEATS)]
        print(f"{title:<29}{statistics.median(times):8.1f} ms")
    print(f"memory after that            {resident(pid):8.1f} MB")


if __name__ == "__main__":
    main()
