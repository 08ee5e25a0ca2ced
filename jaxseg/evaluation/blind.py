"""Predictors that hardly look: what a score is worth is seen beside theirs.

Streets are alike: road is below, sky above. Two predictors know no more than that, counted from the
labels that a method learns from: the commonest class of each place of the image, and of each place
and colour. A network that does not beat them has learnt nothing that counts.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from jaxseg.evaluation.metrics import confusion

ROWS, COLUMNS = 48, 96  # places of the first predictor
COARSE = 8  # rows and columns of the second
LEVELS = 6  # of each of red, green and blue


class Counts(NamedTuple):
    """Labelled pixels.

    Attributes:
      places: int64 [ROWS, COLUMNS, K].
      colours: int64 [COARSE, COARSE, LEVELS**3, K].
    """

    places: np.ndarray
    colours: np.ndarray


def _places(shape: tuple[int, int], rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """The row and the column of the grid that each pixel lies in, [H, 1] and [1, W]."""
    height, width = shape
    return (np.arange(height) * rows // height)[:, None], np.arange(width)[None] * columns // width


def _colours(image: np.ndarray) -> np.ndarray:
    """Number of each pixel's colour, int [H, W]."""
    level = image.astype(np.int64) * LEVELS // 256
    return (level[..., 0] * LEVELS + level[..., 1]) * LEVELS + level[..., 2]


def count(samples: Iterable[tuple[np.ndarray, np.ndarray]], num_classes: int) -> Counts:
    """Counts the labels of images.

    Args:
      samples: (image uint8 [H, W, 3], label uint8 [H, W]), of any size; ids from K on are ignored.
      num_classes: K.
    """
    places = np.zeros((ROWS, COLUMNS, num_classes), np.int64)
    colours = np.zeros((COARSE, COARSE, LEVELS**3, num_classes), np.int64)
    for image, label in samples:
        known = label < num_classes
        rows, columns = np.broadcast_arrays(*_places(label.shape, ROWS, COLUMNS))
        np.add.at(places, (rows[known], columns[known], label[known]), 1)
        rows, columns = np.broadcast_arrays(*_places(label.shape, COARSE, COARSE))
        cell = (rows[known], columns[known], _colours(image)[known], label[known])
        np.add.at(colours, cell, 1)
    return Counts(places, colours)


def predict(counts: Counts, image: np.ndarray) -> dict[str, np.ndarray]:
    """Both predictions of an image.

    Args:
      counts: see `count`.
      image: uint8 [H, W, 3].

    Returns:
      {'position', 'colour_and_position'}: uint8 [H, W]. A colour that was never seen at its place
      gets the commonest class of the place, a place without labels the commonest of all.
    """
    rows, columns = _places(image.shape[:2], ROWS, COLUMNS)
    commonest = counts.places.sum((0, 1)).argmax()
    of_place = np.where(counts.places.any(-1), counts.places.argmax(-1), commonest)
    by_place = of_place.astype(np.uint8)[rows, columns]
    rows, columns = _places(image.shape[:2], COARSE, COARSE)
    colour = _colours(image)
    seen = counts.colours.any(-1)[rows, columns, colour]
    by_colour = counts.colours.argmax(-1).astype(np.uint8)[rows, columns, colour]
    return {
        "position": by_place,
        "colour_and_position": np.where(seen, by_colour, by_place),
    }


def scores(
    counts: Counts,
    samples: Iterable[tuple[np.ndarray, np.ndarray]],
    num_classes: int,
    scored: list[int] | None = None,
) -> dict[str, float | None]:
    """Mean IoU of both predictors.

    Args:
      counts: see `count`.
      samples: (image uint8 [H, W, 3], label uint8 [h, w]) of the split that is scored; the image is
        looked at for the colour of each label's pixel (nearest).
      num_classes: K.
      scored: class ids that the mean is over; None for all.

    Returns:
      {'position', 'colour_and_position'}: fractions; None if nothing is labelled.
    """
    matrices = {}
    for image, label in samples:
        rows, columns = _places(label.shape, *image.shape[:2])
        for name, ids in predict(counts, image[rows, columns]).items():
            known = label < num_classes
            cell = label[known].astype(np.int64) * num_classes + ids[known]
            counted = np.bincount(cell, minlength=num_classes**2)
            total = matrices.setdefault(name, np.zeros((num_classes, num_classes), np.int64))
            total += counted.reshape(num_classes, num_classes)
    return {name: _mean(matrix, scored) for name, matrix in matrices.items()}


def _mean(matrix, scored):
    values = confusion.iou(matrix)
    values = values if scored is None else values[scored]
    return float(np.nanmean(values)) if np.isfinite(values).any() else None
