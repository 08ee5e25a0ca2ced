"""Chooses the platform that programs are traced for.

Convolutions and resizes (`models.layers.conv`, `resize`) have two implementations with the same
result: one is faster on XLA's CPU backend, the other on accelerators.

The platform is JAX's default backend unless another is chosen, to trace on one machine what another
will run, or to compare the two implementations:

    with routes.use("gpu"):
        exported = jax.export.export(jax.jit(f), platforms=["cuda"])(x)

The choice is read while tracing. `jax.jit` does not trace a function twice, so create the function
to jit within the block.
"""

import contextlib
import contextvars
from collections.abc import Iterator

import jax

_chosen: contextvars.ContextVar[str] = contextvars.ContextVar("platform of routes", default="")


def current() -> str:
    """The platform whose programs are traced: 'cpu', 'gpu' or 'tpu'."""
    return _chosen.get() or jax.default_backend()


@contextlib.contextmanager
def use(platform: str) -> Iterator[None]:
    """Traces for `platform` within the block, in this thread.

    Raises:
      ValueError: no such platform.
    """
    if platform not in ("cpu", "gpu", "tpu"):
        raise ValueError(f"platform {platform!r} is not one of cpu, gpu, tpu")
    token = _chosen.set(platform)
    try:
        yield
    finally:
        _chosen.reset(token)
