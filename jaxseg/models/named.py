"""Networks by name, for use without a config: what `jaxseg.networks` offers."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxseg.models.layers import layers
from jaxseg.models.network import Network, network
from jaxseg.models.segmenters import build

PREPROCESS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "caffe": functools.partial(layers.preprocess, mean=layers.CAFFE_MEAN_BGR, order="BGR"),
    "imagenet": functools.partial(
        layers.preprocess, mean=layers.IMAGENET_MEAN, std=layers.IMAGENET_STD, order="RGB"
    ),
    "digits": functools.partial(layers.preprocess, mean=layers.DIGITS_MEAN, order="BGR"),
}


def segmenter(
    architecture: str,
    num_classes: int,
    backbone: str,
    *,
    norm: str = "train",
    dtype: Any = jnp.float32,
    axis_name: str | None = None,
    preprocess: str = "imagenet",
    **settings: Any,
) -> Network:
    """A segmentation network.

    Args:
      architecture: a file in jaxseg/models/segmenters, such as 'deeplabv2'.
      num_classes: K.
      backbone: one of `backbones_of(architecture)`.
      norm: one of `layers.NORM_MODES`.
      dtype: of activations.
      axis_name: of the pmapped axis that BatchNorm takes its statistics over; None for one device.
      preprocess: 'imagenet', 'caffe' or 'digits'.
      settings: the architecture's and the backbone's own, as `rates=(6, 12)`.

    Returns:
      Pure functions `init(key, images)` and `apply(params, stats, images, train)`: images are uint8
      or float 0..255 [N,H,W,3] RGB, logits {'main': float32 [N,h,w,K], ...}.

    Raises:
      UserError: unknown names, or settings that the network does not have.
    """
    module = build.build(
        architecture, num_classes, backbone, norm=norm, axis_name=axis_name, dtype=dtype, **settings
    )
    return network(module, PREPROCESS[preprocess])


def architectures() -> list[str]:
    """The names of all segmenters."""
    return build.names()


def backbones_of(architecture: str) -> list[str]:
    """The names of the backbones that a segmenter can have; UserError for an unknown segmenter."""
    return build.backbones_of(architecture)
