"""Evaluates a program operation by operation, so that nothing large is compiled.

The initialisation of a network is a few hundred draws of random numbers, of almost as many shapes.
Compiled as one program it takes a quarter of all that a user waits for before the first step, and
half a gigabyte. Here numbers are drawn in blocks of one length, and what is left are keys and
constants, which NumPy makes. The numbers are those of the compiled program, bit for bit: where it
multiplies a draw by two constants, it multiplies by their product.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend import core
from jax.extend.random import threefry_2x32
from jax.interpreters import partial_eval

from jaxseg.engine import memory

BLOCK = 1 << 14  # numbers that are drawn at once
BELOW = np.nextafter(np.float32(-1), np.float32(0))
ROOT = np.sqrt(np.float32(2))


class Scaled(NamedTuple):
    """An array that is still to be multiplied by a number."""

    array: np.ndarray
    factor: np.float32


def evaluated(function: Callable[..., Any], *args: Any) -> Any:
    """`function(*args)` as NumPy arrays, of which no two share memory.

    Args:
      function: traceable; what does not influence its results is not computed.
      args: arrays.
    """
    with memory.kept_garbage():
        closed, shapes = jax.make_jaxpr(function, return_shape=True)(*args)
    program, used = partial_eval.dce_jaxpr(closed.jaxpr, [True] * len(closed.jaxpr.outvars))
    given = [x for x, reads in zip(jax.tree.leaves(args), used, strict=True) if reads]
    found: list[np.ndarray] = []
    for value in map(np.asarray, _run(program, closed.consts, given)):
        shared = not value.flags.owndata or any(value is other for other in found)
        found.append(np.array(value) if shared else value)
    return jax.tree.unflatten(jax.tree.structure(shapes), found)


def _run(program: core.Jaxpr, consts: list[Any], args: list[Any]) -> list[Any]:
    values: dict[Any, Any] = {}

    def read(atom):
        return atom.val if isinstance(atom, core.Literal) else values[atom]

    values.update(zip(program.constvars, consts, strict=True))
    values.update(zip(program.invars, args, strict=True))
    for equation in program.eqns:
        given = [read(atom) for atom in equation.invars]
        for variable, value in zip(equation.outvars, _apply(equation, given), strict=True):
            values[variable] = value
    return [_whole(read(atom)) for atom in program.outvars]


def _whole(value: Any) -> Any:
    return value.array * value.factor if isinstance(value, Scaled) else value


def _apply(equation: core.JaxprEqn, given: list[Any]) -> list[Any]:
    """The results of one operation."""
    name, wanted = equation.primitive.name, equation.outvars[0].aval
    if name == "mul" and (scaled := _scaled(*given)):
        return [scaled]
    given = [_whole(x) for x in given]
    called = equation.params.get("name") if name in ("jit", "pjit") else None
    if called in DRAWS and wanted.dtype == np.float32 and _threefry(given[0]):
        return [DRAWS[called](*given, shape=wanted.shape)]
    if called and max(x.aval.size for x in equation.outvars) > BLOCK:
        inner = equation.params["jaxpr"]
        return _run(inner.jaxpr, inner.consts, given)
    if name in NUMPY and not any(isinstance(x, jax.Array) and x.size > 1 for x in given):
        return [NUMPY[name](*map(np.asarray, given), wanted, equation.params)]
    found = equation.primitive.bind(*given, **equation.params)
    return list(found) if equation.primitive.multiple_results else [found]


def _scaled(x: Any, y: Any) -> Scaled | None:
    """The product of a draw and a number; None if they are something else."""
    if isinstance(y, Scaled):
        x, y = y, x
    if isinstance(x, Scaled) and np.ndim(y) == 0:
        return Scaled(x.array, x.factor * np.float32(y))
    return None


def _uniform(key: jax.Array, low: Any, high: Any, shape: tuple[int, ...]) -> np.ndarray:
    """`jax.random.uniform`, with its steps in its order."""
    count, pair = int(np.prod(shape)), jax.random.key_data(key)
    bits = np.concatenate([_bits(pair, start) for start in range(0, max(count, 1), BLOCK)])[:count]
    drawn = (bits >> np.uint32(9) | np.uint32(0x3F800000)).view(np.float32) - np.float32(1)
    low, high = np.float32(low), np.float32(high)
    return np.maximum(low, drawn * (high - low) + low).reshape(shape)


def _normal(key: jax.Array, shape: tuple[int, ...]) -> Scaled:
    """`jax.random.normal`, with its steps in its order but for the last."""
    drawn = _uniform(key, BELOW, 1, (int(np.prod(shape)),))
    for start in range(0, len(drawn), BLOCK):
        part = drawn[start : start + BLOCK]
        part[:] = np.asarray(_erf_inv(np.pad(part, (0, BLOCK - len(part)))))[: len(part)]
    return Scaled(drawn.reshape(shape), ROOT)


@jax.jit
def _bits(pair, start):
    """Random numbers `start` to `start + BLOCK` of a key, uint32; each depends on its number."""
    numbers = start.astype(jnp.uint32) + jnp.arange(BLOCK, dtype=jnp.uint32)
    counts = jnp.concatenate([jnp.zeros_like(numbers), numbers])
    high, low = jnp.split(threefry_2x32(pair, counts), 2)
    return high ^ low


# Its roundings are those of a program that is compiled without optimisations.
_erf_inv = jax.jit(lax.erf_inv, compiler_options={"xla_backend_optimization_level": 0})
# As `jax.random` names its programs, whose arguments are these.
DRAWS = {"_normal": _normal, "_uniform": _uniform}


def _threefry(key: jax.Array) -> bool:
    """Whether the number that is drawn at a place depends on key and place as above."""
    known = str(jax.random.key_impl(key)) == "threefry2x32"
    return known and jax.config.jax_threefry_partitionable


def _broadcast(x, wanted, params):
    sides = np.ones(wanted.ndim, int)
    sides[list(params["broadcast_dimensions"])] = x.shape
    return np.broadcast_to(x.reshape(sides), wanted.shape)


# Operations that NumPy computes to the same bit.
NUMPY = {
    "broadcast_in_dim": _broadcast,
    "convert_element_type": lambda x, wanted, params: x.astype(wanted.dtype),
    "mul": lambda x, y, wanted, params: np.multiply(x, y),
}
