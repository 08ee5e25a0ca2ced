"""What a training method is: its state, its players, and the maps and metrics that it shows.

A method has one or two players (`gen`, `disc`), or three (CycleGAN's `translator`). A player owns a
part of the parameters, one loss and one optimiser. Each loss is differentiated with respect to its
own player's parameters only, so losses need no `stop_gradient` to protect another player: the
others' outputs are constants.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

AXIS = "devices"  # the name of the pmapped axis

Tree = Any
Batch = Mapping[str, jax.Array]

# The kind of map that a view returns, which decides how it is drawn; [N,h,w] at any stride.
DEPTH = "depth"  # float metres
IMAGE = "image"  # float [N,h,w,3] in 0..255
CLASSES = "classes"  # integer class ids, 255 = ignored
PROBABILITY = "probability"  # float in 0..1
SCALAR = "scalar"  # any float; painted from the picture's smallest value to its largest

# The input of a view: the last argument of its function.
TARGET = "target"  # images [N,H,W,3] in 0..255 of the target
SOURCE = "source"  # a batch of source_image, source_label and source_depth (0 = unknown)
PAIR = "pair"  # the same batch with target_image; all four have the same height and width


class State(NamedTuple):
    """All that a checkpoint holds: arrays only, the same on every device, no device axis."""

    step: jax.Array  # int32 [], updates done so far
    key: jax.Array  # uint32 [2], never changes; each step folds in the step number
    params: dict[str, dict[str, Tree]]  # player -> network -> parameters
    opt: dict[str, Tree]  # player -> optax state
    stats: dict[str, Tree]  # network -> BatchNorm running statistics
    memory: dict[str, Tree]  # kept between steps without an optimiser, such as a moving average
    skipped: jax.Array = np.int32(0)  # int32 [], updates passed over so far, see `guard`


class Carry(NamedTuple):
    """Values that one player passes on to the next within a step."""

    step: jax.Array
    stats: dict[str, Tree]
    memory: dict[str, Tree]
    shared: dict[str, Tree]  # outputs that later players read as data instead of recomputing them
    metrics: dict[str, jax.Array]


class View(NamedTuple):
    """A map that a method can show at each evaluation, beside its prediction.

    function: (params, stats, memory, input named by `side`) -> map of the `kind`. It is called
      outside of training, without a key: a view that draws at random (mixing two images, say) uses
      a fixed key of its own, so that pictures of different steps can be compared.
    kind: DEPTH, IMAGE, CLASSES, PROBABILITY or SCALAR.
    side: TARGET, SOURCE or PAIR.
    title: the heading above its pictures, such as 'pseudo label'.
    """

    function: Callable[[dict, dict, dict, Any], jax.Array]
    kind: str
    side: str
    title: str


class Tile(NamedTuple):
    """A training metric that the report shows as a large number."""

    title: str
    unit: str = ""


Loss = Callable[[dict, Carry, Batch, jax.Array], tuple[jax.Array, Carry]]


class Method(NamedTuple):
    """A training method as pure functions; settings and networks are closed over.

    init: (key, batch) -> (params, stats, memory).
    losses: player -> (params, carry, batch, key) -> (scalar loss, carry), in the order in which the
      players are updated.
    predict: (params, stats, memory, images [N,H,W,3]) -> logits [N,h,w,K] at network stride.
    alternate: False: all gradients are taken at the parameters from before the step, then all
      players are updated. True: they are updated in turn, each seeing the others' new parameters.
    warmup: the losses of the first `train.warmup_steps` steps, in place of `losses`; players that
      are not named there are not updated.
    reads: the keys of the batch that the losses use; other data is not even decoded.
    views: name -> View. The name is part of file names. The first view of depth on target images is
      also scored against the true depth where that is known (`view_of`).
    titles: the report's titles of charts of training metrics: {'accuracy': 'Accuracy of the
      discriminators'} is for the chart of 'accuracy/main', 'accuracy/aux' and so on.
      `report/curves.py` has titles for the common metrics.
    tiles: metric -> Tile, shown at the top of the report.
    """

    init: Callable[[jax.Array, Batch], tuple[dict, dict, dict]]
    losses: dict[str, Loss]
    predict: Callable[[dict, dict, dict, jax.Array], jax.Array]
    alternate: bool = False
    warmup: dict[str, Loss] | None = None
    reads: tuple[str, ...] = ("source_image", "source_label", "target_image")
    views: Mapping[str, View] = {}
    titles: Mapping[str, str] = {}
    tiles: Mapping[str, Tile] = {}


def view_of(method: Method, kind: str, side: str) -> View | None:
    """The method's first view of this kind and side, or None."""
    found = (v for v in method.views.values() if (v.kind, v.side) == (kind, side))
    return next(found, None)


def global_mean(values: jax.Array, mask: jax.Array) -> jax.Array:
    """Mean of `values` where `mask` holds, over the batches of all devices.

    The sum is local and the count is the devices' mean, so averaging the result (and its gradient)
    over devices gives the mean over the global batch exactly, however uneven the masks are.

    Args:
      values: float32 [...], already multiplied by the weights if there are any.
      mask: bool [...] of the same shape, or non-negative float32 weights: the sum of the values is
        divided by the sum of the weights.
    """
    count = lax.pmean(jnp.sum(mask, dtype=jnp.float32), AXIS)
    return jnp.sum(jnp.where(mask > 0, values, 0.0)) / jnp.where(count > 0, count, 1.0)
