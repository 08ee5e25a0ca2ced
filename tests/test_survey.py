"""The data report: counts by hand, sizes as published, pictures, unknown values."""

import importlib
import json

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from jaxseg.data import classfile, codec, labels, records, tally
from jaxseg.errors import UserError
from jaxseg.run import inspect

# Rows of a 4x6 label file, by image: road 0, sky 1, moon 2 (never seen), ignored 255.
ROWS = {"a": (0, 0, 1, 255), "b": (1, 1, 1, 1), "c": (255, 255, 255, 255), "d": (0, 1, 0, 1)}


def save(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)


def experiment(tmp_path, val_split="val"):
    """Own labelled images of two sizes as the source, own unlabelled ones as the target."""
    for i, (name, rows) in enumerate(ROWS.items()):
        split, scale = ("val", 1) if name == "d" else ("train", 2 if name == "b" else 1)
        label = np.repeat(np.array(rows, np.uint8)[:, None], 6, 1).repeat(scale, 0).repeat(scale, 1)
        grey = np.full((*label.shape, 3), 90 + i, np.uint8)
        save(tmp_path / "mine" / "images" / split / f"{name}.png", grey)
        save(tmp_path / "mine" / "labels" / split / f"{name}.png", label)
    exif = Image.Exif()
    exif[0x0112] = 6
    for i in range(30):
        array = np.full((5, 9, 3), i, np.uint8)
        save(tmp_path / "theirs" / f"{i}.jpg", array, exif=exif if i == 3 else b"")
    (tmp_path / "classes.txt").write_text("road\nsky\nmoon\n")
    config = importlib.import_module("configs.source_only").get_config("streets+scratch")
    classes = str(tmp_path / "classes.txt")
    mine = dict(images="mine/images", labels="mine/labels", classes=classes)
    theirs = dict(images="theirs", labels="", val_percent=20)
    config.data.source = ConfigDict(
        dict(name="folder", split="train", val_split="val", size=(4, 6), options=ConfigDict(mine))
    )
    config.data.target = ConfigDict(
        dict(name="folder", split="train", val_split=val_split, size=(5, 9),
             options=ConfigDict(theirs))
    )  # fmt: skip
    config.data.update(dict(root=str(tmp_path), records=str(tmp_path / "records")))
    config.data.classes = classes
    return config


def test_numbers_and_pictures(tmp_path, capsys):
    inspect.run(experiment(tmp_path), str(tmp_path / "out"))
    written = json.loads((tmp_path / "out" / "survey.json").read_text())
    assert written["classes"] == ["road", "sky", "moon"]
    train, val, target, target_val = written["parts"]
    assert [part["title"] for part in written["parts"]] == [
        *("source train", "source val", "target train", "target val")
    ]
    assert [part["images"] for part in written["parts"]] == [3, 1, 24, 6]
    assert train["sizes"] == {"4x6": 2, "8x12": 1} and train["stored"] == "4x6"
    assert train["pixels"] == {"road": 12, "sky": 6 + 24, "moon": 0}
    assert train["pixel_share"]["sky"] == pytest.approx(30 / 42)
    assert train["images_with"] == {"road": 1, "sky": 2, "moon": 0}
    assert train["ignored_share"] == pytest.approx(30 / 72)
    assert val["pixels"] == {"road": 12, "sky": 12, "moon": 0} and val["ignored_share"] == 0
    sizes = {**target["sizes"]}
    for size, number in target_val["sizes"].items():
        sizes[size] = sizes.get(size, 0) + number
    assert sizes == {"5x9": 29, "9x5": 1}
    assert not target["labelled"] and "pixels" not in target and target_val["images"] == 6
    assert target_val["stored"] == "as published"
    said = " ".join(capsys.readouterr().out.split())
    assert "│ source train │ folder │ 3 │ 4x6 (2) │ 4x6 │ 41.7 % │" in said
    assert "│ sky │ 71.429 | 67 │ 50.000 | 100 │" in said and "│ moon │ never │ never │" in said
    assert "no labels" in said
    assert "note: source train never shows moon" in said
    assert "note: 1 images of source train have no labelled pixel" in said
    # Labelled images stand beside themselves with their labels.
    for name, rows in (("source_train", 2), ("source_val", 1), ("target_train", 6)):
        sheet = np.asarray(Image.open(tmp_path / "out" / f"{name}.png"))
        assert sheet.shape[1] == 6 + {"source_val": 2}.get(name, 4) * 326
        assert sheet.shape[0] > rows * 150
    # The grey photograph, and road in the colour of its class over it.
    sheet = np.asarray(Image.open(tmp_path / "out" / "source_val.png")).astype(int)
    palette = classfile.by_name(str(tmp_path / "classes.txt")).palette
    expected = 0.45 * 93 + 0.55 * np.array(palette[0])
    assert (sheet[6:200, 6:326] == 93).all()
    assert np.abs(sheet[6:200, 332:652] - expected).sum(-1).min() < 3


def test_a_split_that_both_sides_read_is_told_once(tmp_path):
    config = experiment(tmp_path, val_split="")
    config.data.source = config.data.target
    inspect.run(config, str(tmp_path / "out"))
    (part,) = json.loads((tmp_path / "out" / "survey.json").read_text())["parts"]
    assert part["title"] == "source train, target train"
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "source_train.png",
        "survey.json",
    ]


def test_unknown_values_are_told_with_file_and_count(tmp_path):
    config = experiment(tmp_path)
    path = tmp_path / "mine" / "labels" / "train" / "a.png"
    label = np.asarray(Image.open(path)).copy()
    label[1] = 9
    save(path, label)
    with pytest.raises(UserError, match=f"{path}: unknown label value 9 in 6 pixels"):
        inspect.run(config, str(tmp_path / "out"))


class Memory:
    name, split, folder, size, labelled = "memory", "train", "nowhere", None, True
    label_set = labels.CITYSCAPES
    where = records.Source.where

    def __init__(self, arrays):
        self.arrays = arrays

    def __len__(self):
        return len(self.arrays)

    def __getitem__(self, index):
        return {"id": f"r{index}", "label": codec.encode_png(self.arrays[index])}


def test_tally_counts_by_image_and_class():
    rng = np.random.default_rng(0)
    arrays = [rng.integers(0, 19, (5, 7 + i)).astype(np.uint8) for i in range(9)]
    arrays[4][:] = 255
    table = labels.remap(labels.CITYSCAPES, labels.SYNTHIA16)
    found = tally.tally(Memory(arrays), table, 16, threads=3)
    for i, array in enumerate(arrays):
        counts = np.bincount(table[array].ravel(), minlength=256)
        np.testing.assert_array_equal(found.counts[i], counts[:16])
        assert found.ignored[i] == counts[16:].sum() == array.size - found.counts[i].sum()
    assert found.counts.dtype == np.int64
    arrays[7][0, :3] = 19
    with pytest.raises(UserError, match="'r7' of memory.*label id 19 in 3 pixels.*19 classes"):
        tally.tally(Memory(arrays), table, 16)
    unlabelled = Memory(arrays)
    unlabelled.labelled = False
    assert not tally.tally(unlabelled, table, 16).counts.any()
