"""Losses on the share of an image that each class covers.

The class-ratio prior is ADVENT's (Vu et al., CVPR 2019, section 3.3; no code was released, but
the authors describe it in the issues of their repository). The size constraints are those of FCNs
in the Wild (Hoffman et al., 2016, section 3.3), also without released code.
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
    """How far the predicted shares of classes are below a fraction of their shares in the source.

    sum_c max(0, mu prior_c - mean over the image's pixels of p_c). It keeps entropy minimisation
    from giving up rare classes; a class that is larger than in the source costs nothing.

    Args:
      logits: of the target, float [N, H, W, K].
      prior: float [K], shares of the classes in the source's labels.
      mu: the fraction, 0..1.

    Returns:
      float32 [N].
    """
    return jnp.sum(jax.nn.relu(mu * prior - predicted_shares(logits)), axis=-1)


def present(logits: jax.Array, lower: jax.Array, fraction: float) -> jax.Array:
    """Which classes count as present in an image: predicted share above `fraction` times `lower`.

    Args:
      logits: of the target, float [N, H, W, K].
      lower: float [K], a low percentile of each class's share in source images that hold it.
      fraction: 0..1.

    Returns:
      bool [N, K], without gradient.
    """
    winners = jnp.argmax(jax.lax.stop_gradient(logits), axis=-1)
    return label_shares(winners, logits.shape[-1]) > fraction * lower


def size_constraints(
    logits: jax.Array, held: jax.Array, lower: jax.Array, upper: jax.Array
) -> jax.Array:
    """Distance of each class's predicted share from its allowed range.

    A class that is present may cover `lower` to `upper` of the image, any other nothing.

    Args:
      logits: of the target, float [N, H, W, K].
      held: which classes are present, bool [N, K], from `present`.
      lower, upper: float [K], shares.

    Returns:
      float32 [N, K], 0 within the range.
    """
    share = predicted_shares(logits)
    outside = jax.nn.relu(lower - share) + jax.nn.relu(share - upper)
    return jnp.where(held, outside, share)
