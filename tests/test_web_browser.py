"""The web page in a real browser: the whole way from folders to a prediction, and accessibility.

Needs chromium (Debian's package) and the extra `web-test`; without them it is skipped, loudly.
"""

import importlib.util
import os
import re
import shutil
import socket
import subprocess
import sys
import warnings
from pathlib import Path

import jax
import numpy as np
import pytest
from kit.web import fabricate
from PIL import Image

import jaxseg
from jaxseg.storage.weights import files

ROOT = Path(__file__).parent.parent
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
MISSING = [
    name
    for name, there in (
        ("chromium", CHROMIUM),
        ("playwright", importlib.util.find_spec("playwright")),
        ("axe-playwright-python", importlib.util.find_spec("axe_playwright_python")),
    )
    if not there
]
if MISSING:
    line = f"THE WEB PAGE IS NOT TESTED IN A BROWSER: {', '.join(MISSING)} missing"
    print(f"\n{'=' * len(line)}\n{line}\n{'=' * len(line)}", file=sys.__stderr__, flush=True)
    pytest.skip(line, allow_module_level=True)

from axe_playwright_python.sync_playwright import Axe  # noqa: E402
from playwright.sync_api import expect, sync_playwright  # noqa: E402

FLAGS = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream",
         "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
         "--disable-background-networking", "--disable-component-update",
         "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1")  # fmt: skip
LONG = 180_000  # milliseconds for what trains or compiles


def write_data(folder):
    """Ten images of a bright sky over dark ground, with labels."""
    draw = np.random.default_rng(0)
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True)
    (folder / "classes.txt").write_text("sky\nground\n")
    for i in range(10):
        label = np.zeros((32, 64), np.uint8)
        label[draw.integers(8, 24) :] = 1
        image = np.where(label[..., None] == 0, 200, 60) + draw.integers(-20, 20, (32, 64, 3))
        Image.fromarray(image.astype(np.uint8)).save(folder / f"images/{i}.png")
        Image.fromarray(label).save(folder / f"labels/{i}.png")


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser")
    write_data(folder / "data" / "mine")
    fabricate(folder / "runs" / "earlier")
    fabricate(folder / "runs" / "earlier_1", (0.1, 0.2, 0.3), seed=1)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    flags = [f"--runs={folder / 'runs'}", f"--port={port}", f"--data={folder / 'data'}",
             f"--records={folder / 'records'}"]  # fmt: skip
    server = subprocess.Popen(
        [sys.executable, str(ROOT / "launch.py"), "--mode=web", *flags],
        stdout=subprocess.PIPE, text=True, cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    try:
        assert f"http://127.0.0.1:{port}" in server.stdout.readline()
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(20)
        server.stdout.close()


@pytest.fixture(scope="module")
def browser():
    with warnings.catch_warnings(), sync_playwright() as playwright:
        warnings.simplefilter("ignore")
        yield playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)


def opened(browser, *, width=1280, dark=False, **more):
    """A page whose errors and requests to other addresses fail the test, at its end."""
    scheme = "dark" if dark else "light"
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, **more
    )
    page, faults = context.new_page(), []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("request", lambda r: "127.0.0.1" in r.url or r.url.startswith("blob:")
            or faults.append(r.url))  # fmt: skip
    return page, faults


def shown(page, address, place):
    page.goto(f"{address}/#/{place}")
    expect(page.locator("main h1").first).to_be_visible()


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_every_page_is_accessible_and_fits(address, browser, width, dark):
    page, faults = opened(browser, width=width, dark=dark, bypass_csp=True)
    for place in ("runs", "run/earlier", "compare?run=earlier&run=earlier_1", "new", "try",
                  "layers", "data", "data/new", "models", "jobs", "new?clone=earlier"):  # fmt: skip
        shown(page, address, place)
        page.wait_for_load_state("networkidle")
        found = Axe().run(page).response["violations"]
        told = [(v["id"], [n["target"] for n in v["nodes"]]) for v in found]
        assert not told, (place, told)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, place
    assert not faults


