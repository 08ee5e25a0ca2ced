"""What the worker computes: predictions equal `jaxseg.load`, layers equal flax's own capture."""

import collections
import io
import json
import tarfile
import zlib

import jax
import numpy as np
import pytest
from flax import linen as nn
from kit.runs import write_run
from kit.small import small_config
from kit.web import OWN, served
from PIL import Image

import jaxseg
from jaxseg.errors import UserError
from jaxseg.experiment import finished, of_run, presets
from jaxseg.storage.weights import files
from jaxseg.web import importing, layers, network, pages_runs, worker

IMAGE = np.random.default_rng(0).integers(0, 256, (40, 72, 3), np.uint8)


def file_of(image, kind="PNG", **more):
    file = io.BytesIO()
    Image.fromarray(image).save(file, kind, **more)
    return file.getvalue()


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """A run of random weights, within a folder of runs."""
    folder = tmp_path_factory.mktemp("web") / "runs" / "a"
    folder.mkdir(parents=True)
    config = small_config("advent", folder / "records")
    return write_run(config, folder, {2: 0.3, 4: 0.2})


@pytest.fixture(scope="module")
def asked(workdir):
    return {"source": str(workdir), "step": "best"}


def test_a_prediction_is_that_of_the_library(workdir, asked):
    made, blob = network.predict(asked, file_of(IMAGE))
    out = jaxseg.load(workdir)(IMAGE)
    maps = np.frombuffer(zlib.decompress(blob), np.uint8).reshape(2, *IMAGE.shape[:2])
    np.testing.assert_array_equal(maps[0], out.labels)
    assert np.abs(maps[1] / 255 - out.entropy).max() <= 0.5 / 255 + 1e-6
    assert made["network"] == "step 2" and (made["height"], made["width"]) == IMAGE.shape[:2]
    shares = [(out.labels == i).mean() for i in range(len(out.classes))]
    np.testing.assert_allclose(made["shares"], shares)
    assert made["entropy"] == pytest.approx(out.entropy.mean(), abs=1e-5)
    _, png = network.picture({"id": made["id"], "kind": "ids"}, b"")
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(png))), out.labels)
    _, png = network.picture({"id": made["id"], "kind": "overlay", "strength": 0.3}, b"")
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(png))), out.overlay(0.3))
    alone = {"ids": out.labels, "overlay": out.overlay(0.3), "color": out.colours()}
    for kind, expected in alone.items():  # asked for at once, without entropies
        png = network.predict({**asked, "kind": kind, "strength": 0.3}, file_of(IMAGE))[1]
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(png))), expected)
    with pytest.raises(UserError, match="no picture"):
        network.picture({"id": made["id"], "kind": "x"}, b"")
    with pytest.raises(UserError, match="no longer kept"):
        network.picture({"id": "x", "kind": "ids"}, b"")


def test_an_archive_is_what_the_library_loads(workdir, tmp_path):
    path = pages_runs.pack(workdir, pages_runs.chosen_step(workdir, "best"))
    with tarfile.open(path) as tar:
        tar.extractall(tmp_path, filter="data")
    path.unlink()
    assert jaxseg.load(tmp_path / "a").name == "step 4"  # without a log, the last is the best


def test_a_weights_file_becomes_a_run(workdir, tmp_path, monkeypatch, capsys):
    """Of this project's names, with the experiment that it belongs to; how a checkpoint is written
    is tested with --save."""
    model, written = jaxseg.load(workdir), []
    params, stats = (model.variables[0]["gen"]["segmenter"], model.variables[1]["segmenter"])
    files.save(tmp_path / "own.npz", params, stats)
    monkeypatch.setattr(finished, "write_checkpoint", lambda *given: written.append(given))
    monkeypatch.setattr(presets, "load", lambda given: of_run.get_config(str(workdir)))
    assert importing.main(str(tmp_path / "own.npz"), "advent:streets", "run") == 0
    (loaded, folder, config), *_ = written
    assert folder == "run" and config.net.backbone == "tiny"
    same = jax.tree.map(np.array_equal, loaded.model["params"]["gen"]["segmenter"], params)
    assert jax.tree.all(same)
    assert importing.main(str(tmp_path / "own.npz"), "", "other") == 2
    assert "config" in capsys.readouterr().out and len(written) == 1


def test_images_that_are_refused_before_they_are_decoded(monkeypatch):
    monkeypatch.setattr(network, "PIXELS", 1000)
    with pytest.raises(UserError, match="72x40 pixels"):
        network.read(file_of(IMAGE))


def test_what_is_kept_of_predictions_is_bounded(monkeypatch):
    monkeypatch.setattr(network, "_made", collections.OrderedDict())
    monkeypatch.setattr(network, "MOST_KEPT", 100)
    made = network.Prediction(*[np.zeros((6, 10), np.uint8)] * 3, None)
    first, second = network.keep(made), network.keep(made)  # 60 pixels each
    assert first not in network._made and second in network._made
    monkeypatch.setattr(network, "MOST_KEPT", 10)
    assert list(network._made) != [network.keep(made)] and len(network._made) == 1


def test_files_that_are_no_images():
    for wrong in (b"", b"GIF89a", file_of(IMAGE)[:60]):
        with pytest.raises(UserError, match="not an image"):
            network.read(wrong)


