"""Supervised segmentation losses."""

import jax
import jax.numpy as jnp

IGNORE = 255


def cross_entropy(logits: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Cross-entropy per pixel, with pixels to leave out.

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
    classes = jnp.arange(logits.shape[-1])
    # A comparison instead of a gather: its gradient is a select, not a scatter.
    chosen = jnp.sum(jnp.where(classes == labels[..., None], logits, 0.0), axis=-1)
    loss = jax.nn.logsumexp(logits.astype(jnp.float32), axis=-1) - chosen
    return jnp.where(valid, loss, 0.0), valid
