"""Choosing a snapshot of a run without target labels.

At every evaluation of a run four criteria without target labels are computed, beside target mIoU.
The end of the run reports which snapshot each would choose, and how well it ranks the snapshots.

- mIoU on held-out source images: higher is better.
- Mean entropy of the prediction on target images: lower is better.
- Agreement of two consecutive snapshots on target images: higher is better. It is the mean IoU of
  one prediction against the other, because road, sky and building dominate the share of equal
  pixels; that share is logged as well.
- Soft neighbourhood density (Saito et al., "Tune it the Right Way: Unsupervised Validation of
  Domain Adaptation via Soft Neighborhood Density", ICCV 2021): higher is better.

All are computed in float64 on the host, from the evaluator's single pass over the target's
validation images (the paper uses the target's training images, which would need a second pass).
Agreement rises by itself as the learning rate falls and as snapshots are taken more often: compare
it with `LAST`.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxseg.engine import gather
from jaxseg.evaluation.metrics import confusion

TEMPERATURE = 0.05
POINTS = 100  # pixels of an image that are compared with each other
FEWEST = 3  # evaluations that a rank correlation needs

Maps = Mapping[str, np.ndarray]  # image -> class ids, uint8 [h, w]


class Criterion(NamedTuple):
    """An entry of an evaluation's result by which a snapshot may be chosen."""

    key: str
    title: str
    higher: bool  # True: higher is better


CRITERIA = (
    Criterion("source_miou", "source validation mIoU", True),
    Criterion("entropy", "mean entropy", False),
    Criterion("agreement", "agreement with the one before", True),
    Criterion("neighbourhood_density", "soft neighbourhood density", True),
)
LABELS = Criterion("miou", "target labels", True)
LAST = Criterion("step", "last step (no criterion)", True)


def alive(result: Mapping[str, Any]) -> bool:
    """Whether a snapshot's predictions are finite numbers; if not, no criterion may choose it.

    A network whose outputs are NaN predicts the same everywhere: it agrees with itself perfectly.
    Its entropy, the mean over all outputs, is then neither a number nor in the log.
    """
    entropy = result.get("entropy", 0.0)
    return entropy is not None and math.isfinite(entropy)


