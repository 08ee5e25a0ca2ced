"""BDD100K (Yu et al., CVPR 2020), semantic segmentation: 7 000 train and 1 000 val images of
720x1280 with labels in the train ids of Cityscapes.
"""

from pathlib import Path

from jaxseg.data import labels
from jaxseg.data.conversion import common, published
from jaxseg.data.conversion.convert import Readers
from jaxseg.data.conversion.tree import Files, Tree

LABELS = labels.CITYSCAPES
EXPECTED = (
    "bdd100k/images/10k/{train,val}/NAME.jpg and "
    "bdd100k/labels/sem_seg/masks/{train,val}/NAME.png, or bdd100k_images_10k.zip and "
    "bdd100k_sem_seg_labels_trainval.zip in bdd100k/"
)
LICENCE = "free with its notice for research and education; commercial use on request"

_COUNTS = {"train": 7000, "val": 1000}


def config(
    *,
    raw: Path | None = None,
    size: tuple[int, int] | None = None,
    split: str | None = None,
) -> common.Config:
    """Returns the config for one split of `raw`, at `size` (height, width) or as published."""
    return common.plain_config("bdd100k", _COUNTS, raw=raw, size=size, split=split)


def find(config: common.Config) -> tuple[Tree, list[Files]]:
    """Finds the files of the config's split; raises UserError if one is missing."""
    split, tree = config.options["split"], Tree(config.raw, ("images", "labels"), EXPECTED)
    images = tree.stems(f"images/10k/{split}", ".jpg")
    if not images:
        raise tree.error(f"holds no images in images/10k/{split}")
    return tree, tree.pair(images, label=tree.stems(f"labels/sem_seg/masks/{split}", ".png"))


read_label = published.label_reader(published.TRAIN_IDS)

Builder = published.builder(
    "bdd100k", find=find, readers=Readers(label=read_label), licence=LICENCE
)
