"""Depth as a second task, shared by the methods that learn it from the source."""

from collections.abc import Callable
from typing import NamedTuple

import jax

from jaxseg.engine.method import AXIS, DEPTH, TARGET, View, global_mean
from jaxseg.errors import UserError
from jaxseg.losses import depth as losses_depth
from jaxseg.models.network import Network

LEVEL = "depth"  # the network's output: float32 [N,h,w,1], in encoded units


class Depth(NamedTuple):
    """How depth is learnt; the fields have the names of the settings in a config.

    lam_depth: weight of the depth loss; 0 for no such task.
    depth_loss: 'l1' or 'berhu', in the network's units.
    depth_encoding, depth_near, depth_far: see `losses.depth.encode`; metres.
    depth_scale: the network's units for one unit of encoded depth.
    """

    lam_depth: float
    depth_loss: str = "l1"
    depth_encoding: str = "inverse"
    depth_near: float = 1.0
    depth_far: float = 80.0
    depth_scale: float = 1.0


def checked(depth: Depth) -> Depth | None:
    """The settings, or None if the weight is 0.

    Raises:
      UserError: a negative weight, a scale that is not positive, an unknown loss or encoding, an
        empty range.
    """
    if depth.lam_depth < 0 or depth.depth_scale <= 0:
        raise UserError(
            f"lam_depth={depth.lam_depth}, depth_scale={depth.depth_scale}: give a weight of 0 or "
            "more and a scale above 0"
        )
    losses_depth.by_name(depth.depth_loss)
    losses_depth.decode(jax.numpy.zeros(()), *_encoding(depth))
    return depth if depth.lam_depth else None


def _encoding(depth: Depth) -> tuple[str, float, float]:
    return depth.depth_encoding, depth.depth_near, depth.depth_far


def encoded(depth: Depth, metres: jax.Array) -> jax.Array:
    """Metres [...] in the network's units, float32; 0 where there is no depth (0 metres)."""
    return depth.depth_scale * losses_depth.encode(metres, *_encoding(depth))


def error(depth: Depth, prediction: jax.Array, metres: jax.Array) -> jax.Array:
    """The depth loss without its weight, averaged over all devices' pixels with a known depth.

    Args:
      depth: the settings.
      prediction: float [N,H,W,1] in the network's units.
      metres: float [N,H,W]; 0 = unknown.
    """
    loss = losses_depth.by_name(depth.depth_loss, AXIS)
    target = encoded(depth, metres)
    return global_mean(*loss(prediction[..., 0], target, losses_depth.valid(metres)))


def predictor(segmenter: Network, depth: Depth) -> Callable[..., jax.Array]:
    """(params, stats, memory, images) -> metres [N,h,w], near..far, at the network's stride."""

    def predict(params, stats, memory, images):
        del memory
        net, running = params["gen"]["segmenter"], stats["segmenter"]
        found = segmenter.apply(net, running, images, False)[0][LEVEL][..., 0]
        return losses_depth.decode(found / depth.depth_scale, *_encoding(depth))

    return predict


def views(segmenter: Network, depth: Depth | None) -> dict[str, View]:
    """The view of predicted depth, which is scored as well; none without the task."""
    return {"depth": View(predictor(segmenter, depth), DEPTH, TARGET, "depth")} if depth else {}
