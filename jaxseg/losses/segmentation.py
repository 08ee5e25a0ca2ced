"""Supervised segmentation losses, pixel by pixel.

Each returns two maps [N, H, W]: the loss, and which pixels count (bool) or how much (float weight).
Of these, `engine.method.global_mean(loss, second)` is exactly the mean over the batches of all
devices. Losses over regions (Dice, Lovasz) are in `region.py`, class weights in `balance.py`.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

from jaxseg.errors import UserError

IGNORE = 255


def cross_entropy(logits: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Cross-entropy per pixel; unlabelled pixels are left out.

    Args:
      logits: float [N, H, W, K].
      labels: integers [N, H, W], 0..K-1; 255 (or anything outside that range) is ignored.

    Returns:
      loss float32 [N, H, W] in nats (0 where ignored) and valid bool [N, H, W].
    """
    if logits.shape[:-1] != labels.shape:
        raise ValueError(f"logits {logits.shape} do not fit labels {labels.shape}")
    labels = labels.astype(jnp.int32)
    valid = (labels >= 0) & (labels < logits.shape[-1])
    loss = _cross_entropy(logits.astype(jnp.float32), labels)
    return jnp.where(valid, loss, 0.0), valid


# The gradient is written out, softmax - one-hot: one pass over the logits.
@jax.custom_vjp
def _cross_entropy(logits, labels):
    return _cross_entropy_forward(logits, labels)[0]


def _cross_entropy_forward(logits, labels):
    # A comparison instead of a gather, which is slow on several backends.
    chosen = jnp.sum(jnp.where(_is_class(logits, labels), logits, 0.0), axis=-1)
    total = jax.nn.logsumexp(logits, axis=-1)
    return total - chosen, (logits, labels, total)


def _cross_entropy_backward(saved, gradient):
    logits, labels, total = saved
    p = jnp.exp(logits - total[..., None])
    return (p - _is_class(logits, labels)) * gradient[..., None], None


def _is_class(logits, labels):
    return jnp.arange(logits.shape[-1]) == labels[..., None]


_cross_entropy.defvjp(_cross_entropy_forward, _cross_entropy_backward)


def weight_map(labels: jax.Array, class_weights: Sequence[float]) -> jax.Array:
    """The weight of each pixel's class.

    Args:
      labels: integers [...]; ids outside 0..K-1 (255 = ignore) get the weight 0.
      class_weights: K numbers, not negative.

    Returns:
      float32 [...].
    """
    weights = jnp.asarray(class_weights, jnp.float32)
    classes = jnp.arange(len(weights))
    return jnp.sum(jnp.where(classes == labels.astype(jnp.int32)[..., None], weights, 0.0), axis=-1)


def weighted_cross_entropy(
    logits: jax.Array, labels: jax.Array, class_weights: Sequence[float]
) -> tuple[jax.Array, jax.Array]:
    """Cross-entropy in which each pixel has the weight of its class.

    `global_mean(*weighted_cross_entropy(...))` divides by the sum of the weights, as PyTorch's mean
    does, so a common factor of all weights changes nothing. Both sums run over all devices.

    Args:
      logits: float [N, H, W, K].
      labels: integers [N, H, W]; outside 0..K-1 = ignored.
      class_weights: K numbers, not negative; see `balance.class_weights`.

    Returns:
      weight times cross-entropy, float32 [N, H, W] in nats, and the weight, float32 [N, H, W]
      (0 where ignored).

    Raises:
      UserError: there are not K weights, or one is negative or not finite.
    """
    class_weights = [float(weight) for weight in class_weights]
    if not all(math.isfinite(weight) and weight >= 0 for weight in class_weights):
        raise UserError(f"class weights must be finite and not negative, not {class_weights}")
    if len(class_weights) != logits.shape[-1]:
        raise UserError(
            f"there are {len(class_weights)} class weights for {logits.shape[-1]} classes; "
            "give one for each class"
        )
    loss, _ = cross_entropy(logits, labels)
    weight = weight_map(labels, class_weights)
    return weight * loss, weight


def focal(
    logits: jax.Array, labels: jax.Array, gamma: float = 2.0, *, constant_factor: bool = False
) -> tuple[jax.Array, jax.Array]:
    """Focal loss (1 - p)^gamma * cross-entropy, p the probability of the true class (Lin et al.,
    "Focal Loss for Dense Object Detection", ICCV 2017).

    Args:
      logits: float [N, H, W, K].
      labels: integers [N, H, W]; outside 0..K-1 = ignored.
      gamma: at least 0; 0 is plain cross-entropy.
      constant_factor: take no gradient through the factor (1 - p)^gamma. The paper does take it;
        the MiniCity tutorial's code does not. The values are the same.

    Returns:
      loss float32 [N, H, W] in nats (0 where ignored) and valid bool [N, H, W]. The mean divides by
      the number of valid pixels, not by the sum of the factors.
    """
    if gamma < 0:
        raise UserError(f"the focal loss needs gamma of at least 0, not {gamma}")
    loss, valid = cross_entropy(logits, labels)
    if gamma == 0:
        return loss, valid
    missing = -jnp.expm1(-loss)  # 1 - p
    # The slope of x^gamma at 0 is infinite for gamma < 1: such pixels have no loss to begin with.
    unsure = missing > 0
    factor = jnp.where(unsure, jnp.where(unsure, missing, 1.0) ** gamma, 0.0)
    return (lax.stop_gradient(factor) if constant_factor else factor) * loss, valid


def ohem(
    logits: jax.Array, labels: jax.Array, threshold: float = 0.7, minimum: float = 1 / 16
) -> tuple[jax.Array, jax.Array]:
    """Cross-entropy of the hard pixels only: online hard example mining (Shrivastava et al., CVPR
    2016) in the form usual for segmentation.

    A pixel is kept if its true class has a probability below `threshold`, or if it is among the
    hardest `minimum` of its image's labelled pixels (ties are kept). Other implementations set
    `minimum` as a number of pixels in the batch of one device. Here it is a share of each image, so
    that the choice, and with `global_mean` the loss, does not depend on the number of devices.

    Args:
      logits: float [N, H, W, K].
      labels: integers [N, H, W]; outside 0..K-1 = ignored.
      threshold: probability in 0..1; 0 keeps only the hardest `minimum`.
      minimum: share in 0..1 of each image's labelled pixels, rounded to whole pixels.

    Returns:
      cross-entropy float32 [N, H, W] in nats (0 where not kept) and kept bool [N, H, W].
    """
    if not (0 <= threshold <= 1 and 0 <= minimum <= 1):
        raise UserError(f"OHEM's threshold={threshold} and minimum={minimum} must be in 0..1")
    loss, valid = cross_entropy(logits, labels)
    # No gradient flows through the choice. Ignored pixels come last.
    hardness = lax.stop_gradient(jnp.where(valid, loss, -jnp.inf))
    descending = -jnp.sort(-hardness.reshape(len(loss), -1), axis=-1)
    count = jnp.round(minimum * jnp.sum(valid, axis=(1, 2), dtype=jnp.float32)).astype(jnp.int32)
    last = jnp.take_along_axis(descending, jnp.maximum(count - 1, 0)[:, None], axis=-1)[:, 0]
    last = jnp.where(count > 0, last, jnp.inf)[:, None, None]
    limit = -math.log(threshold) if threshold > 0 else math.inf
    kept = valid & ((hardness > limit) | (hardness >= last))
    return jnp.where(kept, loss, 0.0), kept
