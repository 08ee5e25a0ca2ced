"""Boundary IoU (Cheng et al., "Boundary IoU", CVPR 2021) for semantic segmentation.

Only pixels within a distance of their own class's contour are kept, in the truth and in the
prediction, and the IoU of the remaining pixels is taken, so that large regions cannot hide sloppy
edges. The paper defines it for one mask; here, as in the ordinary IoU, each class's intersections
and unions are summed over the images of a split.
"""

from typing import Any, NamedTuple

import numpy as np

from jaxseg.errors import UserError
from jaxseg.evaluation.metrics import confusion

WIDTH = 0.005  # share of the image diagonal; the paper's for Cityscapes (COCO and LVIS: 0.02)


class BoundaryCounts(NamedTuple):
    """Numbers of pixels by class, int64 [K] each; sum them over images with `add`."""

    both: np.ndarray  # in the class's boundary region of both truth and prediction
    truth: np.ndarray  # in that of the truth
    prediction: np.ndarray  # in that of the prediction


def boundary_counts(
    prediction: np.ndarray, label: np.ndarray, num_classes: int, width: float = WIDTH
) -> BoundaryCounts:
    """Counts the boundary pixels of one image.

    Ignored pixels have no class, in the truth and in the prediction, so their rim is a contour in
    both, like the image's edge in the paper's code.

    Args:
      prediction: integer class ids [H, W].
      label: integer class ids [H, W]; outside 0..num_classes-1 (255 = ignore) = ignored.
      num_classes: K, at most 255.
      width: the distance as a share of the image diagonal, rounded to d >= 1 pixels; as in the
        paper's code, the neighbourhood is a square of 2 d + 1 pixels.
    """
    if prediction.shape != label.shape:
        raise UserError(f"the prediction is {prediction.shape}, its label {label.shape}")
    valid = (label >= 0) & (label < num_classes)
    truth = np.where(valid, label, 255).astype(np.uint8)
    called = np.where(valid, prediction, 255).astype(np.uint8)
    distance = max(1, int(round(width * float(np.hypot(*label.shape)))))
    at_truth, at_called = _near_contour(truth, distance), _near_contour(called, distance)

    def count(where, classes):
        return np.bincount(classes[where], minlength=256)[:num_classes].astype(np.int64)

    return BoundaryCounts(
        both=count(at_truth & at_called & (truth == called), truth),
        truth=count(at_truth, truth),
        prediction=count(at_called, called),
    )


def add(a: BoundaryCounts, b: BoundaryCounts) -> BoundaryCounts:
    """The sum of both counts."""
    return BoundaryCounts(*(x + y for x, y in zip(a, b, strict=True)))


def boundary_iou(counts: BoundaryCounts) -> np.ndarray:
    """Boundary IoU of each class: float64 [K] in 0..1, nan where a class does not occur."""
    both = np.asarray(counts.both, np.float64)
    union = counts.truth + counts.prediction - both
    return np.divide(both, union, out=np.full(len(both), np.nan), where=union > 0)


def scores(counts: BoundaryCounts, names: list[str] | tuple[str, ...]) -> dict[str, Any]:
    """{'boundary_miou': mean over the classes that occur, 'boundary_iou': {class: value}} for
    results.json; None where undefined."""
    values = boundary_iou(counts)
    average = confusion.mean(values)
    return {
        "boundary_miou": None if np.isnan(average) else average,
        "boundary_iou": {
            name: None if np.isnan(value) else float(value)
            for name, value in zip(names, values, strict=True)
        },
    }


def _near_contour(ids: np.ndarray, distance: int) -> np.ndarray:
    """True where the square of 2 d + 1 pixels around a pixel holds another id than its own; bool
    [H, W]. The image is padded with 255. Handles all classes at once."""
    padded = np.pad(ids, distance, constant_values=255)
    least, greatest = padded, padded
    for axis in (0, 1):
        least = _sliding(np.minimum, least, 2 * distance + 1, axis)
        greatest = _sliding(np.maximum, greatest, 2 * distance + 1, axis)
    return least != greatest


def _sliding(extreme: np.ufunc, array: np.ndarray, size: int, axis: int) -> np.ndarray:
    """The minimum or maximum over windows of `size` values along an axis, which gets size - 1
    shorter; each pass doubles the window."""
    array = np.moveaxis(array, axis, 0)
    reach = 1
    while reach < size:
        step = min(reach, size - reach)
        array = extreme(array[:-step], array[step:])
        reach += step
    return np.moveaxis(array, 0, axis)
