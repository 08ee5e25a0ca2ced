"""Dark Zurich (Sakaridis, Dai and Van Gool, ICCV 2019): streets at night, at twilight and by day,
1080x1920.

2 416 unlabelled night images to train on (with the option time: 2 920 of twilight, 3 041 of day),
and 50 labelled ones of the night ('val'); the labels of test are withheld. The labels are the
`*_gt_labelTrainIds.png` files.
"""

import dataclasses
from pathlib import Path

from jaxseg.data import labels
from jaxseg.data.conversion import common, published
from jaxseg.data.conversion.convert import Readers
from jaxseg.data.conversion.tree import Files, Tree
from jaxseg.errors import UserError

LABELS = labels.CITYSCAPES
EXPECTED = (
    "dark_zurich/rgb_anon/train/{day,twilight,night}/GOPR*/*_rgb_anon.png, "
    "dark_zurich/rgb_anon/val/night/GOPR*/*_rgb_anon.png and "
    "dark_zurich/gt/val/night/GOPR*/*_gt_labelTrainIds.png, or Dark_Zurich_train_anon.zip and "
    "Dark_Zurich_val_anon.zip in dark_zurich/"
)
LICENCE = "for non-commercial use, see the terms on the Dark Zurich page"

_TRAIN = {"night": 2416, "twilight": 2920, "day": 3041}


def config(
    *,
    raw: Path | None = None,
    size: tuple[int, int] | None = None,
    split: str | None = None,
    time: str = "night",
) -> common.Config:
    """Returns the config for one split.

    Args:
      raw: the folder of the published files.
      size: (height, width) to store at; None = as published.
      split: 'train' (unlabelled) or 'val'.
      time: of the training images, 'night', 'twilight' or 'day'; val is of the night.

    Raises:
      UserError: an unknown split or time.
    """
    if time not in _TRAIN:
        raise UserError(f"dark_zurich has no time {time!r}; choose one of {', '.join(_TRAIN)}")
    counts, time = {"train": _TRAIN[time], "val": 50}, time if split != "val" else "night"
    plain = common.plain_config(
        "dark_zurich", counts, raw=raw, size=size, split=split,
        keys=("label",) if split == "val" else (), variant=time,
    )  # fmt: skip
    return dataclasses.replace(plain, options={**plain.options, "time": time})


def find(config: common.Config) -> tuple[Tree, list[Files]]:
    """Finds the files of the config's split; raises UserError if one is missing."""
    place = f"{config.options['split']}/{config.options['time']}"
    tree = Tree(config.raw, ("rgb_anon", "gt"), EXPECTED)
    images = tree.stems(f"rgb_anon/{place}", "_rgb_anon.png")
    if not images:
        raise tree.error(f"holds no images in rgb_anon/{place}")
    found = {}
    if "label" in config.keys:
        found["label"] = tree.stems(f"gt/{place}", "_gt_labelTrainIds.png")
    return tree, tree.pair(images, **found)


read_label = published.label_reader(published.TRAIN_IDS)

Builder = published.builder(
    "dark_zurich", find=find, readers=Readers(label=read_label), licence=LICENCE
)