def test_a_run_that_has_only_begun(address, browser):
    """Its page is open before the run has its settings, and shows them as they come."""
    page, faults = opened(browser)
    begun = Path(page.request.get(f"{address}/api").json()["runs"], "begun")
    begun.mkdir()
    (begun / "metrics.jsonl").write_text("")
    shown(page, address, "run/begun")
    expect(page.get_by_text("Nothing is logged yet")).to_be_visible()
    (begun / "method.json").write_text('{"titles": {"loss/gen": "What is lost"}}')
    fabricate(begun)
    expect(page.get_by_text("What is lost")).to_be_visible()
    expect(page.get_by_text("end of the warm-up on the source, step 10")).to_be_visible()
    assert not faults


def test_the_whole_way(address, browser):
    page, faults = opened(browser)
    _make_data(page, address)
    _train(page, address)
    _try(page, address)
    _import_and_export(page, address)
    assert not faults


def _make_data(page, address):
    shown(page, address, "data/new")
    for label, value in (
        ("Folder of images", "mine/images"), ("Folder of labels", "mine/labels"),
        ("Classes", "mine/classes.txt"), ("Height to store at", "32"), ("Width to store at", "64"),
        ("Validation, percent", "20"),
    ):  # fmt: skip
        page.get_by_label(label, exact=True).fill(value)
    page.get_by_role("button", name="Inspect").click()
    expect(page.get_by_text("images to train")).to_be_visible(timeout=LONG)
    page.get_by_label("Name", exact=True).fill("meadow")
    page.get_by_role("button", name="Create the data set").click()
    expect(page.locator(".badge", has_text="prepared")).to_be_visible(timeout=LONG)
    page.get_by_role("link", name="Browse").click()
    expect(page.get_by_text("1 of 8")).to_be_visible(timeout=LONG)


def _train(page, address):
    shown(page, address, "new?config=source_only&source=meadow&target=meadow")
    expect(page.get_by_label("train.steps")).to_be_visible()
    _choose_preset(page)
    for label, value in (("train.steps", "2000"), ("train.warmup_steps", "0"), ("train.batch", "2"),
                         ("train.eval_every", "5"), ("net.backbone", "tiny"),
                         ("Name of the run", "first")):  # fmt: skip
        page.get_by_label(label, exact=True).fill(value)
    page.get_by_label("One a line").fill("train.log_every=1\neval.batch=2\ninit.backbone=")
    second = page.context.new_page()  # another tab, which sees it come
    shown(second, address, "runs")
    page.get_by_role("button", name="Start").click()
    expect(second.get_by_role("link", name="first")).to_be_visible(timeout=LONG)
    second.close()
    state, log = page.locator(".part-state .badge"), page.locator(".part-log pre")
    loss = page.locator("figure", has_text="Loss of the segmenter").locator("b").last
    expect(log).to_contain_text("step 6/2000", timeout=LONG)
    before = loss.inner_text()
    expect(loss).not_to_have_text(before, timeout=LONG)  # the curve grows
    expect(page.get_by_label("Scores, %").locator("canvas")).to_be_visible()
    page.get_by_role("button", name="Stop").click()
    expect(state).to_have_text("stopped", timeout=LONG)
    reached = int(re.search(r"step (\d+) of", page.locator(".part-state").inner_text())[1])
    page.get_by_role("button", name="Resume").click()
    expect(state).to_have_text("running", timeout=LONG)
    expect(log).to_contain_text(f"step {reached + 2}/2000", timeout=LONG)
    page.get_by_role("button", name="Stop").click()
    expect(state).to_have_text("stopped", timeout=LONG)
    expect(page.locator("table.classes")).to_contain_text("ground")


