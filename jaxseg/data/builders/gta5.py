"""GTA5 (Richter et al., ECCV 2016): 24 966 rendered images with labels in the ids of Cityscapes.

Labels are palette PNGs whose indices are the ids. Copies saved as colours (RGB or RGBA) are looked
up exactly in the Cityscapes palette; other colours are ignored. Two published labels (15188 and
17705) differ in size from their image: such a label is resized to its image by nearest neighbour,
with a note. The reference systems, which resize images and labels separately, do the same.

The papers use no split: 'train' is everything. To choose a snapshot by source validation, 'val' has
the images whose number is a multiple of 50 (499) and 'train_rest' the others (24 467). Images with
close numbers show close places, so 'val' is easier than a different town would be.
"""

from pathlib import Path

import numpy as np

from jaxseg.data import codec, labels
from jaxseg.data.conversion import common, published
from jaxseg.data.conversion.convert import Readers
from jaxseg.data.conversion.tree import Files, Tree

LABELS = labels.CITYSCAPES
EXPECTED = (
    "gta5/{images,labels}/NNNNN.png, or the published zips (01_images.zip, 01_labels.zip, ...) "
    "in gta5/"
)

_IDS = labels.id_table(LABELS.ids)
_COLOURS = {colour: train for train, colour in enumerate(LABELS.palette)}
_COUNTS = common.held_out_counts(24966)


def config(
    *,
    raw: Path | None = None,
    size: tuple[int, int] | None = None,
    split: str | None = None,
) -> common.Config:
    """Returns the config for one split of `raw`, at `size` (height, width) or as published."""
    return common.plain_config("gta5", _COUNTS, raw=raw, size=size, split=split)


def find(config: common.Config) -> tuple[Tree, list[Files]]:
    """Finds the files of the config's split; raises UserError if one is missing."""
    tree = Tree(config.raw, ("images", "labels"), EXPECTED)
    pairs = tree.pair(tree.stems("images", ".png"), label=tree.stems("labels", ".png"))
    return tree, common.held_out(pairs, config.options["split"])


def read_label(data: bytes) -> np.ndarray:
    """Returns uint8 train ids [H, W] from a label file: palette, grey, RGB or RGBA."""
    array = codec.decode_any(data)
    if array.ndim == 2:
        return labels.lookup(_IDS, array)
    return labels.lookup_colours(_COLOURS, array)[0]


Builder = published.builder(
    "gta5",
    find=find,
    readers=Readers(label=read_label),
    odd_labels=True,
)
