"""Mapillary Vistas 1.2 (Neuhold et al., ICCV 2017): 18 000 train and 2 000 val photographs of many
sizes and places.

Labels are palette PNGs whose indices are the 66 ids. They are stored as Cityscapes train ids, as
the field maps them: general lane markings and manholes are road, curbs are sidewalk, utility poles
are poles, all kinds of riders are riders; what has no counterpart is ignored. In edition 2.0 the
same labels lie in `v1.2/`.
"""

from pathlib import Path

from jaxseg.data import labels
from jaxseg.data.conversion import common, published
from jaxseg.data.conversion.convert import Readers
from jaxseg.data.conversion.tree import Files, Tree

LABELS = labels.CITYSCAPES
EXPECTED = (
    "mapillary/{training,validation}/images/NAME.jpg and "
    "mapillary/{training,validation}/labels/NAME.png (or .../v1.2/labels/), or the published zip "
    "in mapillary/"
)
LICENCE = "CC BY-NC-SA for the research edition: non-commercial, with attribution, share alike"

IDS = {
    **{13: 0, 24: 0, 41: 0, 2: 1, 15: 1, 17: 2, 6: 3, 3: 4, 45: 5, 47: 5, 48: 6, 50: 7, 30: 8},
    **{29: 9, 27: 10, 19: 11, 20: 12, 21: 12, 22: 12, 55: 13, 61: 14, 54: 15, 58: 16, 57: 17},
    **{52: 18},
}
_COUNTS = {"train": 18000, "val": 2000}
_FOLDERS = {"train": "training", "val": "validation"}


def config(
    *,
    raw: Path | None = None,
    size: tuple[int, int] | None = None,
    split: str | None = None,
) -> common.Config:
    """Returns the config for one split of `raw`, at `size` (height, width) or as published."""
    return common.plain_config("mapillary", _COUNTS, raw=raw, size=size, split=split)


def find(config: common.Config) -> tuple[Tree, list[Files]]:
    """Finds the files of the config's split; raises UserError if one is missing."""
    top = _FOLDERS[config.options["split"]]
    tree = Tree(config.raw, tuple(_FOLDERS.values()), EXPECTED)
    images = tree.stems(f"{top}/images", ".jpg")
    if not images:
        raise tree.error(f"holds no images in {top}/images")
    found = tree.stems(f"{top}/labels", ".png") or tree.stems(f"{top}/v1.2/labels", ".png")
    return tree, tree.pair(images, label=found)


read_label = published.label_reader(IDS, range(66))

Builder = published.builder(
    "mapillary", find=find, readers=Readers(label=read_label), licence=LICENCE
)
