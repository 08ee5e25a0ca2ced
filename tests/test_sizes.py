"""A user's images at their own size, from generated files; sizes and crops by hand."""

import json

import numpy as np
import pytest
from PIL import Image

from configs import baseline
from jaxseg.errors import UserError
from jaxseg.experiment import sizes


def own(tmp_path, shapes):
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    for i, (height, width) in enumerate(shapes):
        Image.fromarray(np.zeros((height, width, 3), np.uint8)).save(tmp_path / f"images/{i}.png")
        Image.fromarray(np.zeros((height, width), np.uint8)).save(tmp_path / f"labels/{i}.png")
    (tmp_path / "classes.txt").write_text("road\nsky\n")
    config = baseline.get_config("folder")
    config.data.root = str(tmp_path)
    config.data.classes = str(tmp_path / "classes.txt")
    return config


@pytest.mark.parametrize(
    "size, fitted, crop",
    [
        ((48, 64), (48, 64), ()),
        ((360, 480), (360, 480), (256, 352)),
        ((1024, 2048), (512, 1024), (224, 448)),
        ((4000, 3000), (1024, 768), (352, 256)),
        ((2, 9000), (1, 1024), ()),
        ((256, 384), (256, 384), ()),
    ],
)
def test_sizes_and_crops(size, fitted, crop):
    assert sizes.fitted(size) == fitted and sizes.crop_of(fitted) == crop


def test_the_most_frequent_size_of_the_training_images(tmp_path):
    config = own(tmp_path, [(30, 40)] * 3 + [(600, 800)] * 8 + [(40, 30)])
    config.data.target.options.val_percent = 0.0
    sizes.settle(config)
    assert config.data.target.size == config.data.source.size == (600, 800)
    assert config.augment.source.crop == (256, 352)


def test_what_is_given_stays_and_a_run_keeps_its_own(tmp_path):
    config = own(tmp_path, [(30, 40)])
    config.data.target.options.val_percent = 0.0
    run = tmp_path / "run"
    run.mkdir()
    saved = {"data": {side: {"size": [500, 700]} for side in ("source", "target")}}
    (run / "config.json").write_text(json.dumps(saved))
    config.augment.source.crop = (64, 64)
    sizes.settle(config, run)
    assert config.data.target.size == (500, 700) and config.augment.source.crop == (64, 64)
    config.data.target.size = (24, 32)
    sizes.settle(config, run)
    assert config.data.target.size == (24, 32)


def test_without_images(tmp_path):
    config = own(tmp_path, [(30, 40)])
    config.data.target.options.images = "nowhere"
    with pytest.raises(UserError, match="no folder .*nowhere"):
        sizes.settle(config)
    with config.unlocked():
        config.data.target = dict(config.data.target.to_dict(), name="gta5", options={})
    with pytest.raises(UserError, match=r"give --config\.data\.target\.size=HEIGHT,WIDTH"):
        sizes.settle(config)
