"""Rare-class sampling: images that show rare classes are drawn more often (Hoyer et al., DAFormer,
CVPR 2022, section 3.3).

First a class c is drawn with P(c) = softmax((1 - f_c) / T) over the classes that occur, where f_c
is the class's share of all labelled pixels; then an image, uniformly among those with enough
pixels of c; then a crop that shows c.
"""

from typing import NamedTuple

import numpy as np

from jaxseg.errors import UserError


class RareClasses(NamedTuple):
    """The classes to draw, and the images to draw for each of them.

    Attributes:
      classes: int64 [C], the classes that can be drawn.
      probabilities: float64 [C], the probability of each of them.
      images: for each of them the indices of its records, int64 [n_c].
      minimum: an image must have more pixels of the class than this, at its stored size.
      crop_minimum: a crop should show more pixels of the class than this.
    """

    classes: np.ndarray
    probabilities: np.ndarray
    images: tuple[np.ndarray, ...]
    minimum: int
    crop_minimum: int


def probabilities(pixels: np.ndarray, temperature: float) -> np.ndarray:
    """Returns P(c) for every class.

    Args:
      pixels: [K] labelled pixels of each class in the whole split.
      temperature: T above 0; 0.01 in the paper. Small values draw almost only the rarest classes;
        infinity draws all classes that occur equally often.

    Returns:
      float64 [K], sum 1; 0 for a class that does not occur.

    Raises:
      UserError: no labelled pixel, or a temperature that is not above 0.
    """
    pixels = np.asarray(pixels, np.float64)
    if not temperature > 0:
        raise UserError(f"rare-class sampling with temperature {temperature}: give one above 0")
    if not pixels.sum():
        raise UserError("rare-class sampling needs labels, but none of the pixels is labelled")
    score = (1 - pixels / pixels.sum()) / temperature
    weight = np.exp(np.where(pixels > 0, score - score[pixels > 0].max(), -np.inf))
    return weight / weight.sum()


def rare_classes(
    counts: np.ndarray, temperature: float, minimum: int, crop_minimum: int = 0
) -> RareClasses:
    """Prepares rare-class sampling.

    Args:
      counts: int64 [images, K] labelled pixels per image and class, from `tally.tally`.
      temperature: see `probabilities`.
      minimum: an image must have more pixels of the class than this; 3000 in the paper, of
        images as they are published. If no image has that many, those with the most are used.
      crop_minimum: a crop should show more pixels of the class than this, at training size; 1500
        in the paper, 6000 with HRDA.

    Raises:
      UserError: see `probabilities`.
    """
    share = probabilities(counts.sum(0), temperature)
    classes = np.flatnonzero(share)
    images = []
    for c in classes:
        enough = np.flatnonzero(counts[:, c] > minimum)
        images.append(enough if len(enough) else np.flatnonzero(counts[:, c] == counts[:, c].max()))
    return RareClasses(classes, share[classes], tuple(images), minimum, crop_minimum)


def draw(rare: RareClasses, rng: np.random.Generator) -> tuple[int, int]:
    """Draws one sample: (class, index of the record)."""
    place = rng.choice(len(rare.classes), p=rare.probabilities)
    images = rare.images[place]
    return int(rare.classes[place]), int(images[rng.integers(len(images))])


def table(rare: RareClasses, counts: np.ndarray, names: tuple[str, ...]) -> list[str]:
    """Returns lines of text: how often each class is drawn, rarest first.

    Args:
      rare: from `rare_classes`.
      counts: int64 [images, K], the counts that `rare` was made from.
      names: names of the K classes.
    """
    share = counts.sum(0) / counts.sum()
    lines = ["rare-class sampling: class, share of pixels, drawn in, images to draw from"]
    for place in np.argsort(-rare.probabilities, kind="stable"):
        c = rare.classes[place]
        drawn = f"{100 * rare.probabilities[place]:6.2f} %"
        lines.append(
            f"  {names[c]:<14} {100 * share[c]:6.2f} %  {drawn}  {len(rare.images[place])}"
        )
    missing = [name for c, name in enumerate(names) if c not in rare.classes]
    if missing:
        lines.append(f"  never, as the source does not show them: {', '.join(missing)}")
    return lines
