"""The Fréchet distance between the features of two sets of images.

Heusel et al., "GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium"
(NIPS 2017), measure with Inception's features. Any other network's features give other numbers,
which can be compared only among themselves, for equal numbers of images.
"""

import numpy as np

from jaxseg.errors import UserError


def distance(first: np.ndarray, second: np.ndarray) -> float:
    """The squared Fréchet distance of two Gaussians with the sets' means and covariances.

    |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)), in float64. With fewer images than features the
    covariances are not of full rank; the number stays well defined, but it is then biased upwards,
    the more the fewer images there are.

    Args:
      first: [n, D] features, one row an image.
      second: [m, D].

    Returns:
      At least 0.

    Raises:
      UserError: fewer than two images in a set, or features of different widths.
    """
    sets = [np.asarray(rows, np.float64) for rows in (first, second)]
    if (
        any(rows.ndim != 2 or len(rows) < 2 for rows in sets)
        or sets[0].shape[1] != sets[1].shape[1]
    ):
        shapes = " and ".join(str(rows.shape) for rows in sets)
        raise UserError(f"a Fréchet distance of {shapes}: give two images or more on each side")
    means = [rows.mean(0) for rows in sets]
    covariances = [np.atleast_2d(np.cov(rows, rowvar=False)) for rows in sets]
    # The trace of the root of C1 C2 is the sum of the singular values of X1 X2^T, for any roots
    # X^T X = C; the centred rows themselves are such roots.
    roots = [(rows - mean) / np.sqrt(len(rows) - 1) for rows, mean in zip(sets, means, strict=True)]
    common = np.linalg.svd(roots[0] @ roots[1].T, compute_uv=False).sum()
    spread = sum(np.trace(covariance) for covariance in covariances)
    return max(0.0, float(((means[0] - means[1]) ** 2).sum() + spread - 2 * common))


def variety(features: np.ndarray) -> float:
    """How much the images of a set differ: the features' variances, summed, in float64.

    A generator whose mode has collapsed makes all images alike, and this falls towards 0.

    Args:
      features: [n, D], one row an image.

    Returns:
      The trace of their covariance, that of `distance`; at least 0.

    Raises:
      UserError: fewer than two images.
    """
    if np.ndim(features) != 2 or len(features) < 2:
        raise UserError(f"the variety of {np.shape(features)}: give two images or more")
    return float(np.var(np.asarray(features, np.float64), axis=0, ddof=1).sum())
