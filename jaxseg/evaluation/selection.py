"""Choosing a snapshot of a run without target labels.

At every evaluation of a run four criteria are computed that see no target label, beside target mIoU
that does. Which snapshot each would choose, and how well it orders the snapshots, is told at the
end of the run.

- mIoU on held-out source images: higher is better.
- Mean entropy of the prediction on target images: lower is better.
- Agreement of two consecutive snapshots on target images: higher is better. It is the mean IoU of
  one prediction against the other, because the share of equal pixels is all road, sky and building;
  that share is logged beside it.
- Soft neighbourhood density (Saito et al., "Tune it the Right Way: Unsupervised Validation of
  Domain Adaptation via Soft Neighborhood Density", ICCV 2021): higher is better.

All is float64 on the host, of what the evaluator's one pass over the target's validation images
hands over (the paper takes the target's training images, which cost a second pass). Agreement rises
by itself as the learning rate falls and snapshots lie closer in steps: compare it with `LAST`.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxseg.evaluation.metrics import confusion

TEMPERATURE = 0.05
POINTS = 100  # pixels of an image that are compared with each other
FEWEST = 3  # evaluations that a rank correlation is told of

Maps = Mapping[str, np.ndarray]  # image -> class ids, uint8 [h, w]


class Criterion(NamedTuple):
    """An entry of an evaluation's result that may choose a snapshot."""

    key: str
    title: str
    higher: bool  # is better


CRITERIA = (
    Criterion("source_miou", "source validation mIoU", True),
    Criterion("entropy", "mean entropy", False),
    Criterion("agreement", "agreement with the one before", True),
    Criterion("neighbourhood_density", "soft neighbourhood density", True),
)
LABELS = Criterion("miou", "target labels", True)
LAST = Criterion("step", "last step (no criterion)", True)


def grid(height: int, width: int, points: int = POINTS) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of an even grid of at most `points` pixels of a map, as square as it can be.

    The paper's code draws 100 pixels of each image at random. A grid has no chance in it: a resumed
    run and any number of devices look at the same pixels, and so does every snapshot of a run.

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

    Softmax outputs are scaled to length one; of each pixel, the similarities to all others (its own
    is left out) become a distribution by a softmax with a temperature, and its entropy is large
    where a pixel has many neighbours that are alike. For segmentation the paper's code takes 100
    pixels of an image, compares them with each other only, and averages over images. It differs
    from the paper's definition, which is used here, by keeping each pixel's similarity to itself.

    Args:
      logits: float [..., P, K] of P pixels of an image.
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
    # Entropy of w / sum(w) is log sum(w) - sum(w log w) / sum(w); a weight of 0 has no part in it.
    mean = (weight * np.where(weight > 0, similarity, 0)).sum(-1) / total
    return (np.log(total) - mean).mean(-1)


def agreement(
    before: Maps, now: Maps, num_classes: int, scored: Sequence[int] | None = None
) -> tuple[float | None, float | None]:
    """How far two snapshots predict the same.

    Args:
      before, now: class ids of the same images.
      num_classes: K.
      scored: class ids that the mean is over; None for all.

    Returns:
      mean IoU of the one against the other over the classes that either predicts, and the share of
      equal pixels (of those that were a scored class before); 0..1. None, None if the images or
      their sizes are not the same.
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


def rank_correlation(pairs: Sequence[tuple[float, float]]) -> float | None:
    """Spearman's rank correlation of the two numbers of pairs; equal numbers share the mean of
    their ranks.

    Returns:
      -1..1; None with fewer than three pairs or when one of the two is constant.
    """
    if len(pairs) < FEWEST:
        return None
    a, b = (_ranks(values) for values in np.asarray(pairs, np.float64).T)
    a, b = a - a.mean(), b - b.mean()
    spread = math.sqrt((a @ a) * (b @ b))
    return float(np.clip(a @ b / spread, -1, 1)) if spread else None


def compare(evaluations: Sequence[Mapping[str, Any]], since: int = 0) -> dict[str, Any]:
    """What each criterion would have chosen, beside the choice by target labels.

    Args:
      evaluations: results of a run's evaluations in order of steps, with step, miou, and whatever
        criteria they have.
      since: the end of the warm-up. Evaluations before it do not count: nobody would stop there.
        The one at its end does, for not adapting at all is a choice.

    Returns:
      {'since', 'evaluations': how many count, 'criteria': {key: {'step', 'value', 'miou',
      'below_best', 'rank_correlation', 'evaluations': how many have the criterion}}}. Beside
      CRITERIA there are 'step' (the last one) and 'miou' (the best one). A correlation is that of
      what is better with target mIoU: 1 orders the snapshots as labels do, for entropy too. Among
      equals the later is chosen. Without target labels the three last are None, and 'miou' is not
      there; criteria that no evaluation has are not either.
    """
    counted = [e for e in evaluations if e["step"] >= since]
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
    """The rows of a table: each criterion with its entry in `compare`'s result, labels last."""
    criteria = comparison["criteria"]
    return [(c, criteria[c.key]) for c in (*CRITERIA, LAST, LABELS) if c.key in criteria]


def title(criterion: Criterion) -> str:
    """The criterion's title, with a word where the lowest value is the best."""
    return criterion.title + ("" if criterion.higher else " (lowest)")


def correlation_text(value: float | None) -> str:
    """0.8333 as '+0.83', None (too few evaluations, or all the same) as '–'."""
    return "–" if value is None else f"{value:+.2f}"


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 0; equal values get the mean of theirs."""
    return (values[:, None] > values).sum(1) + ((values[:, None] == values).sum(1) - 1) / 2