def _choose_preset(page):
    """One with a modifier from the list, one by its name; a wrong name is refused at once."""
    preset, backbone = page.get_by_label("Preset"), page.get_by_label("net.backbone")
    preset.select_option("streets+scratch")
    expect(backbone).to_have_value("small")
    preset.select_option("another one, by its name")
    typed = page.get_by_label("Its name")
    for name in ("streets+nothing", "streets+scratch+vgg16"):
        typed.fill(name)
        typed.press("Tab")
        problem = page.get_by_text("unknown modifier 'nothing'; choose one of pretrained")
        expect(problem).to_have_count(int(name == "streets+nothing"))
    expect(backbone).not_to_have_value("small")
    preset.select_option("streets")
    expect(typed).to_be_hidden()
    # What is typed before the settings of the preset have arrived is not lost.
    page.get_by_label("train.steps", exact=True).fill("7")
    preset.select_option("streets+scratch")
    expect(backbone).to_have_value("small")
    expect(page.get_by_label("train.steps", exact=True)).to_have_value("7")
    preset.select_option("streets")


def _try(page, address):
    shown(page, address, "try?run=first")
    data = _data(page)
    page.locator("input[type=file]").set_input_files(
        [data / f"mine/images/{i}.png" for i in (0, 1)]
    )
    expect(page.get_by_text("Share of the pixels")).to_be_visible(timeout=LONG)
    page.get_by_label("opacity").fill("80")
    assert page.locator("canvas.over").evaluate("e => e.style.opacity") == "0.8"
    page.locator(".frame").hover()
    expect(page.locator(".under")).to_contain_text("entropy")
    with page.expect_download() as kept:
        page.get_by_role("link", name="class ids").click()
    with Image.open(kept.value.path()) as ids:
        assert ids.mode == "L"
    page.locator("input[type=file]").set_input_files(data / "mine/classes.txt")
    expect(page.get_by_text("classes.txt is not an image")).to_be_visible()
    damaged = {"name": "half.png", "mimeType": "image/png", "buffer": b"\x89PNG\r\n\x1a\n"}
    page.locator("input[type=file]").set_input_files(damaged)
    expect(page.get_by_text("half.png: this is not an image")).to_be_visible(timeout=LONG)
    page.get_by_role("button", name="Camera").click()
    page.get_by_role("button", name="Take the picture").click()
    expect(page.get_by_text("camera.png: 640 × 480")).to_be_visible(timeout=LONG)
    expect(page.locator("video")).to_be_hidden()


def _data(page):
    """The folder of data."""
    return Path(page.evaluate("fetch('/api/data/folders').then(r => r.json())")["top"])


def _import_and_export(page, address):
    """A weights file of the run's network, made here; both jobs run at the same time."""
    data = _data(page)
    taken = jaxseg.load(data.parent / "runs/first", "last")
    params, stats = (taken.variables[0]["gen"]["segmenter"], taken.variables[1]["segmenter"])
    files.save(data / "taken.npz", params, stats)
    shown(page, address, "models")
    page.get_by_label("File", exact=True).fill("taken.npz")
    page.get_by_label("Experiment", exact=True).fill("nothing")
    page.get_by_role("button", name="Import").click()
    expect(page.get_by_role("alert")).to_have_text("nothing is neither a run nor an experiment")
    page.get_by_label("Experiment", exact=True).fill("first")
    page.get_by_role("button", name="Import").click()
    expect(page.get_by_role("row", name="import taken.npz")).to_be_visible()
    shown(page, address, "models")
    page.get_by_label("snapshot of first").select_option("last")
    page.get_by_role("row", name="first").get_by_role("button", name="Export jax").click()
    for job in ("import taken.npz", "export first as jax"):
        state = page.get_by_role("row", name=job).locator(".badge")
        expect(state).to_have_text("done", timeout=LONG)
    brought = jaxseg.load(data.parent / "runs/taken", "last")
    same = jax.tree.map(np.array_equal, taken.variables[:2], brought.variables[:2])
    assert jax.tree.all(same) and brought.classes == ("sky", "ground")
    shown(page, address, "models")
    with page.expect_download() as kept:
        page.get_by_role("link", name="last.npz").click()
    assert list(np.load(kept.value.path())["classes"]) == ["sky", "ground"]
    shown(page, address, "run/taken")
    expect(page.get_by_role("link", name="Try an image")).to_be_visible()