def test_activations_are_those_that_flax_captures(asked):
    model = network.model(asked["source"], asked["step"])
    seen = np.asarray(Image.fromarray(IMAGE).resize(model.size[::-1]))[None]
    found = layers.activations(model, seen)
    chosen = list(found)[:: len(found) // 6]

    @jax.jit
    def captured(variables):
        kept = {}

        def keep(call, args, kwargs, context):
            out = call(*args, **kwargs)
            if "/".join(context.module.path) in chosen and context.method_name == "__call__":
                kept["/".join(context.module.path)] = out
            return out

        with nn.intercept_methods(keep):
            model.predict(*variables, seen)
        return kept

    assert len(found) > 10
    for name, value in captured(model.variables).items():
        value, mine = np.asarray(value, np.float64)[0], found[name]
        assert tuple(mine["shape"]) == value.shape
        np.testing.assert_allclose(mine["mean"], value.mean(), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(mine["deviation"], value.std(), rtol=1e-4)
        assert np.isclose(mine["low"], value.min()) and np.isclose(mine["high"], value.max())
        counts, _ = np.histogram(value, layers.BINS)
        assert np.abs(mine["histogram"] - counts / value.size).sum() < 0.01  # rounding at edges
        assert len(mine["tiles"]) == min(value.shape[-1], layers.CHANNELS)


def test_weights_by_hand():
    kernel = np.zeros((3, 3, 2, 4), np.float32)
    kernel[1, 1, :, 2] = (1, 3)
    found = layers.weight_summary(kernel)
    assert found["mean"] == pytest.approx(4 / 72) and (found["low"], found["high"]) == (0, 3)
    assert found["tiles"].shape == (4, 3, 3) and found["tiles"][2, 1, 1] == 255
    assert found["tiles"][0, 0, 0] in (127, 128)  # 0 is the middle
    assert found["histogram"][0] == pytest.approx(70 / 72)
    assert layers.weight_summary(np.ones(4, np.float32))["tiles"].shape[0] == 0
    assert layers.weight_summary(-np.eye(3, dtype=np.float32))["tiles"].min() == 0


def test_layers_are_packed_one_after_the_other(asked):
    made, blob = layers.layers(asked, file_of(IMAGE))
    sizes = [np.prod(e["tiles"]) for kind in ("activations", "weights") for e in made[kind]]
    assert len(zlib.decompress(blob)) == sum(sizes)
    assert made["weights"][1]["offset"] == sum(sizes[: len(made["activations"]) + 1])
    json.dumps(made)
    names = [e["name"] for e in made["weights"]]
    assert all(not n.startswith("segmenter/") for n in names)


def test_settings_are_checked_as_on_the_command_line():
    from jaxseg.web import launcher

    asked = {"config": launcher.argument("advent:streets")}
    assert network.check({**asked, "overrides": ["--config.train.steps=800"]}, b"") == ({}, b"")
    for override, said in (
        ("--config.train.stepz=3", "no setting train.stepz; did you mean train.steps"),
        ("--config.train.steps=many", "^train.steps=many: wanted a whole number$"),
        ("--config.optim.gen.lr=fast", "^optim.gen.lr=fast: wanted a number$"),
        ("--config.data.target.size=(1,2", r"size=\(1,2: wanted a value like \(128, 256\)"),
        ("--config.train=5", "^train is a group of settings: name one of them, as train[.]"),
        ("--config.train.warmup_steps=900", "warmup_steps"),
    ):
        with pytest.raises(UserError, match=said):
            network.check({**asked, "overrides": [override]}, b"")


def test_messages_of_a_worker():
    stream = io.BytesIO()
    worker.write(stream, {"a": "ü"}, b"\0\1")
    worker.write(stream, {}, b"")
    stream.seek(0)
    assert worker.read(stream) == ({"a": "ü"}, b"\0\1")
    assert worker.read(stream) == ({}, b"") and worker.read(stream) is None
    said, _ = worker.answer({"task": "picture", "id": "x", "kind": "ids"}, b"")
    assert said["kind"] == "user" and not said["ok"]


def test_predictions_over_http(workdir, monkeypatch):
    """The routes, with the worker's tasks in this process."""
    from jaxseg.web import client

    def ask(self, task, content, blob=b""):
        made, out = worker.task(task)(content, blob)
        return dict(made), out

    monkeypatch.setattr(client.Worker, "ask", ask)
    with served(workdir.parent.parent) as (web, _, _):

        def post(query, data):
            return web.post(f"/api/predict?{query}", content=data, headers=OWN)

        made = post("run=a&step=4", file_of(IMAGE)).json()
        assert made["network"] == "step 4" and sum(made["shares"]) == pytest.approx(1)
        maps = post("run=a&step=4&as=maps", file_of(IMAGE))
        assert len(maps.content) == 2 * 40 * 72  # uncompressed on the way
        assert json.loads(maps.headers["x-prediction"])["width"] == 72
        png = post("run=a&step=4&as=color", file_of(IMAGE)).content
        assert Image.open(io.BytesIO(png)).size == (72, 40)
        kept = web.get(f"/api/predictions/{made['id']}/entropy.png")
        assert "attachment" in kept.headers["content-disposition"] and kept.status_code == 200
        assert post("run=a", b"no image").json()["error"] == "this is not an image that can be read"
        for query in ("", "run=b", "run=a&step=3", "run=a&as=x", "run=a&as=overlay&strength=2"):
            assert post(query, file_of(IMAGE)).status_code in (400, 404), query
        listed = web.get("/api/networks").json()["networks"]
        assert listed[0]["steps"] == [2, 4]
        checked = web.post("/api/check", headers=OWN, json={"name": "x", "config": "advent:x"})
        assert checked.status_code == 400
