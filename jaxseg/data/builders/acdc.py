"""ACDC (Sakaridis, Dai and Van Gool, ICCV 2021): streets in fog, at night, in rain and in snow,
1080x1920.

1 600 train, 406 val and 2 000 test images, a quarter of them in each condition, and as many images
of the same places in good conditions ('train_ref', 'val_ref', 'test_ref'), which have no labels;
the publishers withhold those of test. The labels are the `*_gt_labelTrainIds.png` files. Both the
published folders (`rgb_anon/fog/train/`) and those without conditions (`rgb_anon/train/`), as
DAFormer's preparation leaves them, are read.
"""

import dataclasses
from pathlib import Path

from jaxseg.data import labels
from jaxseg.data.conversion import common, published
from jaxseg.data.conversion.convert import Readers
from jaxseg.data.conversion.tree import Files, Tree
from jaxseg.errors import UserError

LABELS = labels.CITYSCAPES
CONDITIONS = ("fog", "night", "rain", "snow")
EXPECTED = (
    "acdc/rgb_anon/{fog,night,rain,snow}/{train,val,test,train_ref,...}/GOPR*/*_rgb_anon.png and "
    "acdc/gt/CONDITION/{train,val}/GOPR*/*_gt_labelTrainIds.png, or rgb_anon_trainvaltest.zip and "
    "gt_trainval.zip in acdc/"
)
LICENCE = "for non-commercial use, see the terms on the ACDC site"

_COUNTS = {"train": 1600, "val": 406, "test": 2000}
_COUNTS |= {f"{split}_ref": count for split, count in _COUNTS.items()}
_OF_ONE = {split: count // 4 for split, count in _COUNTS.items()}


def config(
    *,
    raw: Path | None = None,
    size: tuple[int, int] | None = None,
    split: str | None = None,
    condition: str = "",
) -> common.Config:
    """Returns the config for one split.

    Args:
      raw: the folder of the published files.
      size: (height, width) to store at; None = as published.
      split: 'train', 'val', 'test' or one of these with '_ref'.
      condition: one of CONDITIONS; '' for all.

    Raises:
      UserError: an unknown split or condition.
    """
    if condition and condition not in CONDITIONS:
        raise UserError(
            f"acdc has no condition {condition!r}; choose one of {', '.join(CONDITIONS)}, or '' "
            "for all"
        )
    counts = _OF_ONE | ({"val": 106, "val_ref": 106} if condition == "night" else {})
    plain = common.plain_config(
        "acdc", counts if condition else _COUNTS, raw=raw, size=size, split=split,
        keys=("label",) if split in (None, "train", "val") else (), variant=condition,
    )  # fmt: skip
    return dataclasses.replace(plain, options={**plain.options, "condition": condition})


def find(config: common.Config) -> tuple[Tree, list[Files]]:
    """Finds the files of the config's split; raises UserError if one is missing."""
    split, condition = config.options["split"], config.options["condition"]
    tree = Tree(config.raw, ("rgb_anon", "gt"), EXPECTED)
    suffix = "_rgb_ref_anon.png" if split.endswith("_ref") else "_rgb_anon.png"
    images = _of(tree.stems("rgb_anon", suffix), split, condition)
    if not images:
        what = f"{split} in {condition}" if condition else split
        raise tree.error(f"holds no images of {what}")
    found = {}
    if "label" in config.keys:
        found["label"] = _of(tree.stems("gt", "_gt_labelTrainIds.png"), split, condition)
    return tree, tree.pair(images, **found)


def _of(stems: dict[str, str], split: str, condition: str) -> dict[str, str]:
    """Those of a split, and of a condition where folders tell it."""
    chosen = {}
    for stem, path in stems.items():
        above = stem.split("/")[:-1]
        if split in above and (not condition or condition in above):
            chosen[stem] = path
    return chosen


read_label = published.label_reader(published.TRAIN_IDS)

Builder = published.builder("acdc", find=find, readers=Readers(label=read_label), licence=LICENCE)
