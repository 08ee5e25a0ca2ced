"""CamVid (Brostow et al., PRL 2009) in the 11 classes and the split of SegNet.

367 train, 101 val and 233 test images of 360x480 pixels.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

from jaxseg.data import codec, labels
from jaxseg.data.builders import _common
from jaxseg.data.builders._tree import Tree

LABELS = labels.CAMVID
EXPECTED = (
    "camvid/{train,trainannot,val,valannot[,test,testannot]}/NAME.png, "
    "equal names for image and label"
)

_IDS = labels.id_table(LABELS.ids)
_COUNTS = {"train": 367, "val": 101, "test": 233}


def config(*, raw: Path | None = None, size: tuple[int, int] | None = None) -> _common.Config:
    """Prepares the files in `raw`, stored at `size` (height, width) or as published."""
    return _common.plain_config(size, raw)


def read_label(data: bytes) -> np.ndarray:
    """Returns uint8 train ids [H, W]; 11 (unlabelled) becomes 255."""
    array = codec.decode_ids(data)
    return labels.lookup(_IDS, array)


class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Converts the published files; test may be absent."""

    name = "camvid"
    VERSION = tfds.core.Version("1.0.0")
    _download_and_prepare = _common.write_splits

    def _info(self) -> tfds.core.DatasetInfo:
        return _common.info(self)

    def _split_generators(self, dl_manager) -> dict[str, Iterator]:
        tops = tuple(f"{split}{kind}" for split in _COUNTS for kind in ("", "annot"))
        tree = Tree(self.builder_config.raw, tops, EXPECTED)
        splits = {}
        for split, published in _COUNTS.items():
            images, truth = tree.stems(split, ".png"), tree.stems(f"{split}annot", ".png")
            if split == "test" and not images and not truth:
                continue
            if not images:
                raise tree.error(f"holds no images of {split}")
            splits[split] = tree.pair(images, label=truth)
            _common.tell_count(self, splits[split], published, split)
        return {
            split: self._generate_examples(tree, split, pairs) for split, pairs in splits.items()
        }

    def _generate_examples(self, tree, split, pairs) -> Iterator[dict]:
        return _common.convert(
            tree,
            pairs,
            title=f"converting camvid {split}",
            size=self.builder_config.size,
            read_label=read_label,
        )
