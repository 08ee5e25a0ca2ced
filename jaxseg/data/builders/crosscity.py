"""Cross-City (Chen et al., ICCV 2017), also called NTHU: streets of Rio, Rome, Taipei and Tokyo.

Each city has 3 200 unlabelled images ('train') and 100 labelled ones ('val', called Test by its
publishers). The label of Images/Test/NAME.jpg or .png is Labels/Test/NAME_eval.png in the ids of
Cityscapes; 13 of its classes were annotated (`labels.CROSSCITY13`). Other files of the same label
(NAME_city.png and so on) are not read. If there are both NAME.png and NAME.jpg, as some converters
leave them, the JPEG is used. Judging by file names, many 'val' images are also in 'train' (Rio 24,
Rome 17, Taipei 89, Tokyo 34): adaptation sees these images, but not their labels.
"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

from jaxseg.data import codec, labels
from jaxseg.data.conversion import common
from jaxseg.data.conversion.convert import Readers, convert
from jaxseg.data.conversion.tree import Files, Tree
from jaxseg.errors import UserError

LABELS = labels.CITYSCAPES
CITIES = ("Rio", "Rome", "Taipei", "Tokyo")
EXPECTED = (
    "crosscity/{Rio,Rome,Taipei,Tokyo}/Images/{Train,Test}/NAME.jpg or .png and "
    "crosscity/CITY/Labels/Test/NAME_eval.png"
)

# Cityscapes ids -> train ids of the 13 classes; all others -> IGNORE.
_IDS = labels.remap(labels.CROSSCITY13, LABELS)[labels.id_table(labels.CROSSCITY13.ids)]
_COUNTS = {"train": 3200, "val": 100}
_FOLDERS = {"train": "Train", "val": "Test"}


def config(
    *,
    raw: Path | None = None,
    size: tuple[int, int] | None = None,
    split: str | None = None,
    city: str = "",
) -> common.Config:
    """Returns the config for one split of one city.

    Args:
      raw: the folder of the published files.
      size: (height, width) to store at; None = as published.
      split: 'train' (unlabelled) or 'val'.
      city: one of CITIES.

    Raises:
      UserError: an unknown split or city.
    """
    if city not in CITIES:
        raise UserError(
            f"crosscity has no city {city!r}; set the option city to one of {', '.join(CITIES)}"
        )
    plain = common.plain_config("crosscity", _COUNTS, raw=raw, size=size, split=split)
    return dataclasses.replace(
        plain,
        name=f"{city}-{plain.name}",
        options={**plain.options, "city": city},
        keys=("label",) if plain.options["split"] == "val" else (),
    )


def find(config: common.Config) -> tuple[Tree, list[Files]]:
    """Finds the files of the config's split; raises UserError if one is missing."""
    city, split = config.options["city"], config.options["split"]
    tree = Tree(config.raw, (city,), EXPECTED)
    top = f"{city}/Images/{_FOLDERS[split]}"
    images = {**tree.stems(top, ".png"), **tree.stems(top, ".jpg")}
    if not images:
        raise tree.error(f"holds no images of {city} in Images/{_FOLDERS[split]}")
    images = dict(sorted(images.items()))
    if split == "train":
        return tree, tree.pair(images)
    found = tree.stems(f"{city}/Labels/Test", "_eval.png")
    if not found:
        others = tree.stems(f"{city}/Labels/Test", ".png")
        names = f"{len(others)} other PNGs, first {min(others)}.png" if others else "no PNGs at all"
        raise tree.error(f"holds no *_eval.png in {city}/Labels/Test ({names})")
    return tree, tree.pair(images, label=found)


def read_label(data: bytes) -> np.ndarray:
    """Returns uint8 Cityscapes train ids [H, W]; pixels outside the 13 classes are 255."""
    return labels.lookup(_IDS, _raw(data))


def _raw(data: bytes) -> np.ndarray:
    """Decodes a label file to Cityscapes ids; raises UserError for colours and unknown ids."""
    array = codec.decode_index(data)
    if array is None:
        raise UserError("holds colours; expected the ids of Cityscapes")
    labels.refuse_unknown(array, range(34))
    return array


class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Converts the published files of one split of one city."""

    name = "crosscity"
    VERSION = tfds.core.Version("1.0.0")
    _download_and_prepare = common.write_splits

    def _info(self) -> tfds.core.DatasetInfo:
        return common.info(self)

    def _split_generators(self, dl_manager) -> dict[str, Iterator]:
        (tree, pairs), split = find(self.builder_config), self.builder_config.options["split"]
        common.tell_count(self, pairs)
        return {split: self._generate_examples(tree, split, pairs)}

    def _generate_examples(self, tree, split, pairs) -> Iterator[dict]:
        city, seen = self.builder_config.options["city"], set()

        def read(data: bytes) -> np.ndarray:
            raw = _raw(data)
            seen.update(np.unique(raw).tolist())
            return labels.lookup(_IDS, raw)

        yield from convert(
            tree,
            pairs,
            title=f"converting crosscity {city} {split}",
            config=self.builder_config,
            readers=Readers(label=read),
        )
        # No plants, sky, people or vehicles anywhere: the values are train ids, 0..18.
        if split == "val" and not seen & set(range(19, 34)):
            raise UserError(
                f"{tree.folder}: the *_eval.png of {city} hold {sorted(seen)}, which look like "
                f"train ids; expected the ids of Cityscapes (road 7, sky 23, car 26)"
            )