def grid(height: int, width: int, points: int = POINTS) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of an even grid of at most `points` pixels of a map, as square as possible.

    The paper's code draws 100 pixels of each image at random. A grid is deterministic: all
    snapshots, resumed runs and any number of devices use the same pixels.

    Returns:
      int [r] and int [c], r * c <= points.
    """
    rows = min(height, max(1, round(math.sqrt(points * height / width))))
    columns = min(width, max(1, points // rows))
    rows = min(height, points // columns)
    return (np.arange(rows) * 2 + 1) * height // (2 * rows), (
        np.arange(columns) * 2 + 1
    ) * width // (2 * columns)


def neighbourhood_density(logits: np.ndarray, temperature: float = TEMPERATURE) -> np.ndarray:
    """Soft neighbourhood density of each image.

    Softmax outputs are scaled to length one. A softmax with a temperature turns each pixel's
    similarities to all other pixels into a distribution; its entropy is large if many pixels are
    similar to this one. For segmentation the paper's code takes 100 pixels of an image, compares
    them with each other only, and averages over images. It also keeps each pixel's similarity to
    itself, which the paper's definition, used here, leaves out.

    Args:
      logits: float [..., P, K] at P pixels of an image.
      temperature: of the softmax over neighbours.

    Returns:
      float64 [...], mean over the P pixels in nats, 0 .. log(P - 1); nan with fewer than 2 pixels.
    """
    logits = np.asarray(logits, np.float64)
    pixels = logits.shape[-2]
    if pixels < 2:
        return np.full(logits.shape[:-2], np.nan)
    output = np.exp(logits - logits.max(-1, keepdims=True))
    output /= np.sqrt((output**2).sum(-1, keepdims=True))  # the softmax's own sum cancels out
    similarity = output @ output.swapaxes(-1, -2) / temperature
    similarity[..., np.arange(pixels), np.arange(pixels)] = -np.inf
    similarity -= similarity.max(-1, keepdims=True)
    weight = np.exp(similarity)
    total = weight.sum(-1)
    # The entropy of w / sum(w) is log sum(w) - sum(w log w) / sum(w); a weight of 0 adds nothing.
    mean = (weight * np.where(weight > 0, similarity, 0)).sum(-1) / total
    return (np.log(total) - mean).mean(-1)


def agreement(
    before: Maps, now: Maps, num_classes: int, scored: Sequence[int] | None = None
) -> tuple[float | None, float | None]:
    """Measures how much the predictions of two snapshots agree.

    Args:
      before, now: class ids that the two snapshots predict for the same images.
      num_classes: K.
      scored: ids of the classes that the mean is taken over; None for all.

    Returns:
      (mean IoU of one prediction against the other over the classes that either contains, share of
      equal pixels among those that `before` gives a scored class), in 0..1; (None, None) if the
      images or their sizes differ.
    """
    if {k: v.shape for k, v in before.items()} != {k: v.shape for k, v in now.items()}:
        return None, None
    counts = np.zeros(num_classes**2, np.int64)
    for key, ids in now.items():
        cells = before[key].astype(np.int64) * num_classes + ids
        counts += np.bincount(cells.reshape(-1), minlength=num_classes**2)
    counts = counts.reshape(num_classes, num_classes)
    values = confusion.mean_iou(counts, scored), confusion.pixel_accuracy(counts, scored)
    return tuple(None if math.isnan(value) else value for value in values)


def shares(maps: Maps, classes: Sequence[str]) -> dict[str, float]:
    """Share of the pixels of all images, over all processes, that each class is predicted for.

    Args:
      maps: class ids of each image of this process.
      classes: names by id.
    """
    counts = np.zeros(len(classes), np.int64)
    for ids in maps.values():
        counts += np.bincount(ids.reshape(-1), minlength=len(classes))[: len(classes)]
    counts = gather.total(counts)
    pixels = max(1, int(counts.sum()))
    return {name: int(n) / pixels for name, n in zip(classes, counts, strict=True)}


def rank_correlation(pairs: Sequence[tuple[float, float]]) -> float | None:
    """Spearman's rank correlation between the first and second numbers of pairs; equal numbers get
    the mean of their ranks.

    Returns:
      -1..1; None with fewer than three pairs, or if the first or the second numbers are all equal.
    """
    if len(pairs) < FEWEST:
        return None
    a, b = (_ranks(values) for values in np.asarray(pairs, np.float64).T)
    a, b = a - a.mean(), b - b.mean()
    spread = math.sqrt((a @ a) * (b @ b))
    return float(np.clip(a @ b / spread, -1, 1)) if spread else None


def compare(evaluations: Sequence[Mapping[str, Any]], since: int = 0) -> dict[str, Any]:
    """Compares the snapshots that each criterion would choose with the choice by target labels.

    Args:
      evaluations: results of a run's evaluations in order of steps, with step, miou, and any of
        the criteria.
      since: the end of the warm-up. Earlier evaluations are left out, as nobody would stop there;
        the one at this step counts, because not adapting at all is a choice.

    Returns:
      {'since', 'evaluations': number considered, 'criteria': {key: {'step', 'value', 'miou',
      'below_best', 'rank_correlation', 'evaluations': number that have the criterion}}}. The keys
      are those of CRITERIA, 'step' (chooses the last snapshot) and 'miou' (chooses the best).
      A rank correlation of 1 means that the criterion ranks the snapshots as target mIoU does; for
      entropy, where lower is better, too. Among equal values the later snapshot is chosen. Without
      target labels miou, below_best and rank_correlation are None and the key 'miou' is missing;
      so are criteria that no evaluation has. Snapshots that are not `alive` are not considered.
    """
    counted = [e for e in evaluations if e["step"] >= since and alive(e)]
    top = max((e["miou"] for e in counted if e["miou"] is not None), default=None)
    criteria = {}
    for key, _, higher in (*CRITERIA, LAST, LABELS):
        order = [(e[key] if higher else -e[key], e) for e in counted if e.get(key) is not None]
        if not order:
            continue
        _, best = max(order, key=lambda pair: (pair[0], pair[1]["step"]))
        labelled = [(value, e["miou"]) for value, e in order if e["miou"] is not None]
        criteria[key] = {
            "step": best["step"],
            "value": best[key],
            "miou": best["miou"],
            "below_best": None if best["miou"] is None else top - best["miou"],
            "rank_correlation": rank_correlation(labelled),
            "evaluations": len(order),
        }
    return {"since": since, "evaluations": len(counted), "criteria": criteria}


def choices(comparison: Mapping[str, Any]) -> list[tuple[Criterion, dict[str, Any]]]:
    """The rows of a table: each criterion with its entry in `compare`'s result, LABELS last."""
    criteria = comparison["criteria"]
    return [(c, criteria[c.key]) for c in (*CRITERIA, LAST, LABELS) if c.key in criteria]


def title(criterion: Criterion) -> str:
    """The criterion's title, with ' (lowest)' if lower is better."""
    return criterion.title + ("" if criterion.higher else " (lowest)")


def correlation_text(value: float | None) -> str:
    """0.8333 as '+0.83', None (too few evaluations, or all the same) as '–'."""
    return "–" if value is None else f"{value:+.2f}"


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 0; equal values get the mean of their ranks."""
    return (values[:, None] > values).sum(1) + ((values[:, None] == values).sum(1) - 1) / 2
