"""Memory and latency of the web page's server: over fabricated run folders, and of a prediction.

python benchmarks/web.py --runs=200
python benchmarks/web.py --runs=200 --browser
python benchmarks/web.py --run=runs/source_only_streets --image=street.jpg

The first prints resident memory at the start and after use, and the median time of answers; the
second the time from navigation until a page is drawn in Chromium (extra `web-test`); the third the
time from an upload to its overlay, at three sizes. Of several times the median and the lowest are
printed. The figures of docs/web.md come from here.
"""

import argparse
import contextlib
import io
import json
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
REPEATS = 15
CLASSES = [f"class {i}" for i in range(19)]
PAGES = ("runs", "run/run_00001", "compare?" + "&".join(f"run=run_{i:05d}" for i in range(6)))
# Resolves when a page's rows are there, or all of its charts, and the browser has painted them.
DRAWN = """([place, open]) => new Promise(done => {
  const page = place.split(/[/?]/)[0], start = open ? performance.now() : 0;
  if (open) location.hash = `#/${place}`;
  const all = selector => [...document.querySelectorAll(`main .page.${page} ${selector}`)];
  const charts = () => all(".plot").length && all(".plot").every(p => p.querySelector("canvas"));
  const ready = () => (page === "runs" ? all("tbody tr").length : charts());
  const look = () => requestAnimationFrame(() => {
    if (ready()) requestAnimationFrame(() => done(performance.now() - start));
    else look();
  });
  look();
})"""
SIZES = ((480, 360), (1280, 720), (1920, 1080))


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
    parser.add_argument("--runs", type=int, default=200, help="run folders to fabricate")
    parser.add_argument("--browser", action="store_true", help="draw their pages in Chromium")
    parser.add_argument("--run", help="folder of a run, to predict with")
    parser.add_argument("--image", help="a photograph, which is predicted at three sizes")
    given = parser.parse_args()
    if bool(given.run) != bool(given.image):
        parser.error("--run and --image go together")
    with tempfile.TemporaryDirectory() as folder:
        if given.run:
            shutil.copytree(given.run, Path(folder, "runs", "own"))
        else:
            for i in range(given.runs):
                fabricate(Path(folder, "runs", f"run_{i:05d}"))
        with served(folder) as (pid, address):
            if given.run:
                predict(address, Path(given.image))
            elif given.browser:
                draw(address, given.runs)
            else:
                measure(pid, address, given.runs)


@contextlib.contextmanager
def served(folder: str) -> Iterator[tuple[int, str]]:
    """(process id, address) of a server over folder/runs."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    flags = [f"--runs={folder}/runs", f"--data={folder}", f"--port={port}"]
    server = subprocess.Popen(
        [sys.executable, str(ROOT / "launch.py"), "--mode=web", *flags],
        stdout=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip
    try:
        server.stdout.readline()
        yield server.pid, f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


def measure(pid: int, address: str, count: int) -> None:
    """Prints the table of memory and answers."""

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
        ("trained networks", "/api/models"),
    ):
        times = [took(path) for _ in range(REPEATS)]
        print(f"{title:<29}{statistics.median(times):8.1f} ms")
    print(f"memory after that            {resident(pid):8.1f} MB")


def draw(address: str, count: int) -> None:
    """Prints the table of pages: opened anew with an empty cache, and by a link in an open tab."""
    from playwright.sync_api import sync_playwright

    found = shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-gpu"]
        browser = playwright.chromium.launch(executable_path=found, args=flags)
        urllib.request.urlopen(address + "/api/runs").read()  # the server has read the runs
        for place in PAGES:
            anew, linked = [], []
            for _ in range(7):
                page = browser.new_page(viewport={"width": 1280, "height": 900})
                page.goto(f"{address}/#/{place}")
                anew.append(page.evaluate(DRAWN, [place, False]))
                page.evaluate(DRAWN, ["runs" if place != "runs" else PAGES[1], True])
                linked.append(page.evaluate(DRAWN, [place, True]))
                page.close()
            title = place.split("/")[0].split("?")[0]
            print(f"{count} runs, page {title}: anew {told(anew)}, by a link {told(linked)}")


def told(times: list[float]) -> str:
    """'120 ms (lowest 100)'."""
    return f"{statistics.median(times):.0f} ms (lowest {min(times):.0f})"


def predict(address: str, photograph: Path) -> None:
    """Prints the table of uploads: what the page asks for, and the overlay as a PNG."""
    for size in SIZES:
        with Image.open(photograph) as image:
            scaled = image.convert("RGB").resize(size, Image.Resampling.BICUBIC)
        for kind in ("JPEG", "PNG"):
            file = io.BytesIO()
            scaled.save(file, kind)
            for asked in ("maps", "overlay"):
                query = f"/api/predict?run=own&step=last&as={asked}"
                times, networks = [], []
                for _ in range(REPEATS + 1):  # the first one compiles
                    request = urllib.request.Request(
                        address + query, file.getvalue(), {"X-Jaxseg": "1"}
                    )
                    start = time.perf_counter()
                    with urllib.request.urlopen(request) as answer:
                        answer.read()
                        times.append(1000 * (time.perf_counter() - start))
                        told = json.loads(answer.headers.get("x-prediction") or "{}")
                    networks.append(1000 * told.get("seconds", 0))
                print(
                    f"{size[0]}x{size[1]} {kind}, {file.tell() // 1000} kB, as {asked}: "
                    f"{told(times[1:])}"
                    + (f", network {statistics.median(networks[1:]):.0f}" if networks[1] else "")
                )


if __name__ == "__main__":
    main()
