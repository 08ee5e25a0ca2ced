"""IDD (Varma et al., WACV 2019): streets of India, 14 027 train and 2 036 val images in both parts.

The labels are published as polygons; the publishers' own `createLabels.py --id-type csTrainId`
draws them in the train ids of Cityscapes (`*_gtFine_labelcsTrainIds.png`), the files that are read
here. What has no counterpart, such as auto rickshaws, is ignored; 'non-drivable fallback' stands
for terrain, as the publishers map it.
"""

from pathlib import Path

from jaxseg.data import labels
from jaxseg.data.conversion import common, published
from jaxseg.data.conversion.convert import Readers
from jaxseg.data.conversion.tree import Files, Tree

LABELS = labels.CITYSCAPES
EXPECTED = (
    "idd/leftImg8bit/{train,val}/DRIVE/*_leftImg8bit.png (or .jpg) and "
    "idd/gtFine/{train,val}/DRIVE/*_gtFine_labelcsTrainIds.png, which the publishers' "
    "createLabels.py --id-type csTrainId writes"
)
LICENCE = "for research, see the terms on the IDD site"

_COUNTS = {"train": 14027, "val": 2036}


def config(
    *,
    raw: Path | None = None,
    size: tuple[int, int] | None = None,
    split: str | None = None,
) -> common.Config:
    """Returns the config for one split of `raw`, at `size` (height, width) or as published."""
    return common.plain_config("idd", _COUNTS, raw=raw, size=size, split=split)


def find(config: common.Config) -> tuple[Tree, list[Files]]:
    """Finds the files of the config's split; raises UserError if one is missing."""
    split, tree = config.options["split"], Tree(config.raw, ("leftImg8bit", "gtFine"), EXPECTED)
    place = f"leftImg8bit/{split}"
    images = tree.stems(place, "_leftImg8bit.png") | tree.stems(place, "_leftImg8bit.jpg")
    if not images:
        raise tree.error(f"holds no images of {split}")
    found = tree.stems(f"gtFine/{split}", "_gtFine_labelcsTrainIds.png")
    if not found:
        raise tree.error(f"holds no drawn labels of {split}")
    pairs = tree.pair(dict(sorted(images.items())), label=found)
    # Frames of different drives have the same numbers.
    return tree, [f._replace(id=f"{Path(f.image).parent.name}_{f.id}") for f in pairs]


read_label = published.label_reader(published.TRAIN_IDS)

Builder = published.builder("idd", find=find, readers=Readers(label=read_label), licence=LICENCE)
