"""WildDash 2 (Zendel et al., CVPR 2022): 4 256 photographs of driving all over the world, chosen
for what makes them hard.

From the archive of the first public release, `wd_public_02.zip` (later packages have another
layout). The labels are in the ids of Cityscapes; ids above 33, which WildDash added, are ignored.
It has no split: 'train' is everything; 'val' has every 10th image in the order of the names (426),
'train_rest' the others.

Written from published descriptions and programs that read the files; the files themselves were not
available.
"""

from pathlib import Path

from jaxseg.data import labels
from jaxseg.data.conversion import common, published
from jaxseg.data.conversion.convert import Readers
from jaxseg.data.conversion.tree import Files, Tree

LABELS = labels.CITYSCAPES
EXPECTED = "wilddash2/images/NAME.jpg and wilddash2/labels/NAME.png, or wd_public_02.zip in it"
LICENCE = "for non-commercial research, see the terms on wilddash.cc"

_EVERY = 10
_COUNTS = {"train": 4256, "train_rest": 3830, "val": 426}


def config(
    *,
    raw: Path | None = None,
    size: tuple[int, int] | None = None,
    split: str | None = None,
) -> common.Config:
    """Returns the config for one split of `raw`, at `size` (height, width) or as published."""
    return common.plain_config("wilddash2", _COUNTS, raw=raw, size=size, split=split)


def find(config: common.Config) -> tuple[Tree, list[Files]]:
    """Finds the files of the config's split; raises UserError if one is missing."""
    split, tree = config.options["split"], Tree(config.raw, ("images", "labels"), EXPECTED)
    pairs = tree.pair(tree.stems("images", ".jpg"), label=tree.stems("labels", ".png"))
    if split == "train":
        return tree, pairs
    wanted = split == "val"
    return tree, [f for i, f in enumerate(pairs) if (i % _EVERY == _EVERY - 1) == wanted]


read_label = published.label_reader(LABELS.ids, range(64))

Builder = published.builder(
    "wilddash2", find=find, readers=Readers(label=read_label), licence=LICENCE
)
