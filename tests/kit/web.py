"""A web server over a folder of fabricated runs, without a socket."""

import contextlib
import json

from PIL import Image
from starlette.testclient import TestClient

from jaxseg.web import guard, jobs, site
from jaxseg.web.places import Places

OWN = {"x-jaxseg": "1", "origin": "http://127.0.0.1:8000"}
CONFIG = {
    "name": "a", "seed": 3, "method": {"name": "advent"},
    "data": {"source": {"name": "streets", "options": {"domain": "rendered"}},
             "target": {"name": "camvid", "options": {}}},
    "train": {"steps": 20, "warmup_steps": 10, "batch": 2},
    "net": {"architecture": "fpn", "backbone": "tiny"},
    "optim": {"gen": {"schedule": "poly", "schedule_steps": 20},
              "disc": {"schedule": "constant", "schedule_steps": 20}},
}  # fmt: skip


def fabricate(folder, mious=(0.2, 0.5, 0.4), steps=20, **changes):
    """A run folder with evaluations every 10 steps, pictures, and the folder of a checkpoint."""
    (folder / "pictures" / "00000010").mkdir(parents=True)
    (folder / "checkpoints" / "00000010").mkdir(parents=True)
    (folder / "checkpoints" / "00000010" / "weights").write_bytes(b"\1\2")
    config = {**CONFIG, "train": {**CONFIG["train"], "steps": steps}, **changes}
    (folder / "config.json").write_text(json.dumps(config))
    lines = []
    for i, miou in enumerate(mious):
        lines.append({"kind": "train", "step": 10 * i, "loss/gen": 1.0 / (i + 1)})
        lines.append({"kind": "eval", "step": 10 * i, "miou": miou, "entropy": 0.1 * i})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "results.json").write_text("{}")
    (folder / "report.html").write_text("<p>report</p>")
    for name in ("0_image.jpg", "00000010/0_prediction.png"):
        Image.new("RGB", (8, 4)).save(folder / "pictures" / name)
    (folder / "pictures" / "index.json").write_text('{"classes": ["a"], "palette": [[1, 2, 3]]}')
    return folder


@contextlib.contextmanager
def served(folder, allowed=guard.Allowed()):  # noqa: B008
    """(client, places, queue) of a server over folder/runs and folder/data."""
    places = Places(folder / "runs", folder / "data", str(folder / "records"))
    for place in places[:2]:
        place.mkdir(exist_ok=True)
    queue = jobs.Queue(places.own / "jobs")
    app = site.make_app(places, queue, allowed)
    with TestClient(app, base_url="http://127.0.0.1:8000", raise_server_exceptions=False) as client:
        yield client, places, queue
