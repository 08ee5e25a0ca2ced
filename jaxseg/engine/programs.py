"""Compiles pmapped functions, with other options than XLA's defaults where those do harm."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxseg import routes
from jaxseg.engine import memory, processes
from jaxseg.engine.method import AXIS, Method, State
from jaxseg.engine.update import make_update

# XLA's CPU backend removes optimization barriers before it merges and fuses operations. Then
# activations that `net.remat` should recompute stay in memory, and the products in
# `models.layers.conv` become slow.
KEEP_BARRIERS = {"xla_disable_hlo_passes": "cse_barrier_expander"}


def keep_barriers(pmapped: Callable, look: Callable[[Any], None] | None = None) -> Callable:
    """The same function; compiled for CPU, its programs keep their optimization barriers.

    Other backends keep barriers anyway, and with several processes only pmap itself can assemble
    the arguments: in both cases `pmapped` runs unchanged. Several processes begin a program
    together, when all have compiled it: otherwise the first one gives up waiting for the others
    (Gloo, by which CPUs talk to each other, after 30 seconds).

    Args:
      pmapped: from `jax.pmap`, with positional arguments only.
      look: called with each compiled program (`jax.stages.Compiled`) before it first runs; not with
        several processes.

    Returns:
      A function with the same arguments and results, and with the `lower` of `pmapped`.
    """
    own, several = routes.current() == "cpu", jax.process_count() > 1
    if not (own or look or several):
        return pmapped
    programs: dict[Any, Callable] = {}

    @functools.wraps(pmapped)
    def call(*args):
        leaves, tree = jax.tree.flatten(args)
        key = tree, tuple(map(_kind, leaves))
        if key not in programs:
            options = KEEP_BARRIERS if own and not several else None
            # Of shapes: given arrays, lowering copies them as running would. But only what was
            # lowered with arrays does JAX find again.
            given = jax.tree.map(_shape, args) if options else args
            with memory.kept_garbage():
                lowered = pmapped.lower(*given)
            compiled = lowered.compile(compiler_options=options)
            del lowered
            memory.give_back()
            if several:
                processes.gather("compiled", "")
            elif look:
                look(compiled)
            # JAX keeps what it compiles without options: calling does not compile it again.
            programs[key] = compiled if options else pmapped
        return programs[key](*args)

    call.lower = pmapped.lower
    return call


def _shape(leaf: Any) -> jax.ShapeDtypeStruct:
    kind = jax.typeof(leaf)
    return jax.ShapeDtypeStruct(kind.shape, kind.dtype, weak_type=kind.weak_type)


def _kind(leaf: Any) -> Any:
    """The properties of an argument that a compiled program depends on."""
    return np.shape(leaf), getattr(leaf, "dtype", type(leaf)), getattr(leaf, "weak_type", False)


def pmapped_update(
    method: Method,
    txs: dict[str, Any],
    accumulate: int = 1,
    devices: list | None = None,
    skips: int = 0,
    look: Callable[[Any], None] | None = None,
) -> Callable:
    """(state, batch [D, n, ...]) -> (state, metrics). The state has no device axis and is donated.

    Args:
      method, txs, accumulate, skips: see `make_update`.
      devices: D local devices, all by default; every other process uses as many of its own.
      look: see `keep_barriers`.
    """
    pmapped = jax.pmap(
        make_update(method, txs, accumulate, skips), AXIS, in_axes=(None, 0), out_axes=(None, None),
        donate_argnums=0, devices=devices and processes.everywhere(devices),
    )  # fmt: skip
    return keep_barriers(pmapped, look)


def place(state: State, devices: list) -> State:
    """Copies the state to every local device, so that pmap can take its buffers over."""
    return jax.device_put(state, NamedSharding(Mesh(np.array(devices), (AXIS,)), PartitionSpec()))
