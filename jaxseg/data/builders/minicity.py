"""MiniCity, of the VIPriors 2020 segmentation challenge (Bruintjes et al., arXiv 2103.03768).

A subset of Cityscapes in flat folders, arranged by the challenge's own script: 200 train and 100
val images, both from the training split of Cityscapes, and 200 test images from its validation
split, renamed to N.png, without labels. The labels are `*_gtFine_labelIds.png`, stored as train
ids.
"""

from collections.abc import Iterator
from pathlib import Path

import tensorflow_datasets as tfds

from jaxseg.data import labels
from jaxseg.data.builders import _common
from jaxseg.data.builders._tree import Files, Tree
from jaxseg.data.builders.cityscapes import read_label

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
) -> _common.Config:
    """Prepares one split of the files in `raw`, at `size` (height, width) or as published."""
    return _common.plain_config("minicity", _COUNTS, raw=raw, size=size, split=split)


def find(config: _common.Config) -> tuple[Tree, list[Files]]:
    """Finds the files of the config's split; UserError if one is missing."""
    tree, split = Tree(config.raw, ("leftImg8bit", "gtFine"), EXPECTED), config.options["split"]
    images = tree.stems(f"leftImg8bit/{split}", ".png" if split == "test" else "_leftImg8bit.png")
    if not images:
        raise tree.error(f"holds no images of {split}")
    if split == "test":
        return tree, tree.pair(images)
    return tree, tree.pair(images, label=tree.stems(f"gtFine/{split}", "_gtFine_labelIds.png"))


class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Converts the published files of one split."""

    name = "minicity"
    VERSION = tfds.core.Version("1.0.0")
    _download_and_prepare = _common.write_splits

    def _info(self) -> tfds.core.DatasetInfo:
        return _common.info(self, label=self.builder_config.options["split"] != "test")

    def _split_generators(self, dl_manager) -> dict[str, Iterator]:
        (tree, pairs), split = find(self.builder_config), self.builder_config.options["split"]
        _common.tell_count(self, pairs, _COUNTS[split], split)
        return {split: self._generate_examples(tree, split, pairs)}

    def _generate_examples(self, tree, split, pairs) -> Iterator[dict]:
        return _common.convert(
            tree,
            pairs,
            title=f"converting minicity {split}",
            size=self.builder_config.size,
            read_label=read_label,
        )
