"""Search: the space's mistakes, two workers of which one is killed, pruning, a real trial."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from kit.small import small_config

from jaxseg.errors import UserError
from jaxseg.run import search, search_space, search_workers
from jaxseg.storage import logs, run_lock

optuna = pytest.importorskip("optuna")

SPACE = """
["optim.gen.lr"]
low = 1e-4
high = 1e-1
log = true

["train.batch"]
low = 2
high = 4

["net.norm"]
choices = ["train", "groupnorm"]
"""
# A training that takes no time: its entropy is the logarithm of its rate. It ends as a trial does.
TRAINER = """
import json, math, os, sys, threading, time
folder = sys.argv[1]
def watch():
    while os.read(0, 1024):
        pass
    os._exit(130)
threading.Thread(target=watch, daemon=True).start()
config = json.load(open(f"{folder}/config.json"))
log = f"{folder}/metrics.jsonl"
done = sum(1 for _ in open(log)) if os.path.exists(log) else 0
for step in range(done + 1, 4):
    time.sleep(float(os.environ.get("TRIAL_SECONDS", 0)))
    line = {"kind": "eval", "step": step, "split": "val", "miou": 0.5,
            "entropy": 5 + math.log10(config["optim"]["gen"]["lr"]) + 1 / step}
    with open(log, "a") as file:
        file.write(json.dumps(line) + "\\n")
