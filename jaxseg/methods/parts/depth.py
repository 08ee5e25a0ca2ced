"""Depth as a second task: what the methods that learn it from the source have in common."""

from collections.abc import Callable
from typing import NamedTuple

import jax

from jaxseg.engine.method import AXIS, DEPTH, TARGET, View, global_mean
from jaxseg.losses import depth as losses_depth
from jaxseg.models.network import Network

LEVEL = "depth"  # the network's output: float32 [N,h,w,1], in encoded units


class Depth(NamedTuple):
    """How depth is learnt.

    weight: of its loss, above 0.
    loss: 'l1' or 'berhu'.
    encoding, near, far: see `losses.depth.encode`; metres.
    scale: what encoded depth is multiplied by for the network.
    """

    weight: float
    loss: str
    encoding: str
    near: float
    far: float
    scale: float = 1.0


def checked(depth: Depth) -> Depth | None:
    """The settings, or None without a weight.

    Raises:
      ValueError: a weight below 0 or a scale that is not above it.
      UserError: an unknown loss or encoding, an empty range.
    """
    if depth.weight < 0 or depth.scale <= 0:
        raise ValueError(
            f"lam_depth={depth.weight}, depth_scale={depth.scale}: give a weight of 0 or more and "
            "a scale above 0"
        )
    losses_depth.by_name(depth.loss)
    losses_depth.decode(jax.numpy.zeros(()), depth.encoding, depth.near, depth.far)
    return depth if depth.weight else None


def encoded(depth: Depth, metres: jax.Array) -> jax.Array:
    """Metres [...] in the network's units, float32; 0 where there is no depth (0 metres)."""
    return depth.scale * losses_depth.encode(metres, depth.encoding, depth.near, depth.far)


def error(depth: Depth, prediction: jax.Array, metres: jax.Array) -> jax.Array:
    """The loss before its weight, mean over the pixels of all devices that have a depth.

    Args:
      depth: the settings.
      prediction: float [N,H,W,1] in the network's units.
      metres: float [N,H,W]; 0 = none.
    """
    loss = losses_depth.by_name(depth.loss, AXIS)
    target = encoded(depth, metres)
    return global_mean(*loss(prediction[..., 0], target, losses_depth.valid(metres)))


def predictor(segmenter: Network, depth: Depth) -> Callable[..., jax.Array]:
    """(params, stats, memory, images) -> metres [N,h,w], near..far, at the network's stride."""

    def predict(params, stats, memory, images):
        del memory
        net, running = params["gen"]["segmenter"], stats["segmenter"]
        found = segmenter.apply(net, running, images, False)[0][LEVEL][..., 0]
        return losses_depth.decode(found / depth.scale, depth.encoding, depth.near, depth.far)

    return predict


def views(segmenter: Network, depth: Depth | None) -> dict[str, View]:
    """The view of predicted depth, which is scored as well; none without the task."""
    return {"depth": View(predictor(segmenter, depth), DEPTH, TARGET, "depth")} if depth else {}
