"""Cityscapes (Cordts et al., CVPR 2016), fine annotations: 2 975 train, 500 val and 1 525 test
images.

The labels are the `*_gtFine_labelIds.png` files, stored as train ids. Those of the test split are
withheld by the publishers: whatever stands there is not read, and its records have no label.
"""

from pathlib import Path

import numpy as np

from jaxseg.data import codec, labels
from jaxseg.data.builders import _common, _published
from jaxseg.data.builders._tree import Files, Tree

LABELS = labels.CITYSCAPES
EXPECTED = (
    "cityscapes/leftImg8bit/{train,val}/CITY/*_leftImg8bit.png and "
    "cityscapes/gtFine/{train,val}/CITY/*_gtFine_labelIds.png, or leftImg8bit_trainvaltest.zip and "
    "gtFine_trainvaltest.zip in cityscapes/"
)

_IDS = labels.id_table(LABELS.ids)
_COUNTS = {"train": 2975, "val": 500, "test": 1525}


def config(
    *,
    raw: Path | None = None,
    size: tuple[int, int] | None = None,
    split: str | None = None,
) -> _common.Config:
    """Prepares one split of the files in `raw`, at `size` (height, width) or as published."""
    return _common.plain_config("cityscapes", _COUNTS, raw=raw, size=size, split=split)


def find(config: _common.Config) -> tuple[Tree, list[Files]]:
    """Finds the files of the config's split; UserError if one is missing."""
    tree, split = Tree(config.raw, ("leftImg8bit", "gtFine"), EXPECTED), config.options["split"]
    images = tree.stems(f"leftImg8bit/{split}", "_leftImg8bit.png")
    if not images:
        raise tree.error(f"holds no images of {split}")
    if split == "test":
        return tree, tree.pair(images)
    return tree, tree.pair(images, label=tree.stems(f"gtFine/{split}", "_gtFine_labelIds.png"))


def read_label(data: bytes) -> np.ndarray:
    """Returns uint8 train ids [H, W]."""
    array = codec.decode_ids(data)
    labels.refuse_unknown(array, range(34))
    return labels.lookup(_IDS, array)


Builder = _published.builder(
    "cityscapes",
    find=find,
    counts=_COUNTS,
    read_label=read_label,
    withheld=("test",),
)
