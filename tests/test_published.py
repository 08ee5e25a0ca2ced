"""`gta5_cityscapes` on files in the published layouts, with a tiny ResNet for the papers'."""

import numpy as np
from kit.raw_cityscapes import SIZE, write_cityscapes
from kit.raw_files import draw, save
from kit.small import TINY

from configs import advent
from jaxseg.run import train
from jaxseg.storage import logs
from jaxseg.storage.checkpoints import checkpoint


def write_gta5(root):
    for number in range(48, 52):  # 50 is held out
        save(root / "gta5" / "images" / f"{number:05d}.png", draw(number, *SIZE, 3))
        label = np.repeat(np.repeat(draw(number, 6, 12, high=35), 8, 0), 8, 1)
        save(root / "gta5" / "labels" / f"{number:05d}.png", label)


def test_gta5_cityscapes_trains_two_steps(tmp_path):
    write_gta5(tmp_path / "raw")
    write_cityscapes(tmp_path / "raw")
    config = advent.get_config("gta5_cityscapes")
    config.data.root, config.data.records = str(tmp_path / "raw"), str(tmp_path / "records")
    config.data.source.size = config.data.target.size = SIZE
    config.net.backbone = TINY[config.net.backbone]
    config.train.update(dict(batch=2, steps=2, eval_every=0, log_every=1))
    assert train.run(config, str(tmp_path / "run")) == 0
    lines = logs.read(tmp_path / "run")
    for line in lines:
        if line["kind"] == "train":
            assert all(np.isfinite(v) for v in line.values() if isinstance(v, float))
            assert 1.0 < line["segmentation/main"] < 20.0
    assert lines[-1]["kind"] == "eval" and lines[-1]["images"] == 2
    with checkpoint.open_manager(tmp_path / "run" / "checkpoints", read_only=True) as manager:
        assert checkpoint.restore_model(manager, "last")[0] == 2
