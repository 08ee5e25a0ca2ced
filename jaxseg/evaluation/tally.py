"""Adds up an evaluation's counts on the host, batch by batch, and over all processes at the end."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxseg.engine import gather
from jaxseg.errors import UserError
from jaxseg.evaluation.metrics import boundary as metrics_boundary
from jaxseg.evaluation.metrics import cityscapes, confusion
from jaxseg.evaluation.metrics.boundary import BoundaryCounts as Edges

MEANS = ("entropy", "neighbourhood_density")


class Tally:
    """Counts over a split. Memory grows only by a small row for each object and each image's depth.

    Args:
      classes: K names; objects are counted if these are classes of Cityscapes.
      boundary: whether to count boundary pixels.
    """

    def __init__(self, classes: Sequence[str], boundary: bool):
        self._table = cityscapes.known(classes)
        self._counts = np.zeros((len(classes), len(classes)), np.int64)
        self._edges = np.zeros((3, len(classes)), np.int64) if boundary else None
        self._sums = np.zeros(1 + len(MEANS))  # images first
        self._ignored = self._met = 0
        self._objects: list[tuple[np.ndarray, np.ndarray]] = []  # places of images, rows
        self._errors: list[tuple[np.ndarray, np.ndarray]] = []

    def add(
        self,
        batch: Mapping[str, Any],
        counts: np.ndarray,
        means: Sequence[np.ndarray],
        prediction: np.ndarray,
        errors: np.ndarray | None,
    ) -> None:
        """Adds a batch; images that are not `valid` are skipped.

        Args:
          batch: see `evaluator.make_evaluator`.
          counts: integers [K, K], the confusion matrix of the valid images.
          means: for each of MEANS one number per image, float32 [>= n]; their sums in float64 are
            exact, so that the order of the images does not matter.
          prediction: class ids [>= n, h, w].
          errors: `depth.rows` of each image, float32 [>= n, C]; None without depth.
        """
        label, ids = batch["label"], batch["id"]
        here = np.flatnonzero(batch["valid"])
        places = self._met + here
        self._met += len(label)
        self._counts += counts
        for i, values in enumerate((np.ones_like(means[0]), *means)):
            self._sums[i] += values[here].sum(dtype=np.float64)
        self._ignored += int((label[here] == confusion.IGNORE).sum())
        if errors is not None:
            self._errors.append((places, errors[here]))
        if self._table is not None and "instances" in batch:
            by_image = [
                cityscapes.instance_rows(
                    prediction[i], batch["instances"][i], self._table, name=ids[i]
                )
                for i in here
            ]
            rows = np.concatenate([np.zeros((0, 4), np.int64), *by_image])
            self._objects.append((np.repeat(places, [len(own) for own in by_image]), rows))
        if self._edges is not None:
            for i in here:
                self._edges += metrics_boundary.boundary_counts(
                    prediction[i], label[i], len(self._counts)
                )

    def total(self) -> dict[str, Any]:
        """The arguments of `results.result`, over all processes; each of them has to call it."""
        total = gather.total
        images, *sums = total(self._sums)
        if not images:
            raise UserError("there is no image to evaluate")
        return {
            "counts": total(self._counts),
            "images": int(images),
            "means": {name: each / images for name, each in zip(MEANS, sums, strict=True)},
            "ignored": int(total(np.asarray(self._ignored))),
            "objects": gather.in_order(self._objects) if self._objects else None,
            "depth": gather.in_order(self._errors) if self._errors else None,
            "boundary": None if self._edges is None else Edges(*total(self._edges)),
        }
