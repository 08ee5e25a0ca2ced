"""Which platform's program is traced: where two computations give the same numbers, the faster one
differs between XLA's CPU backend and accelerators (`models.layers.conv`, `resize`).

The platform is JAX's default backend unless chosen, for tracing on one machine what another is to
run, or for comparing the two:

    with routes.use("gpu"):
        exported = jax.export.export(jax.jit(f), platforms=["cuda"])(x)

It is looked at while tracing. What `jax.jit` has traced before is not traced again: make a new
function to jit within the block.
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
