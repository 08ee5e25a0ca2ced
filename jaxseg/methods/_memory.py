"""What methods remember of the source's labels: class shares, in `State.memory`.

Every device writes the same values, gathered from all of them, so that the memory needs no device
axis and does not depend on the number of devices.
"""

import jax
import jax.numpy as jnp
from jax import lax

from jaxseg.core import AXIS
from jaxseg.losses.class_ratio import label_counts, label_shares


def empty_histogram(num_classes: int) -> dict[str, jax.Array]:
    """Memory of `histogram`: {'shares': float32 [K], 'batches': int32 []}."""
    return {"shares": jnp.zeros(num_classes), "batches": jnp.zeros((), jnp.int32)}


def histogram(memory: dict[str, jax.Array], labels: jax.Array) -> dict[str, jax.Array]:
    """The mean class shares of all batches so far, with this one.

    Args:
      memory: see `empty_histogram`.
      labels: integers [n, H, W] of this device.
    """
    counts = lax.psum(label_counts(labels, len(memory["shares"])).sum(0), AXIS)
    batches = memory["batches"] + 1
    shares = counts / jnp.maximum(counts.sum(), 1.0)
    mean = memory["shares"] + (shares - memory["shares"]) / batches
    return {"shares": mean, "batches": batches}


def empty_ring(images: int, num_classes: int) -> dict[str, jax.Array]:
    """Memory of `remember`: {'shares': float32 [images, K], 'seen': int32 []}, nothing seen yet."""
    return {"shares": jnp.zeros((images, num_classes)), "seen": jnp.zeros((), jnp.int32)}


def remember(memory: dict[str, jax.Array], labels: jax.Array) -> dict[str, jax.Array]:
    """The class shares of the latest images, with these.

    Args:
      memory: see `empty_ring`; the oldest images make room.
      labels: integers [n, H, W] of this device.

    Raises:
      ValueError: there is no room for one batch.
    """
    room, num_classes = memory["shares"].shape
    shares = label_shares(labels, num_classes)
    shares = lax.all_gather(shares, AXIS).reshape(-1, num_classes)
    if len(shares) > room:
        raise ValueError(f"a batch of {len(shares)} images, and room for {room} in the memory")
    places = (memory["seen"] + jnp.arange(len(shares))) % room
    return {
        "shares": memory["shares"].at[places].set(shares),
        "seen": memory["seen"] + len(shares),
    }


def bounds(memory: dict[str, jax.Array], lower: float, upper: float) -> tuple[jax.Array, jax.Array]:
    """Percentiles of each class's share over the remembered images that hold it.

    Args:
      memory: see `empty_ring`.
      lower, upper: percentiles, 0..100.

    Returns:
      (float32 [K], float32 [K]); (0, 1), which binds nothing, for a class not seen yet.
    """
    shares = memory["shares"]
    ordered = jnp.sort(jnp.where(shares > 0, shares, jnp.inf), axis=0)
    count = jnp.sum(shares > 0, axis=0)

    def percentile(q, unknown):
        position = q / 100 * jnp.maximum(count - 1, 0)
        low = jnp.floor(position).astype(jnp.int32)
        high = jnp.minimum(low + 1, jnp.maximum(count - 1, 0))
        pick = lambda rows: jnp.take_along_axis(ordered, rows[None], axis=0)[0]  # noqa: E731
        weight = position - low
        value = (1 - weight) * pick(low) + weight * pick(high)
        return jnp.where(count > 0, value, unknown)

    return percentile(lower, 0.0), percentile(upper, 1.0)
