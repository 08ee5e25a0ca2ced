"""The input arrays of GIO-Ada's networks: scaled images, guides and joint outputs."""

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
    """The input of the image transform network: source images with labels and depth as channels.

    Args:
      batch: source_image [N,H,W,3] in 0..255; source_label [N,H,W] and source_depth [N,H,W] in
        metres, each only needed if it is a guide.
      guides: which of GUIDES are added.
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
            parts_depth.encoded(depth._replace(depth_scale=1.0), batch["source_depth"])[..., None]
        )
    return jnp.concatenate(parts, -1)


def joint(outputs: Mapping[str, jax.Array], depth: parts_depth.Depth | None) -> jax.Array:
    """The input of the discriminator of outputs: class probabilities [N,H,W,K], and with depth as a
    task the predicted depth in the network's units as one more channel; float32.
    """
    maps = jax.nn.softmax(outputs["main"], axis=-1)
    return jnp.concatenate([maps, outputs[parts_depth.LEVEL]], -1) if depth else maps
