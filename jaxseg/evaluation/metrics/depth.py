"""Errors of predicted depth as defined by Eigen et al. ("Depth Map Prediction from a Single Image
using a Multi-Scale Deep Network", NIPS 2014).

Every metric is computed over the pixels of an image with known depth, then averaged over the images
that have such pixels. Each image's sums are computed on the device, the ratios in float64 on the
host.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

NEAREST = 1e-3  # metres; smaller (and negative) predictions are clipped to this
COLUMNS = ("pixels", "abs_rel", "sq_rel", "rmse", "rmse_log", "delta1", "delta2", "delta3")


def rows(prediction: Array, truth: Array, cap: float = 80.0) -> Array:
    """Sums over the pixels of each image; nothing crosses images or devices.

    Args:
      prediction: metres, float [N, H, W]; clipped to NEAREST..cap.
      truth: metres, float [N, H, W]; unknown pixels (0 or NaN) and those beyond `cap` are ignored.
      cap: metres, above NEAREST.

    Returns:
      float32 [N, 8], in the order of COLUMNS: the number of pixels; the sums of |p - t| / t,
      (p - t)^2 / t, (p - t)^2, (log p - log t)^2; the numbers of pixels with max(p / t, t / p)
      below 1.25, 1.25^2, 1.25^3. A NaN prediction makes the sums NaN.

    Raises:
      ValueError: shapes that do not match, or a cap not above NEAREST.
    """
    if prediction.shape != truth.shape or prediction.ndim != 3:
        raise ValueError(f"depth {prediction.shape} does not fit truth {truth.shape}: [N, H, W]")
    if not cap > NEAREST:
        raise ValueError(f"a depth cap of {cap} metres: give more than {NEAREST}")
    truth = truth.astype(jnp.float32)
    counted = (truth > 0) & (truth <= cap)
    truth = jnp.where(counted, truth, 1.0)
    prediction = jnp.clip(prediction.astype(jnp.float32), NEAREST, cap)
    prediction = jnp.where(counted, prediction, 1.0)  # elsewhere all errors are 0
    error = prediction - truth
    ratio = jnp.maximum(prediction / truth, truth / prediction)
    each = (
        jnp.ones_like(truth),
        jnp.abs(error) / truth,
        jnp.square(error) / truth,
        jnp.square(error),
        jnp.square(jnp.log(prediction) - jnp.log(truth)),
        *(ratio < 1.25**power for power in (1, 2, 3)),
    )
    # Each row is summed first, then the rows' sums, which keeps float32's rounding error small.
    sums = [jnp.sum(jnp.where(counted, x, 0.0), axis=2).sum(axis=1) for x in each]
    return jnp.stack(sums, axis=-1)


def scores(rows: np.ndarray) -> dict[str, Any]:
    """The metrics averaged over all images.

    Args:
      rows: [M, 8] from the function `rows`, in any order; images without counted pixels are
        skipped.

    Returns:
      {'abs_rel', 'sq_rel' (metres), 'rmse' (metres), 'rmse_log' (natural), 'delta1', 'delta2',
      'delta3' (shares in 0..1): float, 'images': int}; None for a metric without images or that is
      not finite.
    """
    rows = np.asarray(rows, np.float64).reshape(-1, len(COLUMNS))
    rows = rows[rows[:, 0] != 0]
    values = rows[:, 1:] / rows[:, :1]
    for name in ("rmse", "rmse_log"):
        column = COLUMNS.index(name) - 1
        values[:, column] = np.sqrt(values[:, column])
    means = values.mean(0) if len(rows) else np.full(len(COLUMNS) - 1, np.nan)
    named = zip(COLUMNS[1:], means, strict=True)
    return {k: float(v) if np.isfinite(v) else None for k, v in named} | {"images": len(rows)}
