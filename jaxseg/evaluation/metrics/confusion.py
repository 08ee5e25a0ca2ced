"""Scores of a segmentation, all from one confusion matrix.

Intersection over union as in "The Pascal Visual Object Classes Challenge" (Everingham et al., 2015)
and the Cityscapes benchmark: per class, true positives divided by all pixels with that true or
predicted class, over the whole split. The matrix is counted in integers on the device; the ratios
are float64 on the host.
"""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax import Array

IGNORE = 255


def confusion(prediction: Array, label: Array, num_classes: int) -> Array:
    """Counts pixels by truth and prediction.

    Args:
      prediction: integer class ids [...], each in 0..num_classes-1.
      label: integer class ids of the same shape; pixels outside 0..num_classes-1 (255 = ignore) do
        not count.
      num_classes: K.

    Returns:
      int32 [K, K], rows the truth, columns the prediction. Exact up to 2**31 pixels in one call.
    """
    whole = (1, -1)
    return by_image(prediction.reshape(whole), label.reshape(whole), num_classes)[0]


def by_image(prediction: Array, label: Array, num_classes: int) -> Array:
    """The same for each image of a batch [n, ...]: int32 [n, K, K]."""
    count = len(prediction)
    prediction = prediction.astype(jnp.int32).reshape(count, -1)
    label = label.astype(jnp.int32).reshape(count, -1)
    counted = (label >= 0) & (label < num_classes)
    first = jnp.arange(count)[:, None] * num_classes**2
    cell = jnp.where(counted, first + label * num_classes + prediction, count * num_classes**2)
    counts = jnp.zeros(count * num_classes**2 + 1, jnp.int32).at[cell.reshape(-1)].add(1)
    return counts[:-1].reshape(count, num_classes, num_classes)


def image_iou(counts: Array) -> Array:
    """The mean IoU of each image, over the classes that it shows or that are called in it.

    Args:
      counts: int32 [n, K, K] from `by_image`.

    Returns:
      float32 [n]; nan for an image without labels.
    """
    hits = jnp.diagonal(counts, axis1=1, axis2=2).astype(jnp.float32)
    union = (counts.sum(1) + counts.sum(2)).astype(jnp.float32) - hits
    there = union > 0
    total = jnp.where(there, hits / jnp.where(there, union, 1.0), 0.0).sum(1)
    return total / there.sum(1)


def iou(confusion_matrix: np.ndarray) -> np.ndarray:
    """Intersection over union per class.

    Args:
      confusion_matrix: [K, K] counts, rows the truth.

    Returns:
      float64 [K] in 0..1; nan where a class is neither in the truth nor predicted.
    """
    counts = np.asarray(confusion_matrix, np.float64)
    hits = np.diag(counts)
    union = counts.sum(0) + counts.sum(1) - hits
    return np.divide(hits, union, out=np.full(len(hits), np.nan), where=union > 0)


def mean_iou(confusion_matrix: np.ndarray, scored: Sequence[int] | None = None) -> float:
    """Mean of `iou` over the classes that occur; nan if none does.

    Args:
      confusion_matrix: [K, K] counts, rows the truth.
      scored: ids of the classes to average (such as 13 of SYNTHIA's 16); None for all. As in the
        references, pixels of the other classes still count as errors if predicted as a scored one.
    """
    values = iou(confusion_matrix)
    values = values if scored is None else values[list(scored)]
    return mean(values)


def mean(values: Sequence[float]) -> float:
    """Mean of the values that are not nan; nan if none is left.

    Adds one value after the other, as cityscapesScripts does, so that the last digit agrees:
    NumPy's mean adds pairwise, and Python's sum compensates for rounding from 3.12 on.
    """
    total, count = 0.0, 0
    for value in values:
        if not np.isnan(value):
            total, count = total + float(value), count + 1
    return total / count if count else float("nan")


def pixel_accuracy(confusion_matrix: np.ndarray, scored: Sequence[int] | None = None) -> float:
    """Share of the pixels of scored classes that are predicted correctly, 0..1; nan without any."""
    counts = np.asarray(confusion_matrix, np.float64)
    rows = np.arange(len(counts)) if scored is None else np.asarray(list(scored))
    total = counts[rows].sum()
    return float(counts[rows, rows].sum() / total) if total else float("nan")


def class_accuracy(confusion_matrix: np.ndarray) -> np.ndarray:
    """Recall of each class: float64 [K], nan without pixels. Its `mean` is called class accuracy or
    mean accuracy (Long et al., FCN, CVPR 2015)."""
    counts = np.asarray(confusion_matrix, np.float64)
    pixels = counts.sum(1)
    return np.divide(np.diag(counts), pixels, out=np.full(len(pixels), np.nan), where=pixels > 0)


def frequency_weighted_iou(
    confusion_matrix: np.ndarray, scored: Sequence[int] | None = None
) -> float:
    """Mean of `iou` over the scored classes (None: all), weighted by each class's share of the
    labelled pixels (Long et al., FCN, CVPR 2015); 0..1, nan without pixels."""
    counts = np.asarray(confusion_matrix, np.float64)
    rows = np.arange(len(counts)) if scored is None else np.asarray(list(scored))
    pixels = counts[rows].sum(1)
    values = np.nan_to_num(iou(counts)[rows])  # nan only where there are no pixels
    return float(np.sum(pixels * values) / pixels.sum()) if pixels.any() else float("nan")
