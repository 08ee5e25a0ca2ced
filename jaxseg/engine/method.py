"""Players, state and the one update that every method shares.

A method is one or two players (`gen`, `disc`). A player owns a subtree of the parameters, one loss
and one optax transformation; each loss is differentiated with respect to its own player's subtree
only, so nothing is detached and no gradient is switched off: another player's output is just data.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

AXIS = "devices"  # the name of the pmapped axis

Tree = Any
Batch = Mapping[str, jax.Array]


class State(NamedTuple):
    """All that a checkpoint holds: arrays only, the same on every device, no device axis."""

    step: jax.Array  # int32 [], updates done so far
    key: jax.Array  # uint32 [2], never changes; each step folds its number in
    params: dict[str, dict[str, Tree]]  # player -> network -> parameters
    opt: dict[str, Tree]  # player -> optax state
    stats: dict[str, Tree]  # network -> BatchNorm running statistics
    memory: dict[str, Tree]  # what is kept between steps and no optimiser owns


class Carry(NamedTuple):
    """What one player hands to the next within a step."""

    step: jax.Array
    stats: dict[str, Tree]
    memory: dict[str, Tree]
    shared: dict[str, Tree]  # outputs computed once and read by later players, as data
    metrics: dict[str, jax.Array]


Loss = Callable[[dict, Carry, Batch, jax.Array], tuple[jax.Array, Carry]]


class Method(NamedTuple):
    """A training method as pure functions; settings and networks are closed over.

    init: (key, batch) -> (params, stats, memory).
    losses: player -> (params, carry, batch, key) -> (scalar loss, carry), in order of play.
    predict: (params, stats, memory, images [N,H,W,3]) -> logits [N,h,w,K] at network stride.
    alternate: False, all gradients are taken at the old parameters, then all players move
      (AdaptSegNet, ADVENT); True, the players move in turn (GIO-Ada).
    warmup: losses played instead during the first `train.warmup_steps` steps; players that are
      not named there stand still.
    reads: the keys of the batch that the losses use; what is not named is not even decoded.
    depth: (params, stats, memory, images [N,H,W,3]) -> metres [N,h,w] float32 at any stride, of a
      method that predicts depth as well.
    transform: (params, stats, memory, batch with source_image, source_label, source_depth) ->
      source images [N,H,W,3] float32 in 0..255 as the method changes them before it learns from
      them (GIO-Ada), to be looked at.
    """

    init: Callable[[jax.Array, Batch], tuple[dict, dict, dict]]
    losses: dict[str, Loss]
    predict: Callable[[dict, dict, dict, jax.Array], jax.Array]
    alternate: bool = False
    warmup: dict[str, Loss] | None = None
    reads: tuple[str, ...] = ("source_image", "source_label", "target_image")
    depth: Callable[[dict, dict, dict, jax.Array], jax.Array] | None = None
    transform: Callable[[dict, dict, dict, Batch], jax.Array] | None = None


def global_mean(values: jax.Array, mask: jax.Array) -> jax.Array:
    """Mean of `values` where `mask` holds, over the batches of all devices.

    The sum is local and the count is the devices' mean, so averaging the result (and its gradient)
    over devices gives the mean over the global batch exactly, however uneven the masks are.

    Args:
      values: float32 [...]; with weights, already multiplied by them.
      mask: bool [...] of the same shape, or float32 weights, not negative: the sum of the values is
        then divided by the sum of the weights.
    """
    count = lax.pmean(jnp.sum(mask, dtype=jnp.float32), AXIS)
    return jnp.sum(jnp.where(mask > 0, values, 0.0)) / jnp.where(count > 0, count, 1.0)
