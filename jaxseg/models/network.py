"""A network as a pair of pure functions: all that the rest of the project knows of flax."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from flax import linen as nn

Tree = dict[str, Any]


class Network(NamedTuple):
    """A network without state.

    Attributes:
      init: `(key, images) -> (params, stats)`; `stats` is {} for a network without BatchNorm.
      apply: `(params, stats, images, train, key=None) -> (outputs {level: float32 array}, new
        stats)`. The new statistics have the structure of the old ones, and are the old ones when
        `train` is False.
    """

    init: Callable[..., tuple[Tree, Tree]]
    apply: Callable[..., tuple[dict[str, jax.Array], Tree]]


def network(
    module: nn.Module, preprocess: Callable[[jax.Array], jax.Array] | None = None
) -> Network:
    """Turns a flax module into a `Network`.

    Args:
      module: its `__call__(x, train)` returns {level: array}.
      preprocess: applied to the images first, e.g. `functools.partial(layers.preprocess,
        order='BGR', ...)`.

    Returns:
      The pair of functions. `key`, where given, feeds dropout.
    """
    prepare = preprocess if preprocess is not None else lambda images: images

    def init(key, images):
        variables = module.init(key, prepare(images), train=False)
        return variables["params"], variables.get("batch_stats", {})

    def apply(params, stats, images, train, key=None):
        variables = {"params": params, "batch_stats": stats}
        rngs = None if key is None else {"dropout": key}
        if not train or not stats:
            return module.apply(variables, prepare(images), train=train, rngs=rngs), stats
        outputs, changed = module.apply(
            variables, prepare(images), train=True, rngs=rngs, mutable=["batch_stats"]
        )
        return outputs, changed["batch_stats"]

    return Network(init, apply)
