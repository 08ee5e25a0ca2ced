"""The picture of several runs beside each other, from run folders made by hand."""

import json

import numpy as np
import pytest
from PIL import Image

from benchmarks import ladder_sheet


def run_folder(path, colour, image=7):
    """A run folder with one picture, evaluated at two steps."""
    pictures = path / "pictures"
    for step in ("00000010", "00000020"):
        (pictures / step).mkdir(parents=True)
        shade = np.full((8, 16, 3), colour if step == "00000020" else 0, np.uint8)
        Image.fromarray(shade).save(pictures / step / "0_prediction.png")
    Image.fromarray(np.full((8, 16, 3), image, np.uint8)).save(pictures / "0_image.jpg")
    Image.fromarray(np.full((8, 16, 3), 9, np.uint8)).save(pictures / "0_truth.png")
    known = dict(set="two", classes=["road", "sky"], palette=[[1, 2, 3], [4, 5, 6]])
    (path / "classes.json").write_text(json.dumps(known))
    return path


def test_the_last_step_of_each_run_is_shown(tmp_path, capsys):
    runs = [run_folder(tmp_path / name, colour) for name, colour in (("a", 100), ("b", 200))]
    columns = ladder_sheet.columns_of(runs, [0])
    assert [column[0][0, 0, 0] for column in columns] == [7, 9, 100, 200]
    output = tmp_path / "sheet.jpg"
    flags = [f"--runs={runs[0]},{runs[1]}", "--images=0", "--columns=3", "--width=306"]
    assert ladder_sheet.main([*flags, f"--output={output}"]) == 0
    with Image.open(output) as picture:
        assert picture.format == "JPEG" and picture.width == 306
    assert f"{output}: 306 x" in capsys.readouterr().out


def test_runs_of_other_images_and_without_pictures_are_refused(tmp_path, capsys):
    ours, other = run_folder(tmp_path / "a", 1), run_folder(tmp_path / "b", 1, image=99)
    for runs, told in (((ours, other), "0_image.jpg"), ((ours, tmp_path), "No such file")):
        assert ladder_sheet.main([f"--runs={runs[0]},{runs[1]}", "--images=0"]) == 2
        said = capsys.readouterr().err
        assert told in said and said.count("\n") == 1
    with pytest.raises(SystemExit):
        ladder_sheet.main([f"--runs={ours}", "--captions=one,two"])
