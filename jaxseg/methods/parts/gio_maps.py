"""What the networks of GIO-Ada are shown: images, guides and joint outputs as arrays."""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp

from jaxseg.methods.parts import depth as parts_depth

GUIDES = ("label", "depth")


def to_unit(images: jax.Array) -> jax.Array:
    """Images in 0..255, any type, as float32 in -1..1."""
    return images.astype(jnp.float32) / 127.5 - 1.0


def to_levels(images: jax.Array) -> jax.Array:
    """Images in -1..1 as float32 in 0..255, what task networks take."""
    return (images + 1.0) * 127.5


def guided(
    batch: Mapping[str, jax.Array],
    guides: Sequence[str],
    num_classes: int,
    depth: parts_depth.Depth,
) -> jax.Array:
    """The source as the image transform network sees it.

    Args:
      batch: source_image [N,H,W,3] in 0..255; source_label [N,H,W] and source_depth [N,H,W] in
        metres as far as they are guides.
      guides: of GUIDES.
      num_classes: K.
      depth: whose encoding is used.

    Returns:
      float32 [N,H,W,3 + K + 1] with both guides: the image in -1..1, the labels one-hot (all zeros
      where ignored), the depth in 0..1 (0 where there is none).
    """
    parts = [to_unit(batch["source_image"])]
    if "label" in guides:
        labels = batch["source_label"].astype(jnp.int32)[..., None]
        parts.append((labels == jnp.arange(num_classes)).astype(jnp.float32))
    if "depth" in guides:
        parts.append(
            parts_depth.encoded(depth._replace(scale=1.0), batch["source_depth"])[..., None]
        )
    return jnp.concatenate(parts, -1)


def joint(outputs: Mapping[str, jax.Array], depth: parts_depth.Depth | None) -> jax.Array:
    """The task network's outputs as their discriminator sees them: class probabilities and, if it
    is learnt, encoded depth as it is regressed; float32 [N,H,W,K + 1] or [N,H,W,K].
    """
    maps = jax.nn.softmax(outputs["main"], axis=-1)
    return jnp.concatenate([maps, outputs[parts_depth.LEVEL]], -1) if depth else maps
