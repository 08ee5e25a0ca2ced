"""The contact sheet of the augmentations, made small."""

import numpy as np
from PIL import Image

from benchmarks import augmentation_sheet
from jaxseg.data import transforms


def test_the_sheet_is_drawn(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(augmentation_sheet, "SIZE", (24, 48))
    monkeypatch.setattr(augmentation_sheet, "WIDTH", 320)
    monkeypatch.setattr(augmentation_sheet, "MIXING", augmentation_sheet.MIXING[:2])
    monkeypatch.setattr(augmentation_sheet, "PAIRS", augmentation_sheet.PAIRS[2:3])
    path = tmp_path / "sheet.jpg"
    monkeypatch.setattr("sys.argv", ["augmentation_sheet", f"--output={path}"])
    assert augmentation_sheet.main() == 0
    with Image.open(path) as picture:
        assert picture.format == "JPEG" and picture.width == 320 and picture.height > 250
        assert np.asarray(picture).std() > 20
    assert str(path) in capsys.readouterr().out
    monkeypatch.setattr(augmentation_sheet, "sheet", lambda: np.zeros((8, 8, 3), np.uint8))
    monkeypatch.setattr("sys.argv", ["augmentation_sheet", f"--output={tmp_path}/no/sheet.jpg"])
    assert augmentation_sheet.main() == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_every_host_augmentation_is_on_it():
    shown = set()
    for _, settings, _ in (
        augmentation_sheet.GEOMETRY + augmentation_sheet.COLOUR + augmentation_sheet.LOOKS
    ):
        shown |= transforms.check_augment(settings).keys()
    assert shown | {"crop_tries"} >= transforms._AUGMENT.keys()
