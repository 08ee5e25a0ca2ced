"""Class names, id maps and palettes of the data sets, and the tables between them.

Sources: Cityscapes (Cordts et al., CVPR 2016), SYNTHIA-RAND-CITYSCAPES (Ros et al., CVPR 2016),
CamVid (Brostow et al., PRL 2009) in the 11-class grouping of SegNet (Badrinarayanan et al., 2015).

Records of `streets`, `gta5`, `synthia` and `cityscapes` all hold the 19 train ids of Cityscapes, so
that one record serves every protocol: the 16 and 13 classes of SYNTHIA are subsets, reached with
`remap`.
"""

from typing import NamedTuple

import numpy as np

from jaxseg.errors import UserError

IGNORE = 255


class LabelSet(NamedTuple):
    """The classes of one protocol; a class's position is its train id."""

    name: str
    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    ids: dict[int, int]  # id in the published files -> train id; whatever is not listed is ignored


_CITYSCAPES_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)

CITYSCAPES = LabelSet(
    name="cityscapes",
    classes=(
        *("road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign"),
        *("vegetation", "terrain", "sky", "person", "rider", "car", "truck", "bus", "train"),
        *("motorcycle", "bicycle"),
    ),
    palette=(
        *((128, 64, 128), (244, 35, 232), (70, 70, 70), (102, 102, 156), (190, 153, 153)),
        *((153, 153, 153), (250, 170, 30), (220, 220, 0), (107, 142, 35), (152, 251, 152)),
        *((70, 130, 180), (220, 20, 60), (255, 0, 0), (0, 0, 142), (0, 0, 70)),
        *((0, 60, 100), (0, 80, 100), (0, 0, 230), (119, 11, 32)),
    ),
    ids={raw: train for train, raw in enumerate(_CITYSCAPES_IDS)},
)

# What the ids of SYNTHIA mean in Cityscapes train ids. All 19 classes have a counterpart; void (0),
# parking slot (13), road work (14) and lane marking (22) have none and are ignored, as in the maps
# the field uses.
SYNTHIA_IDS = {
    **{3: 0, 4: 1, 2: 2, 21: 3, 5: 4, 7: 5, 15: 6, 9: 7, 6: 8, 16: 9, 1: 10, 10: 11, 17: 12},
    **{8: 13, 18: 14, 19: 15, 20: 16, 12: 17, 11: 18},
}


def _synthia_subset(name: str, left_out: tuple[str, ...]) -> LabelSet:
    kept = [i for i, title in enumerate(CITYSCAPES.classes) if title not in left_out]
    position = {train: i for i, train in enumerate(kept)}
    return LabelSet(
        name=name,
        classes=tuple(CITYSCAPES.classes[i] for i in kept),
        palette=tuple(CITYSCAPES.palette[i] for i in kept),
        ids={raw: position[train] for raw, train in SYNTHIA_IDS.items() if train in position},
    )


SYNTHIA16 = _synthia_subset("synthia16", ("terrain", "truck", "train"))
SYNTHIA13 = _synthia_subset("synthia13", ("terrain", "truck", "train", "wall", "fence", "pole"))

CAMVID = LabelSet(
    name="camvid",
    classes=(
        *("Sky", "Building", "Pole", "Road", "Pavement", "Tree", "SignSymbol", "Fence", "Car"),
        *("Pedestrian", "Bicyclist"),
    ),
    palette=(
        *((128, 128, 128), (128, 0, 0), (192, 192, 128), (128, 64, 128), (60, 40, 222)),
        *((128, 128, 0), (192, 128, 128), (64, 64, 128), (64, 0, 128), (64, 64, 0), (0, 128, 192)),
    ),
    ids={i: i for i in range(11)},  # 11 = Unlabelled
)

# SegNet's 11 CamVid classes are groups of CamVid's 32: Building holds Wall, Tunnel and Bridge; Car
# holds Truck_Bus, Train and SUVPickupTruck; SignSymbol holds TrafficLight; Tree holds
# VegetationMisc, hence grass (terrain); Bicyclist holds MotorcycleScooter and the cycle itself,
# hence rider, motorcycle and bicycle. Every one of the 11 classes is reached, so all 11 are scored.
_CITYSCAPES_TO_CAMVID = {
    **{"road": "Road", "sidewalk": "Pavement", "building": "Building", "wall": "Building"},
    **{
        "fence": "Fence",
        "pole": "Pole",
        "traffic light": "SignSymbol",
        "traffic sign": "SignSymbol",
    },
    **{"vegetation": "Tree", "terrain": "Tree", "sky": "Sky", "person": "Pedestrian"},
    **{"rider": "Bicyclist", "car": "Car", "truck": "Car", "bus": "Car", "train": "Car"},
    **{"motorcycle": "Bicyclist", "bicycle": "Bicyclist"},
}

_SETS = {s.name: s for s in (CITYSCAPES, SYNTHIA16, SYNTHIA13, CAMVID)}


def by_name(name: str) -> LabelSet:
    """Returns the label set of that name; UserError, listing the names, when there is none."""
    if name not in _SETS:
        raise UserError(f"no label set is called {name!r}; choose one of {', '.join(_SETS)}")
    return _SETS[name]


def id_table(ids: dict[int, int]) -> np.ndarray:
    """Returns `ids` as a table uint8 [256] for `lookup`; ids not listed become IGNORE."""
    table = np.full(256, IGNORE, np.uint8)
    for raw, train in ids.items():
        table[raw] = train
    return table


def lookup(table: np.ndarray, raw: np.ndarray) -> np.ndarray:
    """Returns table[raw], uint8 in the shape of `raw`; raw ids outside 0..255 become IGNORE."""
    outside = (raw < 0) | (raw > 255)
    return np.where(outside, np.uint8(IGNORE), table[np.where(outside, 0, raw)])


def remap(source_set: LabelSet, target_set: LabelSet) -> np.ndarray:
    """The table that turns train ids of one set into train ids of another.

    Args:
      source_set: the set that the labels are in.
      target_set: the set wanted. Classes are matched by name (Cityscapes and its SYNTHIA subsets),
        or by SegNet's grouping towards CamVid.

    Returns:
      uint8 [256]; index it with a label image. Classes without a counterpart, and 255, become 255.

    Raises:
      UserError: no class of the one has a counterpart in the other (CamVid's coarse classes cannot
        be split).
    """
    names = {title: title for title in source_set.classes}
    if target_set.name == "camvid" and source_set.name != "camvid":
        names = _CITYSCAPES_TO_CAMVID
    ids = {
        i: target_set.classes.index(names[title])
        for i, title in enumerate(source_set.classes)
        if names[title] in target_set.classes
    }
    if not ids:
        raise UserError(f"labels of {source_set.name!r} cannot be turned into {target_set.name!r}")
    return id_table(ids)


def colorize(label: np.ndarray, label_set: LabelSet) -> np.ndarray:
    """Paints train ids in the set's palette.

    Args:
      label: integers of any shape [...].
      label_set: the set the ids belong to.

    Returns:
      uint8 [..., 3] RGB; ids outside the set, such as 255, are black.
    """
    colours = np.zeros((256, 3), np.uint8)
    colours[: len(label_set.palette)] = label_set.palette
    label = np.asarray(label)
    return colours[np.where((label < 0) | (label > 255), IGNORE, label).astype(np.uint8)]
