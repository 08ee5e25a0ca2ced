"""Validation splits of sources that were published without one."""

import numpy as np
import pytest
from PIL import Image

from jaxseg.data import raw_files, records
from jaxseg.data.builders import gta5, synthia
from jaxseg.errors import UserError


def make(root, name, numbers):
    """Images of 2x3 pixels, whose first pixel is the image's number."""
    folders = {"gta5": ("images", "labels", 5), "synthia": ("RGB", "GT/LABELS", 7)}[name]
    for number in numbers:
        for folder in folders[:2] + (("Depth",) if name == "synthia" else ()):
            path = root / name / folder / f"{number:0{folders[2]}d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            shape = (2, 3) if folder in ("labels", "GT/LABELS", "Depth") else (2, 3, 3)
            Image.fromarray(np.full(shape, number % 20, np.uint8)).save(path)


def ids(tmp_path, name, split):
    source = records.open_split(
        name, split, records_dir=tmp_path / "records", raw_dir=tmp_path / "raw"
    )
    return [int(source[i]["id"]) for i in range(len(source))]


@pytest.mark.parametrize("name", ["gta5", "synthia"])
def test_splits_are_disjoint_and_whole(tmp_path, name, capsys):
    make(tmp_path / "raw", name, range(1, 121))
    assert ids(tmp_path, name, "train") == list(range(1, 121))
    assert ids(tmp_path, name, "val") == [50, 100]
    assert ids(tmp_path, name, "train_rest") == [n for n in range(1, 121) if n not in (50, 100)]
    said = capsys.readouterr().out
    published = {"gta5": (24966, 499, 24467), "synthia": (9400, 188, 9212)}[name]
    assert f"{name} train holds 120 images, {published[0]} were published" in said
    assert f"{name} val holds 2 images, {published[1]} were published" in said
    assert f"{name} train_rest holds 118 images, {published[2]} were published" in said
    assert f"converting {name} train_rest: 118" in said


def test_the_counts_told_are_those_of_the_published_numbers():
    for module, numbers in ((gta5, range(1, 24967)), (synthia, range(9400))):
        validation = sum(number % 50 == 0 for number in numbers)
        assert module._COUNTS == {
            "train": len(numbers),
            "train_rest": len(numbers) - validation,
            "val": validation,
        }


def test_parts_that_are_not_there_change_nothing_for_the_others(tmp_path):
    make(tmp_path / "raw", "gta5", [*range(80, 105), *range(140, 160)])
    assert ids(tmp_path, "gta5", "val") == [100, 150]


def test_too_few_images_to_hold_one_out_are_noticed_before_anything_is_prepared(tmp_path):
    make(tmp_path / "raw", "gta5", range(1, 6))
    raw_files.check("gta5", "train_rest", raw_dir=tmp_path / "raw")
    with pytest.raises(UserError, match="none of 5 images, 00001 to 00005, is of 'val'.*50th numb"):
        raw_files.check("gta5", "val", raw_dir=tmp_path / "raw")


def test_names_without_a_number(tmp_path):
    make(tmp_path / "raw", "gta5", range(1, 4))
    for folder in ("images", "labels"):
        path = tmp_path / "raw" / "gta5" / folder / "00002.png"
        path.rename(path.with_name("second.png"))
    with pytest.raises(UserError, match="images/second.png: not a number.*split 'train'"):
        ids(tmp_path, "gta5", "val")
    with pytest.raises(UserError, match="no split 'test'; it has train, train_rest, val"):
        ids(tmp_path, "gta5", "test")


def test_validation_scenes_of_streets_leave_the_training_scenes_alone(tmp_path):
    options = {"records_dir": tmp_path, "size": (16, 32), "seed": 3, "domain": "rendered_varied"}
    alone = records.open_split("streets", "train", counts={"train": 4}, **options)
    counts = {"train": 4, "val": 3}
    beside = records.open_split("streets", "train", counts=counts, **options)
    assert [alone[i] for i in range(4)] == [beside[i] for i in range(4)]
    validation = records.open_split("streets", "val", counts=counts, **options)
    assert len(validation) == 3
    images = {beside[i]["image"] for i in range(4)} | {validation[i]["image"] for i in range(3)}
    assert len(images) == 7
