"""Synscapes (Wrenninge and Unger, arXiv 1810.08705): 25 000 rendered images of 720x1440.

Labels (`img/class/`) are in the ids of Cityscapes, stored as train ids. It has no split: 'train' is
everything; 'val' has the images whose number is a multiple of 50 (500), 'train_rest' the others.
Published as a tar, which has to be unpacked. The enlarged images (`img/rgb-2k/`), depth and
instances are not read.

Written from published descriptions and programs that read the files; the files themselves were not
available.
"""

from pathlib import Path

from jaxseg.data import labels
from jaxseg.data.conversion import common, published
from jaxseg.data.conversion.convert import Readers
from jaxseg.data.conversion.tree import Files, Tree

LABELS = labels.CITYSCAPES
EXPECTED = "synscapes/img/rgb/N.png and synscapes/img/class/N.png, unpacked or in zips"
LICENCE = "for research, under a licence that Synscapes grants on request"

_COUNTS = common.held_out_counts(25000)


def config(
    *,
    raw: Path | None = None,
    size: tuple[int, int] | None = None,
    split: str | None = None,
) -> common.Config:
    """Returns the config for one split of `raw`, at `size` (height, width) or as published."""
    return common.plain_config("synscapes", _COUNTS, raw=raw, size=size, split=split)


def find(config: common.Config) -> tuple[Tree, list[Files]]:
    """Finds the files of the config's split; raises UserError if one is missing."""
    tree = Tree(config.raw, ("img",), EXPECTED)
    pairs = tree.pair(tree.stems("img/rgb", ".png"), label=tree.stems("img/class", ".png"))
    return tree, common.held_out(pairs, config.options["split"])


read_label = published.label_reader(LABELS.ids, range(34))

Builder = published.builder(
    "synscapes", find=find, readers=Readers(label=read_label), licence=LICENCE
)
