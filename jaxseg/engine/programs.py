"""How pmapped functions are compiled where XLA's defaults are in the way."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxseg import routes
from jaxseg.engine import processes
from jaxseg.engine.method import AXIS, Method, State
from jaxseg.engine.update import make_update

# XLA's CPU backend takes optimization barriers out before it merges and fuses. What `net.remat` was
# to forget is then kept after all, and `models.conv`'s products take the slow route around them.
KEEP_BARRIERS = {"xla_disable_hlo_passes": "cse_barrier_expander"}


def keep_barriers(pmapped: Callable) -> Callable:
    """The same function; on CPU its programs have the barriers that were written into it.

    With several processes, whose arguments only pmap itself can put together, and off the CPU,
    which have barriers anyway, it is returned as it is.

    Args:
      pmapped: from `jax.pmap`, of positional arguments.

    Returns:
      A function of the same arguments and results, with the `lower` of `pmapped`.
    """
    if routes.current() != "cpu" or jax.process_count() > 1:
        return pmapped
    programs: dict[Any, Callable] = {}

    @functools.wraps(pmapped)
    def call(*args):
        leaves, tree = jax.tree.flatten(args)
        key = tree, tuple(map(_kind, leaves))
        if key not in programs:
            programs[key] = pmapped.lower(*args).compile(compiler_options=KEEP_BARRIERS)
        return programs[key](*args)

    call.lower = pmapped.lower
    return call


def _kind(leaf: Any) -> Any:
    """What a program is compiled for."""
    return np.shape(leaf), getattr(leaf, "dtype", type(leaf)), getattr(leaf, "weak_type", False)


def pmapped_update(
    method: Method, txs: dict[str, Any], accumulate: int = 1, devices: list | None = None
) -> Callable:
    """(state, batch [D, n, ...]) -> (state, metrics); a state without device axis, is donated.

    Args:
      method, txs, accumulate: see `make_update`.
      devices: D local ones; with several processes as many of each take part. All by default.
    """
    pmapped = jax.pmap(
        make_update(method, txs, accumulate), AXIS, in_axes=(None, 0), out_axes=(None, None),
        donate_argnums=0, devices=devices and processes.everywhere(devices),
    )  # fmt: skip
    return keep_barriers(pmapped)


def place(state: State, devices: list) -> State:
    """The state on every local device, as the donated pmap wants it."""
    return jax.device_put(state, NamedSharding(Mesh(np.array(devices), (AXIS,)), PartitionSpec()))
