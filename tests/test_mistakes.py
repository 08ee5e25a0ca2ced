"""A user's mistake becomes one line; a developer's mistake keeps its traceback."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from jaxseg import methods
from jaxseg.data import builders, records
from jaxseg.errors import UserError, check_keywords
from jaxseg.experiment.method import make_method

ROOT = Path(__file__).resolve().parent.parent
TOY = """
NETWORKS = ()

def make(*, num_classes, statistics, weight, sharp=False):
    {body}
"""


def method_of(text, folder, monkeypatch, **settings):
    """`make_method` for a method file that exists for this test only."""
    (folder / "toy.py").write_text(text)
    monkeypatch.setattr(methods, "__path__", [*methods.__path__, str(folder)])
    monkeypatch.delitem(sys.modules, "jaxseg.methods.toy", raising=False)
    importlib.invalidate_caches()
    config = importlib.import_module("configs.advent").get_config("streets+scratch")
    with config.unlocked():
        config.method.name = "toy"
        config.method.settings = settings
    try:
        return make_method(config)
    finally:
        sys.modules.pop("jaxseg.methods.toy", None)


def test_a_toy_method_is_found_and_given_its_settings(tmp_path, monkeypatch):
    text = TOY.format(body="return (num_classes, statistics, weight, sharp)")
    assert method_of(text, tmp_path, monkeypatch, weight=2.0) == (19, "target", 2.0, False)


@pytest.mark.parametrize(
    "text, error, match",
    [
        ("import notinstalled\n", ModuleNotFoundError, "No module named 'notinstalled'"),
        ("from jaxseg.methods import nope\n", ImportError, "cannot import name 'nope'"),
        ("def make(:\n", SyntaxError, "invalid syntax"),
        (TOY.format(body="return len(num_classes)"), TypeError, "object of type 'int' has no len"),
        (TOY.format(body="return int('x')"), ValueError, "invalid literal"),
    ],
)
def test_a_mistake_in_a_method_file_shows_itself(text, error, match, tmp_path, monkeypatch):
    with pytest.raises(error, match=match) as caught:
        method_of(text, tmp_path, monkeypatch, weight=1.0)
    shown = [str(entry.path) for entry in caught.traceback]
    assert isinstance(caught.value, SyntaxError) or shown[-1] == str(tmp_path / "toy.py")


@pytest.mark.parametrize(
    "settings, match",
    [
        (
            {"weight": 1.0, "wieght": 1.0},
            "method toy has no setting 'wieght'; it takes sharp, weig",
        ),
        ({"weight": 1.0, "num_classes": 2}, "method toy has no setting 'num_classes'"),
        ({}, "method toy needs the setting 'weight'; it takes sharp, weight"),
        ({"weight": -1.0}, "method toy: weight=-1.0 is negative"),
    ],
)
def test_settings_that_a_method_does_not_take_are_one_line(settings, match, tmp_path, monkeypatch):
    body = "from jaxseg.errors import UserError; raise UserError(f'weight={weight} is negative')"
    with pytest.raises(UserError, match=match):
        method_of(TOY.format(body=body), tmp_path, monkeypatch, **settings)


@pytest.mark.parametrize("name", ["nope", "parts", "parts.align", "_align", "__init__"])
def test_an_unknown_method_is_one_line_that_lists_them(name):
    config = importlib.import_module("configs.advent").get_config("streets+scratch")
    config.method.name = name
    with pytest.raises(
        UserError, match=rf"no method '{name}': .* choose one of adaptsegnet, adven"
    ):
        make_method(config)


def test_keywords_of_a_function_that_takes_anything():
    check_keywords(lambda *, a=1, **more: None, ["b"], what="it")


@pytest.mark.parametrize(
    "text, options, error, match",
    [
        ("import notinstalled\n", {}, ModuleNotFoundError, "notinstalled"),
        ("def config(raw, size, split, seed=0):\n    raise KeyError(seed)\n", {}, KeyError, "0"),
        ("def config(raw, size, split, seed=0): ...\n", {"sead": 1}, UserError, "it takes seed"),
        ("def config(*, raw, size, split, city): ...\n", {}, UserError, "needs the option 'city'"),
    ],
)
def test_a_mistake_in_a_builder_shows_itself(text, options, error, match, tmp_path, monkeypatch):
    (tmp_path / "toy.py").write_text(text)
    monkeypatch.setattr(builders, "__path__", [*builders.__path__, str(tmp_path)])
    importlib.invalidate_caches()
    try:
        with pytest.raises(error, match=match):
            records.open_split("toy", "train", records_dir=tmp_path, **options)
    finally:
        sys.modules.pop("jaxseg.data.builders.toy", None)


def launch(*arguments):
    return subprocess.run(
        [sys.executable, "launch.py", "--mode=inspect", *map(str, arguments)], cwd=ROOT,
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    "text, error",
    [
        ("import notinstalled\n", "ModuleNotFoundError: No module named 'notinstalled'"),
        ("def get_config(:\n", "SyntaxError: invalid syntax"),
        ("def get_config():\n    return nope\n", "NameError: name 'nope' is not defined"),
        ("def get_config():\n    return int('x')\n", "ValueError: invalid literal for int()"),
        ("def get_config():\n    return len(3)\n", "TypeError: object of type 'int' has no len()"),
        ("open('nowhere')\n", "FileNotFoundError: [Errno 2] No such file or directory: 'nowhere'"),
    ],
)
def test_a_mistake_in_a_config_shows_itself(text, error, tmp_path):
    path = tmp_path / "own.py"
    path.write_text(text)
    done = launch(f"--config={path}") if "nope" in text else launch("--config", path)
    assert done.returncode == 1, done.stderr
    assert "Traceback" in done.stderr and str(path) in done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith(error), done.stderr


OWN = """
def get_config(preset="a"):
    if preset != "a":
        raise ValueError(f"unknown preset {preset!r}")
"""


@pytest.mark.parametrize(
    "text, preset, line",
    [
        ("", "", "has no function get_config"),
        (OWN, ":b", "launch.py: unknown preset 'b'"),
        (OWN, "", "returns None, which is no ConfigDict"),
        ("def get_config(): ...\n", ":b", "get_config has too many positional arguments"),
    ],
)
def test_what_a_user_gets_wrong_about_a_config_is_one_line(text, preset, line, tmp_path):
    (tmp_path / "own.py").write_text(text)
    done = launch(f"--config={tmp_path}/own.py{preset}")
    assert done.returncode == 2 and line in done.stderr, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
