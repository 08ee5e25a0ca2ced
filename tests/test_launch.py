"""The command line: every mistake is one line and exit code 2."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def launch(*arguments):
    return subprocess.run(
        [sys.executable, "launch.py", *arguments], cwd=ROOT, capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "--config is missing"),
        (["--config=configs/nope.py"], "no config file 'configs/nope.py'"),
        (["--config=configs/advent.py:nope"], "unknown preset 'nope'"),
        (["--config=configs/advent.py", "--config.train.stepz=1"], "did you mean steps?"),
        (["--config=configs/advent.py", "--config.nope.x=1"], "no setting config.nope.x"),
        (  # the misspelt one is blamed, not the one that it resembles
            ["--config=configs/advent.py", "--config.train.steps=24", "--config.train.stepz=3"],
            "no setting config.train.stepz; did you mean steps?",
        ),
        (["--config=configs/advent.py", "--config.train.steps=abc"], "'abc'"),
        (["--config=configs/advent.py", "--config.train.steps=1.5"], "'1.5'"),
        (["--config=configs/advent.py", "--mode=trane"], "train|evaluate|predict"),
        (["--config=configs/advent.py", "train"], "unexpected argument 'train'"),
        (["--confg=1"], "Unknown command line flag 'confg'"),
    ],
)
def test_mistakes_end_in_one_line(arguments, message):
    done = launch(*arguments)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--weights=a.pth"], "--weights is for --mode=evaluate, predict, export and translate"),
        (["--step=2"], "--step is for --mode=evaluate, predict, export and translate"),
        (["--mode=evaluate", "--submission"], "--submission is for --mode=predict, not evaluate"),
        (["--mode=evaluate", "--input=a.png"], "--input is for --mode=predict, not evaluate"),
        (["--mode=evaluate", "--weights="], "--weights is empty"),
        (["--mode=evaluate", "--weights=a.pth", "--step=2"], "--step and --weights cannot be used"),
        (["--mode=evaluate", "--ensemble=a,b", "--step=2"], "a member's step is given as DIR@STEP"),
        (["--mode=evaluate", "--ensemble=a", "--weights=b"], "--ensemble and --weights cannot be"),
        (["--mode=evaluate", "--save=a"], "--save needs --weights"),
        (["--mode=evaluate", "--ensemble_weights=1,1"], "--ensemble_weights needs --ensemble"),
        (["--mode=predict"], "--mode=predict needs --input=FILE_OR_FOLDER"),
        (["--mode=predict", "--input=nowhere"], "--input=nowhere: no such file or folder"),
        (["--split=test"], "--split is for --mode=evaluate, not train"),
        (["--mode=predict", "--input=a", "--step=all"], "--step=all is for --mode=evaluate"),
        (["--mode=export", "--size=5"], "--size=5 is not HEIGHT,WIDTH"),
        (["--mode=search", "--trials=3"], "--mode=search needs --space=FILE and --trials=N"),
        (["--profile=0"], "--profile=0: give 1 step or more"),
    ],
)
def test_flags_that_do_not_go_together(arguments, message):
    done = launch("--config=configs/advent.py", *arguments)
    assert done.returncode == 2 and message in done.stderr, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--config.data.source.size=5"], "config.data.source.size=(5,) is not (height, width)"),
        (["--mode=evaluate"], "no checkpoint in"),
        (["--mode=evaluate", "--weights=nowhere.pth"], "nowhere.pth: no such weights file"),
        (["--mode=evaluate", "--ensemble=nowhere"], "'nowhere' is neither the folder of a run"),
        (
            ["--mode=evaluate", "--step=best", "--config.eval.scales=(0,)"],
            "config.eval.scales=(0,)",
        ),
    ],
)
def test_mistakes_found_later_end_in_one_line_too(arguments, message, tmp_path):
    done = launch("--config=configs/advent.py", f"--workdir={tmp_path}/new", *arguments)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr and "Traceback" not in done.stderr


def test_missing_weights_are_told_before_anything_is_prepared(tmp_path):
    given = ["--config=configs/advent.py", f"--config.data.records={tmp_path / 'records'}"]
    run = launch(*given, "--config.init.backbone=no.pth", f"--workdir={tmp_path / 'run'}")
    assert run.returncode == 2 and run.stderr.count("\n") == 1
    assert "no.pth: no such weights file" in run.stderr
    assert not (tmp_path / "records").exists()


def test_a_missing_data_set_shows_tree_and_flag(tmp_path):
    done = launch(
        "--config=configs/advent.py:gta5_cityscapes", f"--workdir={tmp_path}/new",
        f"--config.data.root={tmp_path}", f"--config.data.records={tmp_path}/records",
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "--config.data.root" in done.stderr and "leftImg8bit" in done.stderr
    assert "Traceback" not in done.stderr


def test_help_imports_nothing_heavy():
    code = (
        "import runpy, sys\n"
        "sys.argv = ['launch.py', '--help']\n"
        "try:\n    runpy.run_path('launch.py', run_name='__main__')\n"
        "except SystemExit:\n    pass\n"
        "heavy = {'jax', 'flax', 'tensorflow_datasets'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--workdir" in done.stdout and "--mode" in done.stdout


def parsed(*arguments):
    """What the flags of a command line become."""
    code = (
        "import json, sys\n"
        "from jaxseg.cli import flags, parsing\n"
        "parsing.parse(['launch.py', *sys.argv[1:]])\n"
        "config = flags.CONFIG.value\n"
        "print(json.dumps([config.to_dict(), flags.path(flags.WORKDIR), 'jax' in sys.modules]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True, text=True,
        env={**os.environ, "HOME": "/somewhere"}, check=True,
    )  # fmt: skip
    return json.loads(done.stdout)


def test_the_last_value_of_a_setting_counts():
    """Those of a tuple were joined."""
    config, workdir, _ = parsed(
        "--config=advent", "--config.net.rates=(1,2)", "--config.data.target.size=(32,64)",
        "--config.net.rates", "(3,4,5)", "--config.eval.flip", "--config.net.rates=(7,)",
        "--noconfig.eval.flip", "--workdir=~/runs/a", "--config.train.steps", "5",
        "--config.train.steps", "9",
    )  # fmt: skip
    assert config["net"]["rates"] == [7] and config["data"]["target"]["size"] == [32, 64]
    assert config["train"]["steps"] == 9 and config["eval"]["flip"] is False
    assert workdir == "/somewhere/runs/a"


def test_a_run_brings_its_own_config(tmp_path):
    (tmp_path / "config.json").write_text(
        '{"name": "mine", "net": {"rates": [1, 2], "width": 4}, "made": {}}'
    )
    config, _, _ = parsed(
        "--mode=predict", f"--workdir={tmp_path}", "--config.net.width=5", "--input=a.png"
    )
    assert config["name"] == "mine" and "made" not in config
    assert config["net"]["rates"] == [1, 2] and config["net"]["width"] == 5
