"""Output levels of a network at the size at which losses and discriminators look at them."""

import jax
from jax import lax

from jaxseg.resize import resize_bilinear

FEATURES = "features"  # the level below the outputs: the last feature map, at its own size
DETAIL = "hr"  # of a network at two scales: what is seen of a window alone
WINDOW = "window"  # its top left corner in pixels, int32 [2]; absent where windows cover the image


def upsampled(logits: jax.Array, images: jax.Array) -> jax.Array:
    """Logits [N,h,w,K] resized to images [N,H,W,...], aligned corners as in the papers' code."""
    return resize_bilinear(logits, images.shape[1:3])


def at_size(outputs, levels, images) -> dict[str, jax.Array]:
    """Logits at full size, features as they are."""
    return {
        level: outputs[level] if level == FEATURES else upsampled(outputs[level], images)
        for level in levels
    }


def beside(outputs, level: str, *maps: jax.Array | None) -> tuple:
    """Logits of a level, and maps of the pixels that they are of.

    Args:
      outputs: of a network, {level: [N,h,w,K]}.
      level: one of them. 'hr' of a network that saw one window (`hrda.HRDA` in training) has the
        window's size, and the maps are cut to it.
      maps: [N,H,W], or None.

    Returns:
      The logits [N,h',w',K] and the maps [N,h',w'].
    """
    logits = outputs[level]
    if level == DETAIL and WINDOW in outputs:
        (top, left), (height, width) = outputs[WINDOW], logits.shape[1:3]

        def cut(x):
            return lax.dynamic_slice(x, (0, top, left), (len(x), height, width))

        return (logits, *(x if x is None else cut(x) for x in maps))
    return (upsampled(logits, maps[0]), *maps)
