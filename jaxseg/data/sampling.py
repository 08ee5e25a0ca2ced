"""Rare-class sampling: images that show rare classes are drawn more often (Hoyer et al., DAFormer,
CVPR 2022, section 3.3).

A class c is drawn with P(c) = softmax((1 - f_c) / T), f_c its share of all labelled pixels, over
the classes that occur at all; then an image that shows it, uniformly among those with enough of
its pixels; then a crop that shows it.
"""

from typing import NamedTuple

import numpy as np

from jaxseg.errors import UserError


class RareClasses(NamedTuple):
    """What is drawn from.

    Attributes:
      classes: int64 [C], the classes that can be drawn.
      probabilities: float64 [C], in which share each of them is.
      images: for each of them the records to choose from, int64 [n_c].
      minimum: pixels of the class that an image must have more than, at its stored size.
      crop_minimum: pixels of the class that a crop should show more than.
    """

    classes: np.ndarray
    probabilities: np.ndarray
    images: tuple[np.ndarray, ...]
    minimum: int
    crop_minimum: int


def probabilities(pixels: np.ndarray, temperature: float) -> np.ndarray:
    """P(c) of every class.

    Args:
      pixels: [K] labelled pixels of each class in the whole split.
      temperature: T above 0; 0.01 in the paper. Small values draw the rarest classes almost alone,
        infinity draws all that occur equally often.

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
    weight = np.where(pixels > 0, np.exp(score - score[pixels > 0].max()), 0.0)
    return weight / weight.sum()


def rare_classes(
    counts: np.ndarray, temperature: float, minimum: int, crop_minimum: int = 0
) -> RareClasses:
    """Prepares the drawing.

    Args:
      counts: int64 [images, K] labelled pixels by image and class, as `tally.tally` counts them.
      temperature: see `probabilities`.
      minimum: pixels of the class that an image must have more than; 3000 in the paper, whose
        images have 1280x720. A class that no image has that many of is drawn from those that have
        most.
      crop_minimum: pixels of the class that a crop should show more than, at the size that is
        learnt; half of `minimum` in the paper.

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
    """(class, number of the record) of one sample."""
    place = rng.choice(len(rare.classes), p=rare.probabilities)
    images = rare.images[place]
    return int(rare.classes[place]), int(images[rng.integers(len(images))])


def table(rare: RareClasses, counts: np.ndarray, names: tuple[str, ...]) -> list[str]:
    """Lines that tell how often each class is drawn, rarest first.

    Args:
      rare: from `rare_classes`.
      counts: int64 [images, K], as it was made from.
      names: of the K classes.
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
