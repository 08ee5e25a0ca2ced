"""SHIFT (Sun et al., CVPR 2022): rendered drives under discrete shifts of weather and time of day,
one image a second of the front camera, 800x1280.

Labels are CARLA's tags in the first channel of a PNG, stored as Cityscapes train ids. 13 of the 19
classes occur: pedestrians are persons, all vehicles are cars, and there are no riders, trucks,
buses, trains or two-wheelers. Labels that were decoded from the published videos hold other values
and are refused; take the zips of images.

Written from published descriptions and programs that read the files; the files themselves were not
available.
"""

from pathlib import Path

import numpy as np

from jaxseg.data import codec, labels
from jaxseg.data.conversion import common, published
from jaxseg.data.conversion.convert import Readers
from jaxseg.data.conversion.tree import Files, Tree

LABELS = labels.CITYSCAPES
EXPECTED = (
    "shift/discrete/images/{train,val}/front/img/DRIVE/*_img_front.jpg and "
    "shift/discrete/images/{train,val}/front/semseg/DRIVE/*_semseg_front.png, or img.zip and "
    "semseg.zip in front/"
)
LICENCE = "CC BY-NC-SA 4.0: non-commercial, with attribution, share alike"

IDS = {
    **{7: 0, 6: 0, 8: 1, 1: 2, 11: 3, 2: 4, 5: 5, 18: 6, 12: 7, 9: 8, 22: 9, 13: 10, 4: 11},
    **{10: 13},
}
_COUNTS = {"train": 0, "val": 0}


def config(
    *,
    raw: Path | None = None,
    size: tuple[int, int] | None = None,
    split: str | None = None,
) -> common.Config:
    """Returns the config for one split of `raw`, at `size` (height, width) or as published."""
    return common.plain_config("shift", _COUNTS, raw=raw, size=size, split=split)


def find(config: common.Config) -> tuple[Tree, list[Files]]:
    """Finds the files of the config's split; raises UserError if one is missing."""
    top = f"discrete/images/{config.options['split']}/front"
    tree = Tree(config.raw, ("discrete",), EXPECTED)
    images, found = (
        _by_frame(tree.stems(top, suffix)) for suffix in ("_img_front.jpg", "_semseg_front.png")
    )
    if not images:
        raise tree.error(f"holds no images in {top}")
    pairs = tree.pair(images, label=found)
    # Frames of different drives have the same numbers.
    return tree, [
        f._replace(id=stem.replace("/", "_")) for stem, f in zip(images, pairs, strict=True)
    ]


def _by_frame(stems: dict[str, str]) -> dict[str, str]:
    """{'img/0003-17fb/00000010': path} as {'0003-17fb/00000010': path}."""
    return {"/".join(stem.split("/")[-2:]): path for stem, path in stems.items()}


def read_label(data: bytes) -> np.ndarray:
    """Returns uint8 train ids [H, W] from the first channel of a label file."""
    tags = codec.decode_first_channel_16(data)
    labels.refuse_unknown(tags, range(23))
    return labels.lookup(_TABLE, tags)


_TABLE = labels.id_table(IDS)

Builder = published.builder("shift", find=find, readers=Readers(label=read_label), licence=LICENCE)
