"""The queue: one job at a time, ends that are told as they were, and servers that come and go."""

import json
import os
import signal
import sys
import time

import pytest
from kit.web import CONFIG, OWN, fabricate, served

from jaxseg.errors import UserError
from jaxseg.experiment import of_run, presets
from jaxseg.web import attend, extension, jobs, launcher, recipes

SLEEPER = (
    "import signal, sys, time\n"
    "signal.signal(signal.SIGINT, lambda *_: (print('saved', flush=True), sys.exit(130)))\n"
    "print('begun', flush=True)\n"
    "time.sleep(60)\n"
)


def python(code):
    return [sys.executable, "-c", code]


def until(condition, seconds=20):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end
        time.sleep(0.03)
    return found


def ended(queue, job):
    def look():
        queue.look()
        found = queue.get(job["id"])
        return found if found["state"] not in jobs.OPEN else None

    return until(look)


@pytest.fixture
def queue(tmp_path):
    queue = jobs.Queue(tmp_path / "runs" / ".web" / "jobs")
    yield queue
    for job in queue.jobs():
        if job["state"] in jobs.OPEN:
            queue.stop(job["id"])
    queue.close()


def test_one_training_at_a_time_and_other_jobs_beside_it(queue):
    first = queue.add("train", python(SLEEPER), run="a")
    second = queue.add("train", python("print(2)"), run="b")
    aside = queue.add("data", python("print('aside')"))
    assert ended(queue, aside)["state"] == "done" and queue.log(aside["id"]) == "aside\n"
    assert queue.get(second["id"])["state"] == "queued"
    with pytest.raises(UserError, match="a is running already"):
        queue.add("train", python("0"), run="a")
    until(lambda: "begun" in queue.log(first["id"]))
    queue.stop(first["id"])
    assert ended(queue, first)["state"] == "stopped" and "saved" in queue.log(first["id"])
    assert ended(queue, second)["state"] == "done"
    assert queue.state_of("b")["job_state"] == "done"


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (
            "import sys; print('launch.py: no setting x', file=sys.stderr); sys.exit(2)",
            "no setting",
        ),
        ("import os; os.kill(os.getpid(), 9)", "memory runs out"),
        ("import os; print('w'); os.kill(os.getpid(), 11)", "SIGSEGV; its last words: w"),
        ("raise ValueError('odd')", "ValueError: odd"),
    ],
)
def test_a_crash_is_told_as_such(queue, code, said):
    found = ended(queue, queue.add("train", python(code), run="a"))
    assert found["state"] == "failed" and said in found["said"]


def test_a_queued_job_is_cancelled(queue):
    first = queue.add("train", python(SLEEPER))
    second = queue.add("train", python("0"))
    assert queue.stop(second["id"])["state"] == "cancelled"
    queue.stop(first["id"])


def test_jobs_outlive_the_server(tmp_path):
    """The next server finds a job that runs, one that ended meanwhile, and one that waits."""
    folder = tmp_path / "runs" / ".web" / "jobs"
    queue = jobs.Queue(folder, 2)
    going = queue.add("train", python(SLEEPER), run="a")
    short = queue.add("train", python("import time; time.sleep(.5); raise SystemExit(3)"), run="b")
    waits = queue.add("train", python("print('at last')"), run="c")
    with pytest.raises(UserError, match="another server"):
        jobs.Queue(folder)
    until(lambda: "begun" in queue.log(going["id"]))
    queue.close()
    until(lambda: (folder / f"{short['id']}.code").exists())
    queue = jobs.Queue(folder, 1)
    assert queue.get(going["id"])["state"] == "running"
    assert (ended(queue, short)["state"], ended(queue, short)["code"]) == ("failed", 3)
    assert queue.get(waits["id"])["state"] == "queued"
    queue.stop(going["id"])
    assert ended(queue, going)["code"] == 130
    assert ended(queue, waits)["state"] == "done"
    queue.close()


def test_orphans_are_found_by_their_command(tmp_path):
    """A training whose attendant was killed, and a job whose server was, before it noted the
    start: both go on as running, and are stopped as others are."""
    folder = tmp_path / "runs" / ".web" / "jobs"
    queue = jobs.Queue(folder, 2)
    names = ("a", "b")
    made = [queue.add("train", python(f"# {tmp_path} {n}\n{SLEEPER}"), run=n) for n in names]
    until(lambda: all("begun" in queue.log(job["id"]) for job in made))
    orphan, unnoted = made
    os.kill(queue.get(orphan["id"])["pid"], signal.SIGKILL)
    until(lambda: attend.born(orphan["pid"]) is None)
    queue.look()
    assert queue.get(orphan["id"])["state"] == "running"
    with pytest.raises(UserError, match="a is running already"):
        queue.add("train", python("0"), run="a")
    queue.close()
    path = folder / f"{unnoted['id']}.json"
    path.write_text(json.dumps({**unnoted, "state": "queued", "pid": None, "born": None}))
    queue = jobs.Queue(folder, 2)
    for job in made:
        assert queue.get(job["id"])["state"] == "running"
        queue.stop(job["id"])
        assert ended(queue, job)["state"] == "stopped" and "saved" in queue.log(job["id"])
    assert queue.get(unnoted["id"])["code"] == 130  # from its attendant
    queue.close()


