"""UrbanSyn (Gomez et al., "All for One, and One for All: UrbanSyn Dataset, the third Musketeer of
Synthetic Driving Scenes", Neurocomputing 2025): 7 539 rendered images of 1024x2048.

Labels (`ss/`) hold the 19 train ids of Cityscapes, and 19 for what has no class. It has no split:
'train' is everything; 'val' has the images whose number is a multiple of 50 (150), 'train_rest' the
others. Depth, instances and boxes are not read.
"""

import re
from pathlib import Path

from jaxseg.data import labels
from jaxseg.data.conversion import common, published
from jaxseg.data.conversion.convert import Readers
from jaxseg.data.conversion.tree import Files, Tree

LABELS = labels.CITYSCAPES
EXPECTED = "urbansyn/rgb/rgb_NNNN.png and urbansyn/ss/ss_NNNN.png, or zips of these in urbansyn/"
LICENCE = "CC BY-SA 4.0: commercial use is allowed, with attribution and under the same licence"

_COUNTS = common.held_out_counts(7539)


def config(
    *,
    raw: Path | None = None,
    size: tuple[int, int] | None = None,
    split: str | None = None,
) -> common.Config:
    """Returns the config for one split of `raw`, at `size` (height, width) or as published."""
    return common.plain_config("urbansyn", _COUNTS, raw=raw, size=size, split=split)


def find(config: common.Config) -> tuple[Tree, list[Files]]:
    """Finds the files of the config's split; raises UserError if one is missing."""
    tree = Tree(config.raw, ("rgb", "ss"), EXPECTED)
    images, found = (_by_number(tree.stems(top, ".png")) for top in ("rgb", "ss"))
    return tree, common.held_out(tree.pair(images, label=found), config.options["split"])


def _by_number(stems: dict[str, str]) -> dict[str, str]:
    """{'rgb_0001': path} as {'0001': path}; names without a number stay as they are."""
    numbers = {stem: re.search(r"\d+$", stem) for stem in stems}
    return {match[0] if (match := numbers[stem]) else stem: path for stem, path in stems.items()}


read_label = published.label_reader(published.TRAIN_IDS, [19])

Builder = published.builder(
    "urbansyn", find=find, readers=Readers(label=read_label), licence=LICENCE
)
