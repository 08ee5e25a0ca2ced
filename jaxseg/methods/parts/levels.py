"""Output levels of a network at the size at which losses and discriminators look at them."""

import jax

from jaxseg.resize import resize_bilinear

FEATURES = "features"  # the level below the outputs: the last feature map, at its own size


def upsampled(logits: jax.Array, images: jax.Array) -> jax.Array:
    """Logits [N,h,w,K] resized to images [N,H,W,...], aligned corners as in the papers' code."""
    return resize_bilinear(logits, images.shape[1:3])


def at_size(outputs, levels, images) -> dict[str, jax.Array]:
    """Logits at full size, features as they are."""
    return {
        level: outputs[level] if level == FEATURES else upsampled(outputs[level], images)
        for level in levels
    }
