"""MiniCity, from the VIPriors 2020 segmentation challenge (Bruintjes et al., arXiv 2103.03768).

A subset of Cityscapes in flat folders, arranged by the challenge's own script: 200 train and 100
val images, both from the training split of Cityscapes, and 200 test images from its validation
split, renamed to N.png, without labels. The labels are `*_gtFine_labelIds.png`, stored as train
ids; `*_gtFine_instanceIds.png` are stored for val, if they are there.
"""

from pathlib import Path

from jaxseg.data import labels
from jaxseg.data.builders.cityscapes import instances_of, keys_and_variant, read_label
from jaxseg.data.conversion import common, published
from jaxseg.data.conversion.convert import Readers
from jaxseg.data.conversion.tree import Files, Tree

LABELS = labels.CITYSCAPES
EXPECTED = (
    "minicity/leftImg8bit/{train,val}/*_leftImg8bit.png, minicity/leftImg8bit/test/N.png and "
    "minicity/gtFine/{train,val}/*_gtFine_labelIds.png"
)

_COUNTS = {"train": 200, "val": 100, "test": 200}


def config(
    *,
    raw: Path | None = None,
    size: tuple[int, int] | None = None,
    split: str | None = None,
) -> common.Config:
    """Returns the config for one split of `raw`, at `size` (height, width) or as published."""
    keys, variant = keys_and_variant(split or "train")
    return common.plain_config(
        "minicity", _COUNTS, raw=raw, size=size, split=split, keys=keys, variant=variant
    )


def find(config: common.Config) -> tuple[Tree, list[Files]]:
    """Finds the files of the config's split; raises UserError if one is missing."""
    tree, split = Tree(config.raw, ("leftImg8bit", "gtFine"), EXPECTED), config.options["split"]
    images = tree.stems(f"leftImg8bit/{split}", ".png" if split == "test" else "_leftImg8bit.png")
    if not images:
        raise tree.error(f"holds no images of {split}")
    if split == "test":
        return tree, tree.pair(images)
    found = {"label": tree.stems(f"gtFine/{split}", "_gtFine_labelIds.png")}
    return tree, tree.pair(images, **found, **instances_of(tree, config))


Builder = published.builder("minicity", find=find, readers=Readers(label=read_label))
