"""Losses over regions: all pixels of a class in an image give one number together.

Each returns (loss [N], valid [N]), one number per image; `engine.method.global_mean(loss, valid)`
is exactly the mean over the labelled images of all devices. With `per_image=False` the pixels of
the local batch are pooled and there is one number, [1]. That is closer to the score of a whole
split (the Lovasz paper prefers it for that reason), but with D devices it gives the mean of D
losses, which is not the loss of the whole batch.

The mean is over the classes that occur in the labels, with equal weights. Predicting a class that
does not occur still costs: the true classes lose that probability. No smoothing term is needed,
because no denominator is below one pixel.
"""

import jax
import jax.numpy as jnp
from jax import lax


def dice(
    logits: jax.Array, labels: jax.Array, *, per_image: bool = True, squared: bool = False
) -> tuple[jax.Array, jax.Array]:
    """Soft Dice loss, 1 - 2 sum(p g) / (sum(p) + sum(g)), mean over the classes present.

    Args:
      logits: float [N, H, W, K].
      labels: integers [N, H, W]; outside 0..K-1 (255 = ignore) = ignored.
      per_image: see above.
      squared: sum(p^2) and sum(g^2) in the denominator, as in V-Net (Milletari et al., 3DV 2016).

    Returns:
      loss float32 [N] in 0..1 (0 where not valid) and valid bool [N]: whether any pixel is
      labelled. [1] each when pooled.
    """
    probability, truth = _flat(logits, labels, per_image)
    overlap = jnp.sum(jnp.where(truth, probability, 0.0), axis=-1)
    mass = jnp.sum(jnp.square(probability) if squared else probability, axis=-1)
    pixels = jnp.sum(truth, axis=-1, dtype=jnp.float32)
    # At least one pixel: absent classes are left out below, but must not divide by 0 here.
    loss = 1.0 - 2.0 * overlap / jnp.maximum(mass + pixels, 1.0)
    return _over_present(loss, pixels > 0)


def lovasz_softmax(
    logits: jax.Array, labels: jax.Array, *, per_image: bool = True
) -> tuple[jax.Array, jax.Array]:
    """Lovasz-softmax, the convex extension of the Jaccard loss 1 - IoU (Berman et al., CVPR 2018),
    mean over the classes present.

    The errors of a class are sorted. Each is weighted by how much the class's Jaccard loss grows
    when that pixel is predicted wrongly in addition to all pixels with larger errors. The gradient
    with respect to the errors is these weights, so nothing is differentiated through the sort.
    Sorting is slow (on a CPU many times slower than a cross-entropy); absent classes are skipped.

    Args:
      logits: float [N, H, W, K].
      labels: integers [N, H, W]; outside 0..K-1 (255 = ignore) = ignored.
      per_image: see above.

    Returns:
      loss float32 [N] in 0..1 (0 where not valid) and valid bool [N]: whether any pixel is
      labelled. [1] each when pooled.
    """
    probability, truth = _flat(logits, labels, per_image)
    errors = jnp.where(truth, 1.0 - probability, probability)
    present = jnp.any(truth, axis=-1)

    def weigh(item):
        return lax.cond(item[2], _jaccard_growth, lambda e, t: jnp.zeros_like(e), *item[:2])

    # One class after the other, so that absent ones cost nothing.
    items = (lax.stop_gradient(errors), truth, present)
    weights = lax.map(weigh, jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), items))
    return _over_present(jnp.sum(weights.reshape(errors.shape) * errors, axis=-1), present)


def _flat(logits, labels, per_image):
    """-> probabilities (0 where ignored) and truth (False there), [n, K, pixels]."""
    if logits.shape[:-1] != labels.shape:
        raise ValueError(f"logits {logits.shape} do not fit labels {labels.shape}")
    groups, classes = (len(labels) if per_image else 1), logits.shape[-1]
    labels = labels.astype(jnp.int32).reshape(groups, 1, -1)
    valid = (labels >= 0) & (labels < classes)
    probability = jax.nn.softmax(logits.astype(jnp.float32), axis=-1)
    probability = probability.reshape(groups, -1, classes).transpose(0, 2, 1)
    truth = labels == jnp.arange(classes)[:, None]
    return jnp.where(valid, probability, 0.0), truth


def _over_present(loss, present):
    """[n, K] -> mean over the classes present [n], and whether there is any."""
    count = jnp.sum(present, axis=-1, dtype=jnp.float32)
    total = jnp.sum(jnp.where(present, loss, 0.0), axis=-1)
    return total / jnp.maximum(count, 1.0), count > 0


def _jaccard_growth(errors, truth):
    """What each pixel [pixels] adds to 1 - IoU of a class that is present, when pixels become wrong
    one after the other from the largest error down. Ignored pixels have no error and come last.

    In float32 the paper's differences of neighbouring Jaccard values lose precision when a class
    has many pixels, so they are computed in closed form: 1 / union for a pixel of the class, and
    intersection / (union (union - 1)) for another. Counted in integers: exact.
    """
    # The truth travels in the lowest bit of the place: sorting two arrays is quicker than three.
    place = 2 * jnp.arange(len(errors)) + truth
    _, place = lax.sort((-errors, place), num_keys=1)
    hits, place = place & 1, place >> 1
    pixels = jnp.sum(hits)
    intersection = (pixels - jnp.cumsum(hits)).astype(jnp.float32)
    union = (pixels + jnp.cumsum(1 - hits)).astype(jnp.float32)
    growth = jnp.where(hits > 0, 1.0 / union, intersection / jnp.maximum(union - 1.0, 1.0) / union)
    return jnp.zeros_like(growth).at[place].set(growth, unique_indices=True)
