"""Losses on how much of an image a class covers.

The class-ratio prior is ADVENT's (Vu et al., CVPR 2019, section 3.3; its code was never released,
the authors describe it in the issues of their repository). The size constraints are those of FCNs
in the Wild (Hoffman et al., 2016, section 3.3), which has no code either.
"""

import jax
import jax.numpy as jnp


def label_shares(labels: jax.Array, num_classes: int) -> jax.Array:
    """Share of each class in the labelled pixels of each image.

    Args:
      labels: integers [N, H, W]; ids outside 0..K-1 (255) are not counted.
      num_classes: K.

    Returns:
      float32 [N, K], rows sum to one; a row of zeros for an image without labels.
    """
    counts = label_counts(labels, num_classes)
    return counts / jnp.maximum(counts.sum(-1, keepdims=True), 1.0)


def label_counts(labels: jax.Array, num_classes: int) -> jax.Array:
    """Pixels of each class in each image: integers [N, H, W] -> float32 [N, K]."""
    labels = labels.reshape(labels.shape[0], -1).astype(jnp.int32)
    # One pass for each class: K is small and [N, H W, K] is not.
    return jnp.stack(
        [jnp.sum(labels == k, axis=1, dtype=jnp.float32) for k in range(num_classes)], axis=-1
    )


def predicted_shares(logits: jax.Array) -> jax.Array:
    """Mean softmax over the pixels of each image: float [N, H, W, K] -> float32 [N, K]."""
    return jnp.mean(jax.nn.softmax(logits.astype(jnp.float32), axis=-1), axis=(1, 2))


def class_prior(logits: jax.Array, prior: jax.Array, mu: float) -> jax.Array:
    """How far the classes fall short of a part of their share in the source.

    sum_c max(0, mu prior_c - mean over the image's pixels of p_c): it keeps the entropy's
    minimisation from giving up rare classes, and does not mind a class that is larger than there.

    Args:
      logits: of the target, float [N, H, W, K].
      prior: float [K], shares of the classes in the source's labels.
      mu: the part that is asked for, 0..1.

    Returns:
      float32 [N].
    """
    return jnp.sum(jax.nn.relu(mu * prior - predicted_shares(logits)), axis=-1)


def present(logits: jax.Array, lower: jax.Array, fraction: float) -> jax.Array:
    """Which classes an image is taken to hold: those that win more than `fraction` of `lower`.

    Args:
      logits: of the target, float [N, H, W, K].
      lower: float [K], the share that a class seldom falls below where it occurs.
      fraction: 0..1.

    Returns:
      bool [N, K], a constant to differentiation.
    """
    winners = jnp.argmax(jax.lax.stop_gradient(logits), axis=-1)
    return label_shares(winners, logits.shape[-1]) > fraction * lower


def size_constraints(
    logits: jax.Array, held: jax.Array, lower: jax.Array, upper: jax.Array
) -> jax.Array:
    """Distance of each class's predicted share from where it may lie.

    A class that the image holds may cover `lower` to `upper` of it, any other nothing.

    Args:
      logits: of the target, float [N, H, W, K].
      held: bool [N, K], from `present`.
      lower, upper: float [K], shares.

    Returns:
      float32 [N, K], 0 where the share is allowed.
    """
    share = predicted_shares(logits)
    outside = jax.nn.relu(lower - share) + jax.nn.relu(share - upper)
    return jnp.where(held, outside, share)
