"""Class names, ids and palettes of the data sets, and tables from one to another.

Sources: Cityscapes (Cordts et al., CVPR 2016), SYNTHIA-RAND-CITYSCAPES (Ros et al., CVPR 2016),
CamVid (Brostow et al., PRL 2009) in the 11-class grouping of SegNet (Badrinarayanan et al., 2015),
Cross-City (Chen et al., ICCV 2017), Virtual KITTI (Gaidon et al., CVPR 2016).

Records of all published data sets but CamVid, and those of `streets`, hold the 19 train ids of
Cityscapes, so that one record serves every protocol: the 16 and 13 classes of SYNTHIA, the 13 of
Cross-City and the 10 of Virtual KITTI are subsets; `remap` converts to them.
"""

import collections
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

import numpy as np

from jaxseg.errors import UserError

IGNORE = 255


class LabelSet(NamedTuple):
    """The classes of one evaluation protocol; a class's position is its train id."""

    name: str
    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    ids: dict[int, int]  # id in the published files -> train id; ids not listed are ignored


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

# SYNTHIA ids -> Cityscapes train ids. All 19 classes have a counterpart; void (0),
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


def _cityscapes_subset(name: str, classes: Collection[str | None]) -> LabelSet:
    """A LabelSet of some Cityscapes classes, in Cityscapes order and with Cityscapes ids."""
    kept = [i for i, title in enumerate(CITYSCAPES.classes) if title in classes]
    return LabelSet(
        name=name,
        classes=tuple(CITYSCAPES.classes[i] for i in kept),
        palette=tuple(CITYSCAPES.palette[i] for i in kept),
        ids={raw: kept.index(i) for raw, i in CITYSCAPES.ids.items() if i in kept},
    )


CROSSCITY13 = _cityscapes_subset("crosscity13", SYNTHIA13.classes)

# Virtual KITTI class names -> Cityscapes class names. Trees are vegetation and vans are cars, as
# Cityscapes defines them; guard rails are void in Cityscapes, and the meaning of Misc and Undefined
# is not known.
VIRTUAL_KITTI_NAMES = {
    **{"Terrain": "terrain", "Sky": "sky", "Tree": "vegetation", "Vegetation": "vegetation"},
    **{"Building": "building", "Road": "road", "GuardRail": None, "TrafficSign": "traffic sign"},
    **{"TrafficLight": "traffic light", "Pole": "pole", "Misc": None, "Truck": "truck"},
    **{"Car": "car", "Van": "car", "Undefined": None},
}

# The 10 classes shared by Virtual KITTI and KITTI; adaptation from Virtual KITTI to KITTI is scored
# on them (Chen et al., CVPR 2019).
VIRTUAL_KITTI = _cityscapes_subset("virtual_kitti", VIRTUAL_KITTI_NAMES.values())

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

SETS = {s.name: s for s in (CITYSCAPES, SYNTHIA16, SYNTHIA13, CROSSCITY13, VIRTUAL_KITTI, CAMVID)}


UNLABELLED = LabelSet("unlabelled", (), (), {})  # for images without labels


