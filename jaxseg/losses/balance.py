"""Class weights from label statistics, in NumPy: computed once, before training."""

import numpy as np

from jaxseg.errors import UserError

KINDS = ("inverse", "median")


def class_weights(counts: np.ndarray, kind: str = "median") -> np.ndarray:
    """Weights that let rare classes count more in a cross-entropy.

    Args:
      counts: labelled pixels, not negative: [images, K] by image and class, or [K] over all images
        (shares will do as well).
      kind: 'inverse', 1 / share of the labelled pixels, over the number of classes, so that the
        mean weight of a labelled pixel is 1. 'median', median frequency balancing (Eigen and
        Fergus, ICCV 2015; SegNet): the frequency of a class is its pixels over the labelled pixels
        of the images that show it, its weight the median frequency over its own. With counts [K]
        every class is taken to be in every image.

    Returns:
      float64 [K]. A class that was never counted gets the largest weight of the others, because
      it can still occur if the counts are from a sample.

    Raises:
      UserError: another kind, counts of another shape, negative or not finite, or none above 0.
    """
    counts = np.asarray(counts, np.float64)
    if kind not in KINDS:
        raise UserError(f"no class weights are called {kind!r}; choose one of {', '.join(KINDS)}")
    if counts.ndim not in (1, 2):
        raise UserError(f"class counts must be [K] or [images, K], not of shape {counts.shape}")
    counts = np.atleast_2d(counts)
    if not np.isfinite(counts).all() or (counts < 0).any() or not counts.any():
        raise UserError("class counts must be finite, not negative and not all 0")
    pixels = counts.sum(0)
    seen = pixels > 0
    if kind == "inverse":
        within, scale = np.full(len(pixels), pixels.sum()), 1 / seen.sum()
    else:
        within = np.where(counts > 0, counts.sum(1, keepdims=True), 0).sum(0)
        scale = np.median(pixels[seen] / within[seen])
    weights = np.zeros(len(pixels))
    weights[seen] = scale / (pixels[seen] / within[seen])
    weights[~seen] = weights.max()
    return weights
