"""Strong views of images on the device: colours changed and blurred, geometry left alone.

The augmentation of mixed and masked images in DACS and DAFormer. `adjust` does what
`jaxseg.data.colour` does on the host; the tests hold one to the other.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxseg.errors import UserError

GREY = (0.299, 0.587, 0.114)  # luma of ITU-R BT.601


class StrongView(NamedTuple):
    """What may be done to an image.

    Attributes:
      strength: s; brightness, contrast and saturation have factors of U(1 - s, 1 + s) and the hue
        is turned by U(-s, s) of the colour circle.
      jitter: probability of changing the colours; 0.8 in the papers.
      blur: probability of blurring; 0.5 in the papers.
      sigma: (lowest, highest) deviation of the Gaussian in pixels, drawn uniformly.
      per_image: draws for each image whether its colours are changed and whether it is blurred;
        False, once for the batch of a device, as the code of DACS and DAFormer. By how much is
        drawn for each image either way, as there.
      colours: what the factors do, one of COLOURS: 'torchvision' as `adjust`; 'kornia' as
        `adjust_by_sums`, which the code of DACS, DAFormer and MIC uses and which changes more.
    """

    strength: float = 0.2
    jitter: float = 0.8
    blur: float = 0.5
    sigma: tuple[float, float] = (0.15, 1.15)
    per_image: bool = False
    colours: str = "torchvision"


def checked(view: StrongView) -> StrongView:
    """The view. Raises UserError for unknown `colours`."""
    if view.colours not in COLOURS:
        raise UserError(f"colours={view.colours!r}; choose one of {', '.join(COLOURS)}")
    return view


def strong_view(key: jax.Array, images: jax.Array, view: StrongView) -> jax.Array:
    """Images with colours changed and blurred at random.

    Args:
      key: uint32 [2].
      images: [N, H, W, 3] in 0..255.
      view: what may be done.

    Returns:
      float32 [N, H, W, 3] in 0..255.
    """
    chance = jax.random.uniform(key, (len(images), 7))
    whether = chance if view.per_image else jnp.broadcast_to(chance[:1], chance.shape)
    images = images.astype(jnp.float32)
    if view.jitter > 0 and view.strength > 0:
        factors = 1 + view.strength * (2 * chance[:, :3] - 1)
        turn = view.strength * (2 * chance[:, 3] - 1)
        changed = (whether[:, 4] < view.jitter)[:, None, None, None]
        images = jnp.where(changed, COLOURS[view.colours](images, factors, turn), images)
    if view.blur > 0:
        low, high = view.sigma
        sigma = low + (high - low) * chance[:, 5]
        changed = (whether[:, 6] < view.blur)[:, None, None, None]
        images = jnp.where(changed, blur(images, sigma, high), images)
    return images


def adjust(images: jax.Array, factors: jax.Array, turn: jax.Array) -> jax.Array:
    """Brightness, contrast, saturation and hue, in this order.

    Args:
      images: float32 [N, H, W, 3] in 0..255.
      factors: [N, 3] on the values, on the distance from the image's mean grey, and on each pixel's
        distance from its own grey.
      turn: [N], of the hue: 1/3 makes red green; value and saturation of HSV stay.

    Returns:
      float32 [N, H, W, 3], cut off at 0 and 255.
    """
    grey = jnp.asarray(GREY, jnp.float32)
    brightness, contrast, saturation = jnp.moveaxis(factors[:, None, None, None, :], -1, 0)
    images = images * brightness
    mean = (images @ grey).mean((1, 2))[:, None, None, None]
    images = mean + (images - mean) * contrast
    own = (images @ grey)[..., None]
    images = jnp.clip(own + (images - own) * saturation, 0, 255)
    return _turned(images, turn)


def adjust_by_sums(images: jax.Array, factors: jax.Array, turn: jax.Array) -> jax.Array:
    """The same four as kornia 0.5 has them: brightness is added, contrast has black as its centre,
    and saturation is that of HSV.

    Args:
      images: float32 [N, H, W, 3] in 0..255.
      factors: [N, 3]; a brightness of 1.2 adds a fifth of 255.
      turn: [N], of the hue.

    Returns:
      float32 [N, H, W, 3], cut off at 0 and 255 after brightness and after contrast.
    """
    brightness, contrast, saturation = jnp.moveaxis(factors[:, None, None, None, :], -1, 0)
    images = jnp.clip(images + 255 * (brightness - 1), 0, 255)
    images = jnp.clip(images * contrast, 0, 255)
    value = images.max(-1, keepdims=True)
    chroma = value - images.min(-1, keepdims=True)
    full = value / jnp.where(chroma > 0, chroma, 1.0)  # the factor that makes a colour a pure one
    return _turned(value - (value - images) * jnp.minimum(saturation, full), turn)


COLOURS = {"torchvision": adjust, "kornia": adjust_by_sums}


def _turned(images, turn):
    red, green, blue = jnp.moveaxis(images, -1, 0)
    value = images.max(-1)
    chroma = value - images.min(-1)
    divisor = jnp.where(chroma > 0, chroma, 1.0)
    # In sixths of the circle from red.
    angle = jnp.where(
        value == red,
        (green - blue) / divisor,
        jnp.where(value == green, 2 + (blue - red) / divisor, 4 + (red - green) / divisor),
    )
    angle = angle + 6 * turn[:, None, None]
    channels = []
    for offset in (5.0, 3.0, 1.0):
        position = (angle + offset) % 6
        lacking = jnp.clip(jnp.minimum(position, 4 - position), 0, 1)
        channels.append(value - chroma * lacking)
    return jnp.stack(channels, -1)


def blur(images: jax.Array, sigma: jax.Array, highest: float) -> jax.Array:
    """Convolves each image with a Gaussian; the image is reflected at its edges.

    The kernel reaches five of the highest deviations, beyond which it is below 4e-6 of its centre:
    the references' long kernels give the same numbers.

    Args:
      images: float32 [N, H, W, C].
      sigma: [N], deviations in pixels, above 0.
      highest: an upper bound of `sigma`, known while tracing.
    """
    radius = min(math.ceil(5 * highest), min(images.shape[1:3]) - 1)
    taps = jnp.arange(-radius, radius + 1)
    weights = jnp.exp(-0.5 * jnp.square(taps / sigma[:, None]))
    weights = weights / weights.sum(-1, keepdims=True)
    for axis in (1, 2):
        widths = [(radius, radius) if a == axis else (0, 0) for a in range(4)]
        padded, length = jnp.pad(images, widths, "reflect"), images.shape[axis]
        images = sum(
            weights[:, i, None, None, None] * jax.lax.slice_in_dim(padded, i, i + length, axis=axis)
            for i in range(2 * radius + 1)
        )
    return images