def lookup_colours(
    colours: Mapping[tuple[int, int, int], int], image: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Converts colours to ids by exact match.

    Args:
      colours: (red, green, blue) -> id.
      image: uint8 [H, W, C], its first three channels red, green and blue.

    Returns:
      ids uint8 [H, W], IGNORE for colours not listed; a mask of those pixels, bool [H, W].
    """
    table = np.full(2**24, 256, np.uint16)  # one entry per RGB colour: faster than a search
    for (red, green, blue), train in colours.items():
        table[red * 65536 + green * 256 + blue] = train
    channels = [image[..., i].astype(np.int32) for i in range(3)]
    found = table[channels[0] * 65536 + channels[1] * 256 + channels[2]]
    unlisted = found == 256
    return np.where(unlisted, IGNORE, found).astype(np.uint8), unlisted


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


def refuse_unknown(raw: np.ndarray, known: Iterable[int]) -> None:
    """Raises UserError if a label file holds values that are not known.

    Args:
      raw: the file's values, integers [H, W].
      known: the allowed values; IGNORE is always allowed.

    Raises:
      UserError: names the most frequent unknown value and its pixel count; the caller adds the
        name of the file.
    """
    known = {*known, IGNORE}
    if raw.dtype == np.uint8:  # five times as fast
        every = np.bincount(raw.ravel(), minlength=256)
        values = np.flatnonzero(every)
        counts = every[values]
    else:
        values, counts = np.unique(raw, return_counts=True)
    odd = [
        (count, value)
        for value, count in zip(values.tolist(), counts.tolist(), strict=True)
        if value not in known
    ]
    if odd:
        count, value = max(odd)
        others = f" (and {len(odd) - 1} more such values)" if len(odd) > 1 else ""
        raise UserError(
            f"unknown label value {value} in {count} pixels{others}; known are {_spans(known)}"
        )


def _spans(values: Iterable[int]) -> str:
    """Formats {0, 1, 2, 3, 7, 255} as '0-3, 7, 255'."""
    spans: list[list[int]] = []
    for value in sorted(values):
        if spans and spans[-1][-1] == value - 1:
            spans[-1].append(value)
        else:
            spans.append([value])
    return ", ".join(f"{s[0]}-{s[-1]}" if len(s) > 1 else str(s[0]) for s in spans)


def remap(source_set: LabelSet, target_set: LabelSet) -> np.ndarray:
    """Returns the table from the train ids of one set to those of another.

    Args:
      source_set: the set of the labels.
      target_set: the wanted set. Classes are matched by name (Cityscapes and its subsets, a user's
        own classes), whatever the case, blanks, dashes and underscores, unless that is ambiguous;
        from Cityscapes to CamVid by SegNet's grouping.

    Returns:
      uint8 [256]; index it with a label image. Classes without a counterpart, and 255, become 255;
      all ids do if the source set has no classes (images without labels).

    Raises:
      UserError: no class has a counterpart (CamVid's coarse classes cannot be split).
    """
    grouped = _CITYSCAPES_TO_CAMVID if target_set.classes == CAMVID.classes else {}
    loose = SETS.get(source_set.name) != source_set  # a user's own classes
    alike = collections.Counter(map(plain, target_set.classes))
    places = {plain(name): i for i, name in enumerate(target_set.classes)}
    ids = {}
    for i, title in enumerate(source_set.classes):
        for name in (title, grouped.get(title)):
            if name in target_set.classes:
                ids[i] = target_set.classes.index(name)
                break
        else:
            if loose and alike[plain(title)] == 1:
                ids[i] = places[plain(title)]
    if source_set.classes and not ids:
        theirs, ours = (", ".join(each.classes[:9]) for each in (source_set, target_set))
        raise UserError(
            f"labels of {source_set.name!r} cannot be turned into {target_set.name!r}: no class of "
            f"the one ({theirs}) has a name of the other ({ours}); for own classes a class_map.txt "
            f"says which are which"
        )
    return id_table(ids)


def plain(name: str) -> str:
    """A class's name without case, blanks, dashes and underscores."""
    return "".join(c for c in name.casefold() if c not in " _-")


def left_out(source_set: LabelSet, target_set: LabelSet) -> list[str]:
    """Returns the classes of one set that have no counterpart in another, see `remap`."""
    table = remap(source_set, target_set)
    return [name for i, name in enumerate(source_set.classes) if table[i] == IGNORE]


def never_shown(source_set: LabelSet, target_set: LabelSet) -> list[str]:
    """Returns the classes of `target_set` that labels of `source_set` can never show."""
    reached = set(remap(source_set, target_set).tolist())
    return [name for i, name in enumerate(target_set.classes) if i not in reached]


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
