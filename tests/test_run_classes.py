"""A run keeps its classes: a class file that was changed afterwards does not rename them."""

import io
import json

import numpy as np
import pytest
from kit.experiments import load
from rich.console import Console

from jaxseg.errors import UserError
from jaxseg.evaluation import selection
from jaxseg.experiment import run_classes
from jaxseg.report import selection as report_selection
from jaxseg.report import shares
from jaxseg.run import snapshots
from jaxseg.storage import run_folder


@pytest.fixture
def trained(tmp_path):
    """A run on the classes of a file: its config, the file and its folder."""
    config = load("source_only", "folders")
    file = tmp_path / "classes.txt"
    file.write_text("road\nsky\nmoon\n")
    config.data.classes = str(file)
    run_folder.write_config(config, tmp_path / "run")
    run_classes.write(config, tmp_path / "run")
    return config, file, tmp_path / "run"


def test_a_class_file_in_the_root_is_found(tmp_path, monkeypatch):
    config = load("baseline", "folder")
    config.data.root = str(tmp_path)
    run_classes.settle(config)
    assert config.data.classes == "classes.txt"  # there is none anywhere: the message names it
    (tmp_path / "classes.txt").write_text("road\n")
    run_classes.settle(config)
    assert config.data.classes == config.data.target.options.classes == f"{tmp_path}/classes.txt"
    here = tmp_path / "here"
    here.mkdir()
    (here / "classes.txt").write_text("sky\n")
    monkeypatch.chdir(here)
    config.data.classes = "classes.txt"
    run_classes.settle(config)
    assert config.data.classes == "classes.txt"  # where the program runs
    (tmp_path / "cityscapes").mkdir()
    config.data.classes = "cityscapes"
    run_classes.settle(config)
    assert config.data.classes == "cityscapes"


def test_a_tools_export_brings_its_classes(tmp_path, capsys):
    config = load("baseline", "folder")
    config.data.root = str(tmp_path)
    for place in ("JPEGImages", "SegmentationClass"):
        (tmp_path / place).mkdir()
    (tmp_path / "labelmap.txt").write_text("# label:color_rgb:parts:actions\nroad:1,2,3::\n")
    run_classes.settle(config)
    assert config.data.classes == f"{tmp_path}/labelmap.txt"
    assert capsys.readouterr().out == f"classes: those of CVAT in {tmp_path}/labelmap.txt\n"
    (tmp_path / "classes.txt").write_text("sky\n")  # one of the user's own is preferred
    config.data.classes = "classes.txt"
    run_classes.settle(config)
    assert config.data.classes == f"{tmp_path}/classes.txt"


@pytest.mark.parametrize(
    "file, text, said",
    [
        ("images/a.json", '{"shapes": [], "imagePath": "a.jpg"}', "LabelMe's outlines"),
        ("train/_annotations.coco.json", '{"categories": []}', "COCO's outlines"),
        ("labels/train/a.txt", "0 0.1 0.1 0.2 0.2\n", "outlines or boxes of YOLO"),
        ("annotations.xml", "<annotations>\n<version>1.1", "CVAT's XML of outlines"),
    ],
)
def test_outlines_are_refused_by_name_without_a_class_file(tmp_path, file, text, said):
    config = load("baseline", "folder")
    config.data.root = str(tmp_path)
    (tmp_path / "images").mkdir()
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text(text)
    with pytest.raises(UserError, match=said):
        run_classes.settle(config)


def test_a_list_in_another_order_is_noticed(trained):
    config, file, run = trained
    own = run_folder.read_config(run)
    assert run_classes.read(run) == ("road", "sky", "moon")
    run_classes.compare(config, own, run)
    for text, said in (
        (
            "sky\nroad\nmoon\n",
            "class 0 was 'road' and is 'sky'; bring the list back .*classes.json",
        ),
        ("road\nsky\nmoon\nsun\n", "class 3 was missing and is 'sun'"),
        ("road\nsky\n", "class 2 was 'moon' and is missing"),
    ):
        file.write_text(text)
        with pytest.raises(UserError, match=said) as caught:
            run_classes.compare(config, own, run)
        assert str(run) in str(caught.value) and str(file) in str(caught.value)


def test_the_same_list_elsewhere_is_the_same(trained, tmp_path):
    config, file, run = trained
    moved = tmp_path / "elsewhere.txt"
    file.rename(moved)
    config.data.classes = str(moved)
    run_classes.compare(config, run_folder.read_config(run), run)
    (run_folder.checkpoints(run) / "3").mkdir(parents=True)
    run_folder.compare_config(config, run)  # trains on
    config.data.classes = "cityscapes"
    with pytest.raises(UserError, match="predicts the classes of .*give --config.data.classes="):
        run_classes.compare(config, run_folder.read_config(run), run)


def test_runs_of_earlier_versions_have_none(trained):
    config, file, run = trained
    (run / run_classes.FILE).unlink()
    assert run_classes.read(run) is None
    run_classes.compare(config, run_folder.read_config(run), run)


def test_shares_of_predicted_classes(tmp_path):
    maps = {"a": np.array([[0, 0], [1, 2]], np.uint8), "b": np.zeros((2, 2), np.uint8)}
    found = selection.shares(maps, ("road", "sky", "moon", "sun"))
    assert found == {"road": 0.75, "sky": 0.125, "moon": 0.125, "sun": 0.0}
    last = {"step": 2, "miou": None, "predicted": found}
    page = shares.section(tmp_path, {"step": 1, "predicted": {"road": 0.5}}, last)
    assert "75.0" in page and "50.0" in page and "step 1, %" in page and "NaN" not in page
    assert shares.section(tmp_path, last, {"step": 3, "miou": 0.5}) == ""
    assert json.dumps(found)


def test_choices_without_labels_have_no_empty_columns():
    evaluations = [
        {"step": step, "miou": None, "entropy": 0.5 / step, "agreement": 0.1 * step}
        for step in (1, 2, 3)
    ]
    comparison = selection.compare(evaluations)
    console = Console(width=100, record=True, file=io.StringIO())
    snapshots.print_choices(comparison, console)
    told = console.export_text()
    assert "mean entropy" in told and "mIoU" not in told.replace("source validation mIoU", "")
    page = report_selection.section(comparison, evaluations, (0, 3), 0)
    assert "mean entropy" in page.lower() and "below the best" not in page and "labels" not in page