def test_a_later_process_of_the_same_id_is_not_the_job(queue, tmp_path):
    job = ended(queue, queue.add("train", python("0")))
    path = tmp_path / "runs/.web/jobs" / f"{job['id']}.json"
    path.with_suffix(".code").unlink()
    path.write_text(json.dumps({**job, "state": "running", "pid": 1, "born": "0"}))
    queue.close()
    again = jobs.Queue(path.parent)
    assert "disappeared" in again.get(job["id"])["said"]
    again.close()


def test_overrides_are_settings_and_nothing_else():
    text = "train.steps=6  # few\n--config.seed=1 config.name='a b'\n\n"
    assert recipes.overrides(text) == [
        "--config.train.steps=6", "--config.seed=1", "--config.name=a b",
    ]  # fmt: skip
    for wrong in ("--workdir=/tmp", "train.steps", "-x", "--mode=evaluate=1", "a..b=1", "'"):
        with pytest.raises(UserError):
            print(recipes.overrides(wrong))


def test_settings_come_with_the_comments_of_the_configs():
    found = {s["key"]: s for s in recipes.settings("advent", "streets")}
    assert found["train.steps"]["value"] == "480" and found["train.steps"]["few"]
    assert found["optim.gen.schedule"]["comment"] == "or linear, cosine, one_cycle, constant"
    assert found["data.threads"]["value"] == "2"
    assert list(found)[0] == recipes.FEW[0]
    assert {"advent", "baseline"} <= {c["name"] for c in recipes.listed()}
    for wrong in (("advent", "x"), ("advent", "streets+x"), ("common", ""), ("../x", "")):
        with pytest.raises(UserError):
            recipes.settings(*wrong)


def test_presets_come_with_their_modifiers(tmp_path):
    """As `jaxseg list` has them; one that is typed is checked like any other."""
    with served(tmp_path) as (client, _, _):
        found = client.get("/api/configs/baseline/presets").json()["presets"]
        assert found == list(presets.accepted("baseline")) and "minicity+resnet101" in found
        assert client.get("/api/configs/x/presets").status_code == 404
        typed = client.get("/api/configs/advent", params={"preset": "streets+scratch+vgg16"})
        assert {"key", "value"} <= set(typed.json()["settings"][0])
        wrong = client.get("/api/configs/advent", params={"preset": "streets+nothing"})
        assert wrong.status_code == 400
        assert wrong.json()["error"].startswith("unknown modifier 'nothing'; choose one of ")


def test_a_run_is_started_resumed_extended_and_cloned(tmp_path, monkeypatch):
    """What is started; the commands themselves are those of the command line."""
    fabricate(tmp_path / "runs" / "a", steps=40)
    fabricate(tmp_path / "runs" / "b")
    monkeypatch.setattr(jobs.Queue, "_begin", lambda self, job: None)  # stays queued
    with served(tmp_path) as (client, places, queue):

        def post(path, **content):
            return client.post(path, headers=OWN, json=content)

        made = post("/api/runs", name="new", config="advent:streets", settings="train.steps=6")
        argv = made.json()["argv"]
        assert made.status_code == 201 and f"--workdir={tmp_path}/runs/new" in argv
        assert any(a.endswith("advent.py:streets") for a in argv)
        assert "--config.train.steps=6" in argv and f"--config.data.root={places.data}" in argv
        assert post("/api/runs", name="a", config="advent:streets").status_code == 400
        assert post("/api/runs", name="../x", config="advent:streets").status_code == 400
        assert post("/api/runs", name="x", config="advent:none").status_code == 400
        assert "one writer" in post("/api/runs", name="new", config="advent").json()["error"]

        # It has no folder yet, and is shown all the same.
        coming = client.get("/api/runs").json()["runs"][0]
        assert (coming["name"], coming["job_state"]) == ("new", "queued")
        assert client.get("/api/runs/new").json()["config"] is None
        assert client.get("/api/runs/new/metrics").json()["lines"] == []
        assert client.get("/api/runs/never").status_code == 404

        cloned = post("/api/runs", name="c", clone="a", settings="seed=4").json()["argv"]
        assert f"--config={of_run.__file__}:{places.runs / 'a'}" in cloned
        assert "--config.seed=4" in cloned

        assert "seconds ago" in post("/api/runs/a/resume").json()["error"]  # its log has just grown
        monkeypatch.setattr("jaxseg.web.runs.LIVE", -1)
        assert post("/api/runs/a/resume").status_code == 200
        assert post("/api/runs/b/resume", steps=15).status_code == 400  # it has done 20
        assert post("/api/runs/b/resume", steps=10**20).status_code == 400
        longer = post("/api/runs/b/resume", steps=30).json()
        assert longer["run"] == "b_to_30"
    config = json.loads((tmp_path / "runs/b_to_30/config.json").read_text())
    assert config["optim"]["gen"]["schedule_steps"] == 30 and config["train"]["steps"] == 30