"""


@pytest.fixture
def made(tmp_path, monkeypatch):
    """(config, space file, work folder), with trials that only pretend to train."""
    (tmp_path / "space.toml").write_text(SPACE)
    (tmp_path / "trainer.py").write_text(TRAINER)
    monkeypatch.setattr(search, "TRIAL", (sys.executable, str(tmp_path / "trainer.py")))
    monkeypatch.setattr(search_workers, "BEGINNING", 0.5)
    return small_config("advent", tmp_path), str(tmp_path / "space.toml"), str(tmp_path / "search")


def trials(workdir, criterion="entropy"):
    backend = optuna.storages.journal.JournalFileBackend(f"{workdir}/search_by_{criterion}.journal")
    storage = optuna.storages.JournalStorage(backend)
    return optuna.load_study(study_name=None, storage=storage).get_trials()


def test_trials_are_run_folders_and_the_defaults_come_first(made, capsys):
    config, space, workdir = made
    assert search.run(config, workdir, space, 3) == 0
    done = trials(workdir)
    assert [t.state.name for t in done] == ["COMPLETE"] * 3
    assert done[0].params == {
        "optim.gen.lr": config.optim.gen.lr, "train.batch": 2, "net.norm": "train"
    }  # fmt: skip
    for trial in done:
        folder = Path(workdir, f"trial_{trial.number:04d}")
        own = json.loads((folder / "config.json").read_text())
        assert own["optim"]["gen"]["lr"] == trial.params["optim.gen.lr"]
        assert own["net"]["norm"] == trial.params["net.norm"]
        last = logs.evaluations(folder)[-1]
        assert trial.value == last["entropy"] and trial.intermediate_values.keys() == {1, 2, 3}
        assert not (folder / search_workers.FILE).exists()
    found = json.loads(Path(workdir, "search.json").read_text())
    assert found["compared_by"] == "mean entropy (lowest)"
    values = [row["value"] for row in found["trials"]]
    assert values == sorted(values)
    said = capsys.readouterr().out
    assert "3 trials, compared by mean entropy (lowest); the best:" in said
    assert "label" not in said and "miou" not in json.dumps(found).lower()
    assert search.run(config, workdir, space, 3) == 0 and len(trials(workdir)) == 3


def test_labels_only_on_request_and_then_by_name(made, capsys):
    config, space, workdir = made
    search.run(config, workdir, space, 1, criterion="labels")
    assert trials(workdir, "target_labels")[0].value == 0.5
    found = json.loads(Path(workdir, "search.json").read_text())
    assert found["study"].endswith("_by_target_labels")
    assert found["compared_by"] == "mIoU with target labels"
    assert "mIoU with target labels 0.5" in capsys.readouterr().out


def test_a_killed_workers_trial_goes_on_elsewhere(made, tmp_path):
    """One worker is killed while the other works; its trial fails, and ends under a new number."""
    config, space, workdir = made
    code = (
        "import sys, json; from ml_collections import ConfigDict\n"
        "from jaxseg.run import search, search_workers\n"
        f"search.TRIAL = {search.TRIAL!r}; search_workers.BEGINNING = 0.5\n"
        "config = ConfigDict(json.loads(sys.argv[1]))\n"
        f"search.run(config, {workdir!r}, {space!r}, 5)\n"
    )
    env = os.environ | {"TRIAL_SECONDS": "600", "PYTHONPATH": os.pathsep.join(sys.path)}
    killed = subprocess.Popen([sys.executable, "-c", code, config.to_json()], env=env)
    first = Path(workdir, "trial_0000", search_workers.FILE)
    try:
        deadline = time.monotonic() + 60
        while not (first.exists() and json.loads(first.read_text())["training"] > 0):
            assert killed.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)
        training = json.loads(first.read_text())["training"]
        assert search.run(config, workdir, space, 2) == 0  # beside it
        assert [t.state.name for t in trials(workdir)] == ["RUNNING", "COMPLETE"]
    finally:
        killed.send_signal(signal.SIGKILL)
        killed.wait()
    while search_workers.runs(training):  # its training notices and ends
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert search.run(config, workdir, space, 3) == 0
    done = trials(workdir)
    assert [t.state.name for t in done] == ["FAIL", "COMPLETE", "COMPLETE", "COMPLETE"]
    again = next(t for t in done[1:] if t.user_attrs["folder"] == "trial_0000")
    assert again.params == done[0].params


def test_pruning_by_the_criterion(made):
    """Where four trials are better than a fifth at every step, it is pruned."""
    config, space, workdir = made
    config.train.warmup_steps = 0
    taken = search.optuna_study(config, Path(workdir), search.chosen("entropy"))
    for _ in range(5):
        trial = taken.ask()
        for step in (1, 2):
            trial.report(1.0, step)
        taken.tell(trial, 1.0)
    trial = taken.ask()
    trial.report(2.0, 1)
    trial.report(2.0, 2)
    assert trial.should_prune()


def test_failures_end_a_search_that_cannot_work(made, tmp_path):
    config, space, workdir = made
    (tmp_path / "trainer.py").write_text("print('config.x=1: it cannot be'); raise SystemExit(2)")
    with pytest.raises(UserError, match="3 trials failed and none succeeded: config.x=1"):
        search.run(config, workdir, space, 9)
    assert {t.state.name for t in trials(workdir)} == {"FAIL"}


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "is empty"),
        ("x = [", "is not a readable TOML file"),
        ('["optim.gen.lrr"]\nlow = 1\nhigh = 2', "did you mean optim.gen.lr?"),
        ("[optim.gen.lr]\nlow = 1\nhigh = 2", "write the setting in quotes"),
        ('["optim.gen.lr"]\nlow = 2\nhigh = 1', "give numbers low < high"),
        ('["optim.gen.lr"]\nlow = 0.0\nhigh = 1.0\nlog = true', "with true low is above 0"),
        ('["optim.gen.lr"]\nlow = 1\nhigh = 2\nstap = 1', "'stap' is none of low, high"),
        ('["train.batch"]\nlow = 1.5\nhigh = 2.5', "the setting is a whole number"),
        ('["net.norm"]\nchoices = ["train"]', "two or more values"),
    ],
)
def test_mistakes_in_the_space(made, tmp_path, text, message):
    config, space, _ = made
    Path(space).write_text(text)
    with pytest.raises(UserError, match=message):
        search_space.read(space, config)


def test_other_mistakes(made, tmp_path):
    config, space, workdir = made
    with pytest.raises(UserError, match="--criterion=miou; choose one of source_miou, .*labels"):
        search.run(config, workdir, space, 1, criterion="miou")
    with pytest.raises(UserError, match="--trials=0"):
        search.run(config, workdir, space, 0)
    search.run(config, workdir, space, 1)
    Path(space).write_text(SPACE.replace("1e-1", "2e-1"))
    with pytest.raises(UserError, match="holds a search of another space"):
        search.run(config, workdir, space, 1)
    Path(space).write_text(SPACE)
    config.data.records = "elsewhere"  # another host may have its own
    config.train.steps += 1
    with pytest.raises(UserError, match=r"a search with config.train.steps=4, not 5: its trials"):
        search.run(config, workdir, space, 1)


def test_a_process_is_told_from_a_later_one_and_from_one_that_has_ended():
    own = os.getpid()
    since = run_lock.started(own)
    assert search_workers.runs(own) and search_workers.runs(own, since)
    if since is None:
        pytest.skip("no /proc here")
    assert not search_workers.runs(own, "1")  # the number was given again
    child = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # ended, its exit code not asked for
    assert not search_workers.runs(child.pid)
    child.wait()


def test_a_real_trial(tmp_path):
    """`jaxseg.run.trial` trains the folder's config and ends when its worker is gone."""
    config = small_config("source_only", tmp_path, "streets+vgg16")
    for side, each in (("source", 4), ("target", 2)):
        config.data[side].options.counts.update(dict(train=each, val=2))
    config.train.update(dict(steps=10**6, eval_every=0, log_every=1, save_every=0))
    for player in config.optim.values():
        player.schedule_steps = 10**6
    folder = tmp_path / "trial_0000"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config.to_dict()))
    process = subprocess.Popen(
        [sys.executable, "-m", "jaxseg.run.trial", str(folder)], stdin=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    deadline = time.monotonic() + 100
    while not logs.read(folder):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.2)
    process.stdin.close()  # as the system does when a worker dies
    assert process.wait(60) == 130
    assert any(path.name.isdigit() for path in (folder / "checkpoints").iterdir())
