"""A function of JAX as one file for CPU, CUDA and TPU, which JAX alone reads.

The file is a NumPy archive (.npz): `program`, the bytes of a `jax.export.Exported`; the weights,
`weights/<path>`; `classes` and `colours`. The program is called as (weights, image uint8
[N, H, W, 3]) for any N. It holds two versions of itself, the one that is fast on CPUs and the one
for accelerators (see `routes`); compiling keeps the one that is needed.
"""

import io
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax import export
from jax.interpreters import partial_eval

from jaxseg import routes
from jaxseg.errors import UserError

PLATFORMS = ("cpu", "cuda", "tpu")
WEIGHTS = "weights/"


def archive(
    function: Callable,
    weights: Mapping[str, np.ndarray],
    size: tuple[int, int],
    about: Mapping[str, np.ndarray],
) -> bytes:
    """The bytes of the file.

    Args:
      function: (weights, image uint8 [N, H, W, 3]) -> a tree of arrays [N, ...].
      weights: by name; those that the function does not use are left out.
      size: (H, W).
      about: further arrays of the file.

    Raises:
      UserError: flatbuffers is not installed.
    """
    image = jax.ShapeDtypeStruct((1, *size, 3), np.uint8)
    weights = used(function, weights, image)

    def on(platform):
        def traced(*arguments):
            with routes.use(platform):
                return function(*arguments)

        return traced

    @jax.jit
    def both(weights, image):
        return jax.lax.platform_dependent(weights, image, cpu=on("cpu"), default=on("gpu"))

    (batch, *_) = export.symbolic_shape(f"batch, {size[0]}, {size[1]}, 3")
    shapes = {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in weights.items()}
    free = jax.ShapeDtypeStruct((batch, *size, 3), np.uint8)
    program = export.export(both, platforms=PLATFORMS)(shapes, free)
    try:
        serialized = np.frombuffer(program.serialize(), np.uint8)
    except ImportError as error:
        raise UserError("--format=jax needs flatbuffers: pip install 'jaxseg[export]'") from error
    file = io.BytesIO()
    named = {WEIGHTS + name: array for name, array in weights.items()}
    np.savez(file, program=serialized, **named, **about)
    return file.getvalue()


def used(
    function: Callable, weights: Mapping[str, np.ndarray], image: jax.ShapeDtypeStruct
) -> dict[str, np.ndarray]:
    """The weights that the function's program reads; a method's memory may be none of them."""
    names = sorted(weights)  # the order in which JAX flattens a dict
    program = jax.make_jaxpr(function)({name: weights[name] for name in names}, image).jaxpr
    _, read = partial_eval.dce_jaxpr(program, [True] * len(program.outvars))
    return {name: weights[name] for name, reads in zip(names, read, strict=False) if reads}


def load(file: bytes) -> tuple[Callable, dict[str, Any]]:
    """Reads a file as its users do: (image -> outputs, all else in the file)."""
    found = dict(np.load(io.BytesIO(file)))
    program = export.deserialize(bytearray(found.pop("program")))
    weights = {
        name.removeprefix(WEIGHTS): jax.device_put(found.pop(name))
        for name in list(found)
        if name.startswith(WEIGHTS)
    }
    call = jax.jit(program.call)
    return lambda image: call(weights, image), found
