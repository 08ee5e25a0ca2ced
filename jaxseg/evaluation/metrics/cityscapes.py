"""The scores of the Cityscapes benchmark (Cordts et al., CVPR 2016), to the last digit of
cityscapesScripts: IoU and instance-weighted iIoU of classes and of categories.

In iIoU each pixel of an object has the weight (mean object size of its class) / (size of this
object), so that small and large objects count equally. Instance maps are host data, so this is
NumPy: call `instance_rows` for each image, in order, then `scores` once.

Plain pixel counts are integers and simply summed. Weighted counts are floats: `instance_rows` keeps
one row of integers per object, and `scores` adds up the weighted rows in the order that
cityscapesScripts does. Rows of several processes are merged in the order of the images.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxseg.errors import UserError
from jaxseg.evaluation.metrics import confusion


class Classes(NamedTuple):
    """The classes of a confusion matrix's rows and columns; each field has one entry per class."""

    names: tuple[str, ...]
    ids: tuple[int, ...]  # in Cityscapes' label images; instance maps hold 1000 * id + number
    categories: tuple[str, ...]
    scored: tuple[bool, ...]  # False: pixels of this true class are ignored
    sizes: tuple[float, ...]  # mean object size in pixels; 0 for classes without instances


# Ids, categories and mean object sizes as the benchmark defines them, by id from 0.
_CATEGORIES = {
    "void": "unlabeled,ego vehicle,rectification border,out of roi,static,dynamic,ground",
    "flat": "road,sidewalk,parking,rail track",
    "construction": "building,wall,fence,guard rail,bridge,tunnel",
    "object": "pole,polegroup,traffic light,traffic sign",
    "nature": "vegetation,terrain",
    "sky": "sky",
    "human": "person,rider",
    "vehicle": "car,truck,bus,caravan,trailer,train,motorcycle,bicycle",
}
_NOT_SCORED = {
    *_CATEGORIES["void"].split(","),
    *("parking", "rail track", "guard rail", "bridge", "tunnel", "polegroup", "caravan", "trailer"),
}
_SIZES = {
    "person": 3462.4756337644,
    "rider": 3930.4788056518,
    "car": 12794.0202738185,
    "truck": 27855.1264367816,
    "bus": 35732.1511111111,
    "caravan": 36771.8241758242,
    "trailer": 16926.9763313609,
    "train": 67583.7075812274,
    "motorcycle": 6298.7200839748,
    "bicycle": 4672.3249222261,
}
_NAMES = tuple(name for names in _CATEGORIES.values() for name in names.split(","))
_OBJECTS = ("human", "vehicle")  # categories whose classes all have instances


def classes(names: Sequence[str]) -> Classes:
    """The Cityscapes classes with these names, in this order; `classes(labels.CITYSCAPES.classes)`
    for train ids. UserError for a name that is not one of the benchmark's 34."""
    unknown = [name for name in names if name not in _NAMES]
    if unknown:
        raise UserError(f"{unknown[0]!r} is no class of Cityscapes, so it has no category there")
    category = {n: title for title, inside in _CATEGORIES.items() for n in inside.split(",")}
    return Classes(
        names=tuple(names),
        ids=tuple(_NAMES.index(name) for name in names),
        categories=tuple(category[name] for name in names),
        scored=tuple(name not in _NOT_SCORED for name in names),
        sizes=tuple(_SIZES.get(name, 0.0) for name in names),
    )


def known(names: Sequence[str]) -> Classes | None:
    """As `classes`; None if a name is unknown to the benchmark or of a class that it ignores."""
    if all(name in _NAMES and name not in _NOT_SCORED for name in names):
        return classes(names)
    return None


ALL = classes(_NAMES)  # the 34 ids of the label images; row number = id