def test_only_a_schedule_that_ends_needs_a_copy():
    assert extension.too_short(CONFIG, 21) and not extension.too_short(CONFIG, 20)
    players = {name: {"schedule_steps": length} for name, length in (("gen", 9), ("translator", 6))}
    cyclegan = {"train": {"steps": 9, "warmup_steps": 3}, "optim": players}
    assert extension.too_short(cyclegan, 10) and not extension.too_short(cyclegan, 9)
    players["translator"]["schedule_steps"] = 5  # 0 before its last step
    assert extension.too_short(cyclegan, 9)


def test_saved_settings_are_the_config_of_the_run(tmp_path):
    from configs import advent

    config = advent.get_config("streets+scratch")
    (tmp_path / "config.json").write_text(json.dumps(config.to_dict()))
    again = of_run.get_config(str(tmp_path))
    assert again.to_dict() == config.to_dict() and again.is_locked
    assert launcher.argument(str(tmp_path)) == f"{of_run.__file__}:{tmp_path}"
    with pytest.raises(UserError, match="not the readable config"):
        of_run.get_config(str(tmp_path / "none"))


def test_signals_that_end_a_job_are_named():
    assert "SIGTERM" in jobs.said(-signal.SIGTERM, "x")


def test_an_export_is_the_command_lines(tmp_path, monkeypatch):
    fabricate(tmp_path / "runs" / "a")
    monkeypatch.setattr(jobs.Queue, "_begin", lambda self, job: None)
    with served(tmp_path) as (client, places, _):
        path = "/api/runs/a/export"
        argv = client.post(path, headers=OWN, json={"format": "onnx"}).json()["argv"]
        output = f"--output={places.runs}/a/export/best.onnx"
        assert "export" in argv and output in argv and "--format=onnx" in argv
        assert client.post(path, headers=OWN, json={"format": "x"}).status_code == 400
        assert client.post(path, headers=OWN, json={"step": "../x"}).status_code == 400
        (places.runs / "a" / "export").mkdir()
        (places.runs / "a" / "export" / "best.npz").write_bytes(b"1")
        found = client.get("/api/models").json()
        assert found["trained"][0]["exports"] == ["best.npz"] and not found["more"]
        assert client.get("/api/models?q=other").json()["trained"] == []
        monkeypatch.setattr("jaxseg.web.pages_models.MOST", 1)
        fabricate(tmp_path / "runs" / "b")
        found = client.get("/api/models").json()
        assert len(found["trained"]) == 1 and found["more"]
        assert client.get("/api/runs/a/export/best.npz").content == b"1"
        assert client.get("/api/runs/a/export/config.json").status_code == 400


def test_an_import_names_the_settings_of_the_file(tmp_path, monkeypatch):
    """Those of a run or of an experiment; no other file is loaded as a config."""
    fabricate(tmp_path / "runs" / "a")
    monkeypatch.setattr(jobs.Queue, "_begin", lambda self, job: None)
    with served(tmp_path) as (client, places, _):
        (places.data / "x.npz").write_bytes(b"1")
        (places.data / "evil.py").write_text("def get_config(): raise SystemExit")

        def bring(name, config):
            form = {"path": "x.npz", "name": name, "config": config}
            return client.post("/api/models/import", headers=OWN, json=form)

        assert f"{of_run.__file__}:{places.runs}/a" in bring("b", "a").json()["argv"]
        assert "advent:streets" in bring("c", "advent:streets").json()["argv"]
        for wrong in ("none", str(places.data / "evil.py"), "../runs/a", "advent:none"):
            assert bring("d", wrong).status_code == 400, wrong
