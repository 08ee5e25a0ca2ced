"""SYNTHIA-RAND-CITYSCAPES (Ros et al., CVPR 2016): 9 400 rendered images with labels and depth.

Labels are 16-bit PNGs of two or three channels: class in the first, instance in the second. Classes
are stored as Cityscapes train ids (all 19 have a counterpart; `labels.SYNTHIA16` and `SYNTHIA13`
are the subsets usually scored). Depth is the first channel of a 16-bit PNG, in centimetres; 0 and
the largest value (the sky) are stored as 'no value', other values beyond 256 m as 256 m.

The papers use no split: 'train' is everything. To choose a snapshot by source validation, 'val' has
the images whose number is a multiple of 50 (188) and 'train_rest' the others (9 212).
"""

from pathlib import Path

import numpy as np

from jaxseg.data import codec, labels
from jaxseg.data.conversion import common, published
from jaxseg.data.conversion.convert import Readers
from jaxseg.data.conversion.tree import Files, Tree

LABELS = labels.CITYSCAPES
EXPECTED = "synthia/{RGB,GT/LABELS,Depth/Depth or Depth}/NNNNNNN.png"

_IDS = labels.id_table(labels.SYNTHIA_IDS)
_COUNTS = common.held_out_counts(9400)


def config(
    *,
    raw: Path | None = None,
    size: tuple[int, int] | None = None,
    split: str | None = None,
) -> common.Config:
    """Returns the config for one split of `raw`, at `size` (height, width) or as published."""
    keys = ("label", "depth")
    return common.plain_config("synthia", _COUNTS, raw=raw, size=size, split=split, keys=keys)


def find(config: common.Config) -> tuple[Tree, list[Files]]:
    """Finds the files of the config's split; raises UserError if one is missing."""
    tree = Tree(config.raw, ("RGB", "GT", "Depth"), EXPECTED)
    depth = tree.stems("Depth/Depth", ".png") or tree.stems("Depth", ".png")
    pairs = tree.pair(tree.stems("RGB", ".png"), label=tree.stems("GT/LABELS", ".png"), depth=depth)
    return tree, common.held_out(pairs, config.options["split"])


def read_label(data: bytes) -> np.ndarray:
    """Returns uint8 train ids [H, W]."""
    array = codec.decode_first_channel_16(data)
    return labels.lookup(_IDS, array)


def read_depth(data: bytes) -> np.ndarray:
    """Returns float32 metres [H, W], 0 = no value."""
    centimetres = codec.decode_first_channel_16(data)
    return np.where(centimetres == 65535, 0, centimetres).astype(np.float32) / 100


Builder = published.builder(
    "synthia",
    find=find,
    readers=Readers(label=read_label, depth=read_depth),
)
