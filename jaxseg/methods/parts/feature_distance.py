"""The feature distance to ImageNet: what a backbone knew before must not be forgotten (Hoyer et
al., DAFormer, CVPR 2022, section 3.3).

The distance is taken on the source's things (cars, people, signs: what ImageNet has photographs
of), at the backbone's last stage, between the segmenter as it is and as it began. Those first
weights are remembered in `State.memory`.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxseg.engine.method import Carry, global_mean
from jaxseg.methods.parts.levels import FEATURES
from jaxseg.models.network import Network

NAME = "first"  # in State.memory


class FeatureDistance(NamedTuple):
    """How far the backbone may go.

    Attributes:
      weight: of the distance in the loss; 0.005 in the paper.
      things: ids of the classes that count; Cityscapes' are 6, 7 and 11 to 18.
      share: of one class in the pixels of a feature, from which on the feature counts; 0.75.
    """

    weight: float
    things: Sequence[int]
    share: float = 0.75


def start(net, stats) -> dict:
    """Memory of `frozen`, before any step."""
    zeros = jax.tree.map(jnp.zeros_like, (net, stats))
    return {NAME: {"params": zeros[0], "stats": zeros[1], "known": jnp.zeros((), jnp.bool_)}}


def frozen(segmenter: Network, params, carry: Carry, images: jax.Array):
    """The last features of the segmenter as it began, and the carry that remembers it.

    The first call remembers the parameters and statistics it is given, so that loaded weights are
    what is kept.

    Args:
      segmenter: the task network, with the level 'features'.
      params: player -> network -> parameters.
      carry: with the memory of `start`.
      images: [N, H, W, 3].

    Returns:
      float32 [N, h, w, C], a constant to differentiation, and the carry.
    """
    memory = carry.memory[NAME]

    def first(old, new):
        return jnp.where(memory["known"], old, lax.stop_gradient(new))

    net = jax.tree.map(first, memory["params"], params["gen"]["segmenter"])
    stats = jax.tree.map(first, memory["stats"], carry.stats["segmenter"])
    features = segmenter.apply(net, stats, images, False)[0][FEATURES]
    known = {"params": net, "stats": stats, "known": jnp.ones((), jnp.bool_)}
    carry = carry._replace(memory={**carry.memory, NAME: known})
    return lax.stop_gradient(features), carry


def distance(
    features: jax.Array, first: jax.Array, labels: jax.Array, settings: FeatureDistance
) -> jax.Array:
    """Mean Euclidean distance of the features of things; 0 where the batch shows none.

    Args:
      features: float32 [N, h, w, C] of the segmenter.
      first: the same of the segmenter as it began.
      labels: int [N, H, W].
      settings: which features count.

    Returns:
      A float32 number, the mean over the batches of all devices.
    """
    squares = jnp.sum(jnp.square(features - first), -1)
    # At the first step all distances are 0, where the root has no slope.
    apart = squares > 0
    length = jnp.where(apart, jnp.sqrt(jnp.where(apart, squares, 1.0)), 0.0)
    return global_mean(length, of_things(labels, features.shape[1:3], settings))


def of_things(labels: jax.Array, size: tuple[int, int], settings: FeatureDistance) -> jax.Array:
    """Which features see enough of one thing, bool [N, h, w].

    Args:
      labels: int [N, H, W].
      size: (h, w) of the feature map; each feature sees the H / h rows and W / w columns around
        it, what is left over being cut off.
      settings: `things` and `share`.
    """
    blocks = [pixels // count for pixels, count in zip(labels.shape[1:], size, strict=True)]
    rows, columns = (block * count for block, count in zip(blocks, size, strict=True))
    seen = labels[:, :rows, :columns].reshape(-1, size[0], blocks[0], size[1], blocks[1])
    shares = jnp.stack([jnp.mean(seen == c, (2, 4), dtype=jnp.float32) for c in settings.things])
    return shares.max(0) >= settings.share
