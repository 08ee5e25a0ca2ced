"""Sinks beside metrics.jsonl: what TensorBoard and Weights & Biases are given."""

import os
import time
from pathlib import Path

import numpy as np
import pytest
from tensorboardX.proto import event_pb2

from jaxseg.errors import UserError
from jaxseg.storage import logs, sinks

SETTINGS = {
    "name": "tried", "seed": 3, "optim": {"gen": {"lr": 0.05, "betas": (0.9, 0.99), "clip": None}},
    "data": {"root": "somewhere"},
}  # fmt: skip
RESULT = {"step": 2, "split": "val", "miou": 0.5, "iou": {"road": 0.5, "bus": None}}


def summaries(folder):
    """[(step, value)] of all event files in a folder, read by their framing."""
    for path in sorted(Path(folder).glob("*events*")):
        data = path.read_bytes()
        while data:
            length = int.from_bytes(data[:8], "little")
            event = event_pb2.Event.FromString(data[12 : 12 + length])
            data = data[16 + length :]
            for value in event.summary.value:
                yield event.step, value


def written(workdir, names, also=sinks.ALSO):
    with logs.open_logs(
        workdir, announce=lambda text: None, sinks=names, also=also, settings=SETTINGS
    ) as log:
        log.train(1, {"loss/gen": 1.5})
        log.evaluation(2, RESULT)
        log.warning(2, "it has <won>")
        log.picture(2, "val/0", np.zeros((4, 6, 3), np.uint8))
        log.histograms(2, {"gen": {"head": {"bias": np.array([1.0, 2.0, 2.0, np.nan])}}})


def test_tensorboard_on_request(tmp_path):
    written(tmp_path, ("tensorboard",))
    found = {(step, value.tag): value for step, value in summaries(tmp_path / "tensorboard")}
    histogram = found[2, "gen/head/bias"].histo
    assert (histogram.num, histogram.sum, histogram.min, histogram.max) == (3, 5, 1, 2)
    texts = [v.tensor.string_val[0].decode() for v in found.values() if v.tensor.string_val]
    assert any("it has &lt;won&gt;" in text for text in texts)
    assert any("somewhere" in text for text in texts)  # the whole config
    table = list(summaries(tmp_path / "tensorboard" / "hparams"))
    shown = b"".join(value.metadata.plugin_data.content for _, value in table)
    for name in (b"optim.gen.lr", b"optim.gen.betas", b"seed", b"eval_val/miou"):
        assert name in shown
    assert b"data.root" not in shown
    scores = {v.tag: v.simple_value for _, v in table if v.WhichOneof("value") == "simple_value"}
    assert scores["eval_val/miou"] == 0.5


def test_nothing_more_than_asked_for(tmp_path):
    written(tmp_path / "a", ("tensorboard",), also=())
    kinds = {value.WhichOneof("value") for _, value in summaries(tmp_path / "a" / "tensorboard")}
    assert kinds == {"simple_value", "image"}
    assert not (tmp_path / "a" / "tensorboard" / "hparams").exists()
    written(tmp_path / "b", ())
    assert [p.name for p in (tmp_path / "b").iterdir()] == [logs.FILE]


def test_mistakes(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="no sink 'mlflow'; choose of tensorboard, wandb"):
        written(tmp_path, ("mlflow",))
    with pytest.raises(UserError, match="config.log.also: 'gradients' is none of hparams, text"):
        written(tmp_path, (), also=("gradients",))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'jaxseg\[wandb\]'"):
        written(tmp_path, ("wandb",))


@pytest.mark.filterwarnings("ignore")  # of its own imports
def test_wandb_stays_offline(tmp_path, monkeypatch):
    """A run's file holds numbers, settings and pictures' names; the id is kept."""
    pytest.importorskip("wandb")
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    written(tmp_path, ("wandb",))
    known = (tmp_path / sinks.WANDB_ID).read_text()
    (file,) = (tmp_path / "wandb").glob(f"offline-run-*-{known}/run-{known}.wandb")
    parts, deadline = (b"loss/gen", b"eval_val/miou", b"optim", b"0.05", b"val/0"), time.time() + 30
    while missing := [part for part in parts if part not in file.read_bytes()]:
        assert time.time() < deadline, missing  # its own process writes the file
        time.sleep(0.2)