def instance_rows(
    prediction: np.ndarray, instance_ids: np.ndarray, table: Classes, *, name: str = "an image"
) -> np.ndarray:
    """Counts the correctly predicted pixels of each object in an image.

    Args:
      prediction: integer positions in `table` [H, W]; any other number counts as wrong.
      instance_ids: integers [H, W], a `*_instanceIds.png`: 1000 * id + number in a single object,
        a number up to 1000 elsewhere (groups, and classes without instances).
      table: the predicted classes.
      name: of the image, for messages.

    Returns:
      int64 [M, 4], one row per object, sorted by instance id: its class (position in `table`), its
      pixels, those predicted as its class, and those predicted as any class of its category.
      Objects of classes that are not scored, or not in `table`, are left out.

    Raises:
      UserError: the shapes differ, or the class of an object has no instances in Cityscapes.
    """
    if prediction.shape != instance_ids.shape:
        raise UserError(
            f"the instance map of {name} is {instance_ids.shape}, the prediction {prediction.shape}"
        )
    single = instance_ids > 1000
    called = _position(prediction[single], range(len(table.names)))
    # Sorted by id, the order of cityscapesScripts.
    ids, place, pixels = np.unique(instance_ids[single], return_inverse=True, return_counts=True)
    _check_objects(ids, name)
    row = _position(ids // 1000, table.ids)
    members = np.asarray([_OBJECTS.index(c) if c in _OBJECTS else -2 for c in table.categories])
    own = row[place]
    hits = np.bincount(place[called == own], minlength=len(ids))
    same = (members[own] == members[called]) & (called >= 0)
    category_hits = np.bincount(place[same], minlength=len(ids))
    rows = np.stack([row, pixels, hits, category_hits], axis=-1).astype(np.int64)
    kept = (row >= 0) & np.asarray(table.scored)[row]
    return rows[kept]


def scores(
    confusion_matrix: np.ndarray,
    table: Classes | None = None,
    instances: Sequence[np.ndarray] | None = None,
    *,
    names: Sequence[str] | None = None,
    scored: Sequence[int] | None = None,
    ignored: int = 0,
) -> dict[str, Any]:
    """All scores of a split, as they are written to results.json.

    Args:
      confusion_matrix: integers [K, K], rows the truth, columns the prediction.
      table: the classes of its rows; None if they are not Cityscapes classes, which gives no scores
        by category.
      instances: results of `instance_rows` in the order of the images; None without instance maps.
      names: the K class names if there is no `table`.
      scored: the rows to report and to take means over, as in `confusion.mean_iou`; None for all.
        Categories always contain all of their classes.
      ignored: pixels of the split that are in no row. Only MiniCity's accuracy uses them.

    Returns:
      fractions in 0..1, None where undefined. Means are taken over the defined values.
        iou, class_accuracy {class: value}; miou, mean_class_accuracy; frequency_weighted_iou;
        pixel_accuracy: over the pixels of scored classes;
        pixel_accuracy_all: over all pixels of the split, as MiniCity does: of its nineteen classes
        none is right for a void pixel;
      with a `table`: category_iou {category: value}, category_miou;
      with `instances` too: iiou {class: value}, miiou, category_iiou {category: value},
        category_miiou, for the classes and categories that have objects.
    """
    full = np.asarray(confusion_matrix, np.int64)
    names = list(table.names if names is None else names)
    judged = np.asarray([True] * len(names) if table is None else table.scored)
    counts = np.where(judged[:, None], full, 0)  # pixels whose truth is not judged do not count
    rows = [i for i in (range(len(names)) if scored is None else scored) if judged[i]]
    values, accuracy = confusion.iou(counts), confusion.class_accuracy(counts)
    all_pixels = int(full.sum()) + ignored
    result = {
        "miou": confusion.mean(values[rows]),
        "iou": {names[i]: values[i] for i in rows},
        "mean_class_accuracy": confusion.mean(accuracy[rows]),
        "class_accuracy": {names[i]: accuracy[i] for i in rows},
        "frequency_weighted_iou": confusion.frequency_weighted_iou(counts, rows),
        "pixel_accuracy": confusion.pixel_accuracy(counts, rows),
        "pixel_accuracy_all": int(np.trace(full)) / all_pixels if all_pixels else float("nan"),
    }
    if table is not None:
        by_category = _category_ious(counts, table)
        result |= {
            "category_miou": confusion.mean(by_category.values()),
            "category_iou": by_category,
        }
    if table is not None and instances is not None:
        objects = np.concatenate([np.zeros((0, 4), np.int64), *instances])
        result |= _instance_scores(counts, table, rows, objects)
    return _defined(result)


def results_txt(result: dict[str, Any]) -> str:
    """The five lines of the MiniCity challenge's results.txt, from the result of `scores`; 'nan'
    for undefined or missing values."""
    keys = {
        "IoU Class": "miou",
        "iIoU Class": "miiou",
        "IoU Category": "category_miou",
        "iIoU Category": "category_miiou",
        "Accuracy": "pixel_accuracy_all",
    }
    found = {title: result.get(key) for title, key in keys.items()}
    return "\n".join(f"{t}: {'nan' if value is None else value}" for t, value in found.items())


def _category_ious(counts: np.ndarray, table: Classes) -> dict[str, float]:
    """IoU of the union of each category's scored classes; `counts` without unscored rows."""
    found = {}
    for category in dict.fromkeys(table.categories):
        inside = _of_category(table, category) & np.asarray(table.scored)
        if inside.any():
            hits = counts[inside][:, inside].sum()
            union = counts[inside].sum() + counts[~inside][:, inside].sum()
            found[category] = hits / union if union else float("nan")
    return found


def _instance_scores(counts, table, rows, objects) -> dict[str, Any]:
    """iIoU from the weighted pixels of objects; false positives belong to no object: weight 1."""
    row, pixels, hits, category_hits = objects.T
    weight = np.asarray(table.sizes)[row] / pixels
    right, category_right = hits * weight, category_hits * weight
    wrong, category_wrong = (pixels - hits) * weight, (pixels - category_hits) * weight

    def ratio(chosen, right, wrong, false):
        # Summed one by one in this order, as cityscapesScripts does.
        right, wrong = _total(right[chosen]), _total(wrong[chosen])
        union = right + float(false) + wrong
        return right / union if union else float("nan")

    by_class, by_category = {}, {}
    for i in rows:
        if table.sizes[i]:
            false = counts[:, i].sum() - counts[i, i]
            by_class[table.names[i]] = ratio(row == i, right, wrong, false)
    for category in dict.fromkeys(table.categories):
        if category in _OBJECTS:
            inside = _of_category(table, category)
            false = counts[~inside][:, inside].sum()
            chosen = inside[row]
            by_category[category] = ratio(chosen, category_right, category_wrong, false)
    return {
        "miiou": confusion.mean(by_class.values()),
        "iiou": by_class,
        "category_miiou": confusion.mean(by_category.values()),
        "category_iiou": by_category,
    }


def _of_category(table: Classes, category: str) -> np.ndarray:
    return np.asarray([own == category for own in table.categories])


def _total(values: np.ndarray) -> float:
    """The sum, adding one value after the other (NumPy's own sum adds pairwise)."""
    return float(np.add.accumulate(values)[-1]) if len(values) else 0.0


def _position(values: np.ndarray, keys: Sequence[int]) -> np.ndarray:
    """The position of each value in `keys`, or -1."""
    table = np.full(256, -1, np.int64)
    table[np.asarray(keys)] = np.arange(len(keys))
    outside = (values < 0) | (values > 255)
    return np.where(outside, -1, table[np.where(outside, 0, values)])


def _check_objects(ids: np.ndarray, name: str) -> None:
    for number in ids.tolist():
        label = number // 1000
        title = _NAMES[label] if label < len(_NAMES) else None
        if title not in _SIZES and title not in _NOT_SCORED:
            raise UserError(
                f"the instance map of {name} holds {number}, but id {label} is no class with "
                "objects: give Cityscapes' *_instanceIds.png"
            )


def _defined(result: dict[str, Any]) -> dict[str, Any]:
    """Plain floats for JSON, None for nan."""

    def plain(value):
        if isinstance(value, dict):
            return {key: plain(inner) for key, inner in value.items()}
        return float(value) if np.isfinite(value) else None

    return plain(result)
