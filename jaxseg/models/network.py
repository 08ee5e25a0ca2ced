"""A network as a pair of pure functions: all that the rest of the project knows of flax."""

import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
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


def redrawn(net: Network, std: float, keep: tuple[str, ...] = ("backbone",)) -> Network:
    """The network with other first values: convolutions N(0, std), their biases 0.

    Args:
      net: any network; its norms begin as they did.
      std: of the kernels.
      keep: groups of parameters that are left as they are.
    """

    def draw(tree, key):
        if "kernel" in tree:
            tree = {**tree, "kernel": std * jax.random.normal(key, tree["kernel"].shape)}
            return tree | ({"bias": jnp.zeros_like(tree["bias"])} if "bias" in tree else {})
        return {
            name: draw(value, jax.random.fold_in(key, zlib.crc32(name.encode())))
            if isinstance(value, dict) and name not in keep
            else value
            for name, value in tree.items()
        }

    def init(key, images):
        params, stats = net.init(key, images)
        return draw(params, jax.random.fold_in(key, 1)), stats

    return net._replace(init=init)
