"""metrics.jsonl over crashes and resumes, event files, and the lines of the console."""

import io
import json
import math

import numpy as np
from rich.console import Console
from tensorboardX.proto import event_pb2

from jaxseg.run import progress
from jaxseg.storage import logs

RESULT = {
    "step": 2,
    "split": "val",
    "miou": 0.5,
    "pixel_accuracy": 0.75,
    "entropy": 0.25,
    "images": 3,
    "iou": {"road": 0.5, "bus": None},
}


def events(folder):
    """Scalars {(tag, step): value} and picture tags of the event files, read by their framing."""
    scalars, pictures = {}, set()
    for path in sorted(folder.glob("events.*")):
        data = path.read_bytes()
        while data:
            length = int.from_bytes(data[:8], "little")
            event = event_pb2.Event.FromString(data[12 : 12 + length])
            data = data[16 + length :]
            for value in event.summary.value:
                if value.HasField("image"):
                    pictures.add(value.tag)
                else:
                    scalars[value.tag, event.step] = value.simple_value
    return scalars, pictures


def test_lines_and_events(tmp_path):
    with logs.open_logs(tmp_path) as log:
        log.train(1, {"loss/gen": np.float32(1.5), "lr/gen": 0.25})
        log.evaluation(2, RESULT)
        log.picture(2, "val/0", np.zeros((4, 6, 3), np.uint8))
    lines = logs.read(tmp_path)
    assert lines[0] == {"kind": "train", "step": 1, "loss/gen": 1.5, "lr/gen": 0.25}
    assert lines[1] == {"kind": "eval", **RESULT}
    scalars, pictures = events(tmp_path / "tensorboard")
    assert scalars["loss/gen", 1] == 1.5 and scalars["eval_val/miou", 2] == 0.5
    assert scalars["eval_val/iou/road", 2] == 0.5 and ("eval_val/iou/bus", 2) not in scalars
    assert pictures == {"val/0"}


def test_resume_drops_what_came_after_and_a_torn_line(tmp_path):
    with logs.open_logs(tmp_path) as log:
        for step in range(1, 6):
            log.train(step, {"loss/gen": step})
    with open(tmp_path / logs.FILE, "a") as file:
        file.write('{"kind": "train", "step": 6, "lo')
    assert [line["step"] for line in logs.read(tmp_path / logs.FILE)] == [1, 2, 3, 4, 5]
    with logs.open_logs(tmp_path, resume_step=3) as log:
        log.train(4, {"loss/gen": 40.0})
    assert [(x["step"], x["loss/gen"]) for x in logs.read(tmp_path)] == [
        (1, 1),
        (2, 2),
        (3, 3),
        (4, 40),
    ]
    assert logs.read(tmp_path / "nowhere") == []


def test_not_a_number_is_null_and_told_once(tmp_path):
    told = []
    with logs.open_logs(tmp_path, announce=told.append) as log:
        for step in (1, 2):
            log.train(step, {"loss/gen": math.nan, "loss/disc": -math.inf, "lr": 1.0})
    text = (tmp_path / logs.FILE).read_text()
    assert "NaN" not in text and "Infinity" not in text
    first = json.loads(text.splitlines()[0])
    assert first["loss/gen"] is None and first["lr"] == 1.0
    assert first["nonfinite"] == {"loss/gen": "nan", "loss/disc": "-inf"}
    assert told == ["step 1: loss/disc is -inf", "step 1: loss/gen is nan"]


def test_disabled_writes_nothing(tmp_path):
    with logs.open_logs(tmp_path / "x", enabled=False) as log:
        log.train(1, {"a": 1.0})
        log.evaluation(2, RESULT)
        log.picture(1, "p", np.zeros((2, 2, 3), np.uint8))
    assert not (tmp_path / "x").exists()


