"""CamVid (Brostow et al., PRL 2009) in SegNet's 11 classes and split.

367 train, 101 val and 233 test images of 360x480 pixels.
"""

from pathlib import Path

import numpy as np

from jaxseg.data import codec, labels
from jaxseg.data.conversion import common, published
from jaxseg.data.conversion.convert import Readers
from jaxseg.data.conversion.tree import Files, Tree

LABELS = labels.CAMVID
EXPECTED = (
    "camvid/{train,trainannot,val,valannot[,test,testannot]}/NAME.png, "
    "equal names for image and label"
)

_IDS = labels.id_table(LABELS.ids)
_COUNTS = {"train": 367, "val": 101, "test": 233}


def config(
    *,
    raw: Path | None = None,
    size: tuple[int, int] | None = None,
    split: str | None = None,
) -> common.Config:
    """Returns the config for one split of `raw`, at `size` (height, width) or as published."""
    return common.plain_config("camvid", _COUNTS, raw=raw, size=size, split=split)


def find(config: common.Config) -> tuple[Tree, list[Files]]:
    """Finds the files of the config's split; raises UserError if one is missing."""
    tops = tuple(f"{split}{kind}" for split in _COUNTS for kind in ("", "annot"))
    tree, split = Tree(config.raw, tops, EXPECTED), config.options["split"]
    images = tree.stems(split, ".png")
    if not images:
        raise tree.error(f"holds no images of {split}")
    return tree, tree.pair(images, label=tree.stems(f"{split}annot", ".png"))


def read_label(data: bytes) -> np.ndarray:
    """Returns uint8 train ids [H, W]; 11 (unlabelled) becomes 255."""
    array = codec.decode_ids(data)
    labels.refuse_unknown(array, range(12))
    return labels.lookup(_IDS, array)


Builder = published.builder(
    "camvid",
    find=find,
    readers=Readers(label=read_label),
)
