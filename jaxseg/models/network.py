"""A network as a pair of pure functions, which hide flax from the rest of the project."""

import contextlib
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

Tree = dict[str, Any]
NO_DROPOUT = "no dropout"  # in place of a key: trains as it is, and nothing is dropped


class Network(NamedTuple):
    """The pure functions of a network.

    Attributes:
      init: `(key, images) -> (params, stats)`; `stats` is {} for a network without BatchNorm.
      apply: `(params, stats, images, train, key=None, **inputs) -> (outputs {level: float32 array},
        new stats)`. The new statistics have the structure of the old ones; without `train` they
        are unchanged. `inputs` are an architecture's own, as `mask_ratio` of `vfm.VFM`.
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
      The pair of functions. `key`, where given, feeds dropout; `NO_DROPOUT` in its place switches
      dropout off in training, as for a teacher, while BatchNorm still uses its batch.
    """
    prepare = preprocess if preprocess is not None else lambda images: images

    def init(key, images):
        variables = module.init(key, prepare(images), train=False)
        return variables["params"], variables.get("batch_stats", {})

    def apply(params, stats, images, train, key=None, **inputs):
        variables = {"params": params, "batch_stats": stats}
        off = isinstance(key, str) and key == NO_DROPOUT
        rngs = None if key is None or off else {"dropout": key}
        if not train:
            return module.apply(variables, prepare(images), train=False, **inputs), stats
        with nn.intercept_methods(_as_it_is) if off else contextlib.nullcontext():
            outputs, changed = module.apply(
                variables, prepare(images), train=True, rngs=rngs, mutable=["batch_stats"],
                **inputs,
            )  # fmt: skip
        return outputs, changed.get("batch_stats", stats)

    return Network(init, apply)


def _as_it_is(call, args, kwargs, context):
    """Passes the input of every dropout layer through."""
    if isinstance(context.module, nn.Dropout) and context.method_name == "__call__":
        return args[0]
    return call(*args, **kwargs)


def redrawn(net: Network, std: float, keep: tuple[str, ...] = ("backbone",)) -> Network:
    """The network with new initial values: convolution kernels N(0, std), their biases 0.

    Args:
      net: any network; the initial values of its norms stay.
      std: standard deviation of the kernels.
      keep: groups of parameters whose initial values stay.
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