def test_best_and_last(tmp_path):
    assert logs.best_and_last(tmp_path) == (None, None)
    with logs.open_logs(tmp_path) as log:
        for step, miou in ((1, 0.2), (2, 0.5), (3, 0.5), (4, None), (5, 0.1)):
            log.train(step, {"loss/gen": 1.0})
            log.evaluation(step, {**RESULT, "step": step, "miou": miou})
    best, last = logs.best_and_last(tmp_path)
    assert (best["step"], last["step"]) == (3, 5)
    assert last == {**RESULT, "step": 5, "miou": 0.1}


def test_warnings_are_written_told_and_dropped_as_other_lines(tmp_path):
    told = []
    for resumed in (0, 4):
        with logs.open_logs(tmp_path, resume_step=resumed, announce=told.append) as log:
            for step in range(resumed + 1, 7):
                log.train(step, {"loss/gen": 1.0})
            log.warning(4 if not resumed else 6, "it has <won>")
            log.warning(np.int32(5), "it has collapsed")
    lines = [line for line in logs.read(tmp_path) if line["kind"] == "warning"]
    assert [(line["step"], line["text"]) for line in lines] == [
        (4, "it has <won>"), (6, "it has <won>"), (5, "it has collapsed"),
    ]  # fmt: skip
    assert told[:2] == ["step 4: warning: it has <won>", "step 5: warning: it has collapsed"]
    assert len(told) == 4
    with logs.open_logs(tmp_path / "other", enabled=False, announce=told.append) as log:
        log.warning(1, "x")
    assert not (tmp_path / "other").exists()


def test_depth_goes_to_the_events(tmp_path):
    depth = {"abs_rel": 0.25, "delta1": None, "images": 3, "cap": 80.0}
    with logs.open_logs(tmp_path) as log:
        log.evaluation(2, {**RESULT, "depth": depth})
    scalars, _ = events(tmp_path / "tensorboard")
    assert scalars["eval_val/depth/abs_rel", 2] == 0.25
    assert not any("delta1" in name or "depth/images" in name for name, _ in scalars)


def test_plain_lines_without_a_terminal(monkeypatch):
    clock = iter([100.0, 104.0, 106.0])
    monkeypatch.setattr("jaxseg.run.progress.time.perf_counter", lambda: next(clock))
    text = io.StringIO()
    with progress.console(60, output=Console(file=text, width=40)) as console:
        for step in (10, 20, 30):
            values = {"loss/gen": 0.41234, "loss/disc": 0.6931, "lr/gen": 2.5e-4}
            console.update(step, {**values, "images_per_second": 8.217, "input_wait": 0.001})
        console.log("[evaluated] something")
    assert text.getvalue().splitlines() == [
        "step 10/60  loss gen 0.412 disc 0.693  lr gen 0.00025  8.22 images/s",
        "step 20/60  ETA 0:16  loss gen 0.412 disc 0.693  lr gen 0.00025  8.22 images/s",
        "step 30/60  ETA 0:09  loss gen 0.412 disc 0.693  lr gen 0.00025  8.22 images/s",
        "[evaluated] something",
    ]


def test_a_bar_on_a_terminal():
    text = io.StringIO()
    output = Console(file=text, width=120, force_terminal=True)
    with progress.console(8, output=output) as console:
        for step in range(3, 9):
            console.update(step, {"loss/gen": 1.0})
        console.log("above [the] bar")
    assert "8/8" in text.getvalue() and "above [the] bar" in text.getvalue()
    quiet = io.StringIO()
    with progress.console(8, output=Console(file=quiet), enabled=False) as console:
        console.update(8, {})
        console.log("nothing")
    assert quiet.getvalue() == ""


def test_formats():
    assert progress.format_seconds(3725) == "1:02:05" and progress.format_seconds(64.6) == "1:05"
    assert progress.format_values({"loss/gen": 1e-5, "step": 3}) == "loss gen 1e-05  step 3"
    values = {"accuracy/main": 0.5, "lr/gen": 0.1, "loss/gen": 2.0}
    assert progress.format_values(values) == "loss gen 2  lr gen 0.1  accuracy main 0.5"
    assert progress.format_values({"input_wait": 0.25}) == "0.25 s/step input wait"
