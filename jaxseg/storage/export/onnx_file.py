"""A function of JAX as an ONNX model: its traced program, equation by equation.

What depends on constants alone (a norm's scale, the matrices of a resize, a table of positions) is
computed here; loops of known length are unrolled.
"""

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.extend.core import Literal
from jax.interpreters import partial_eval
from onnx import helper

from jaxseg import routes
from jaxseg.errors import UserError
from jaxseg.storage.export import fold, primitives, products
from jaxseg.storage.export.graph import BATCH, IMAGE, Graph, Unwritable, Value, any_free, free

BECOMES = primitives.BECOMES | products.BECOMES
# Give their operand, or operands, on.
SAME_VALUE = {"copy", "copy_p", "optimization_barrier", "stop_gradient", "pvary"}
# Functions within a function: the parameter that holds their program.
CALLS = {
    "jit": "jaxpr", "pjit": "jaxpr", "closed_call": "call_jaxpr", "core_call": "call_jaxpr",
    "custom_jvp_call": "call_jaxpr", "custom_vjp_call": "call_jaxpr", "remat2": "jaxpr",
    "checkpoint": "jaxpr", "custom_lin": "call_jaxpr",
}  # fmt: skip
BROADCASTING = {*primitives.SAME, "max", "ne", "select_n"}


def model(function: Callable, size: tuple[int, int], metadata: dict[str, str]) -> Any:
    """Converts a function of images to an ONNX model with a free batch.

    Args:
      function: (image uint8 [N, H, W, 3]) -> {name: array [N, ...]}; its weights are closed over,
        float32.
      size: (H, W).
      metadata: pairs of strings stored with the model.

    Returns:
      The onnx.ModelProto, with the input `image` and the outputs of `function`.

    Raises:
      UserError: an operation of JAX that this converter does not know, or a model above 2 GB.
    """
    image = jax.ShapeDtypeStruct((BATCH, *size, 3), np.uint8)
    with routes.use("gpu"):  # plain convolutions, and resizes as matrix products
        closed, shapes = jax.make_jaxpr(function, return_shape=True)(image)
    graph = Graph()
    # Without heads that nobody asks for.
    outputs = [True] * len(closed.jaxpr.outvars)
    program, used, _ = partial_eval.dce_jaxpr_consts(closed.jaxpr, outputs, instantiate=True)
    consts = [np.asarray(each) for each, read in zip(closed.consts, used, strict=True) if read]
    values = run(graph, program, consts, [IMAGE])
    # Outputs of a dict are sorted by name.
    for name, value in zip(sorted(shapes), values, strict=True):
        graph.nodes.append(_identity(graph, value, name))
    try:
        return graph.model({IMAGE: image}, dict(sorted(shapes.items())), metadata)
    except ValueError as error:
        raise UserError(f"--format=onnx: the network takes {error}; use --format=jax") from error


def _identity(graph, value, name):
    return helper.make_node("Identity", [graph.named(value)], [name], name=name)


def run(graph: Graph, program: Any, consts: list[Value], inputs: list[Value]) -> list[Value]:
    """Adds a program's equations to the graph and returns its outputs."""
    values: dict[Any, Value] = dict(zip(program.constvars, consts, strict=True))
    values |= dict(zip(program.invars, inputs, strict=True))
    loose = _loose(program)

    def value(atom):
        if isinstance(atom, Literal):
            return np.asarray(atom.val, atom.aval.dtype)
        return values[atom]

    for equation in program.eqns:
        given = [value(atom) for atom in equation.invars]
        outputs = _equation(graph, equation, given, loose)
        values |= dict(zip(equation.outvars, outputs, strict=True))
    return [value(atom) for atom in program.outvars]


def _equation(graph, equation, inputs, loose) -> list[Value]:
    name = equation.primitive.name
    if name in SAME_VALUE:
        return inputs
    if name in CALLS:
        inner = equation.params[CALLS[name]]
        consts = [np.asarray(each) for each in getattr(inner, "consts", ())]
        return run(graph, getattr(inner, "jaxpr", inner), consts, inputs)
    if name == "scan":
        return _unrolled(graph, equation, inputs)
    if name == "cond":
        return _branch(graph, equation, inputs)
    if _constant(equation, inputs):
        return fold.fold(equation, inputs)
    if name == "split":
        return _parts(graph, equation, inputs[0])
    if name == "unstack":
        return _slices(graph, equation, inputs[0])
    if name == "broadcast_in_dim" and equation.outvars[0] in loose:
        return [primitives.aligned(graph, equation, inputs)]
    if name not in BECOMES:
        raise _unknown(name)
    try:
        return [BECOMES[name](graph, equation, inputs)]
    except Unwritable as error:
        raise _unknown(f"{name} ({error})") from error


def _unknown(what):
    return UserError(
        f"--format=onnx: this network uses the operation {what}, which the ONNX writer does not "
        "have; use --format=jax"
    )


def _constant(equation, inputs):
    if any(isinstance(value, str) for value in inputs):
        return False
    return not any(any_free(var.aval.shape) for var in equation.outvars)


def _loose(program) -> set:
    """Results of broadcasts that need not be written out, as all their readers broadcast."""
    readers, made = defaultdict(list), {}
    for equation in program.eqns:
        made |= dict.fromkeys(equation.outvars, equation.primitive.name)
        for atom in equation.invars:
            if not isinstance(atom, Literal):
                readers[atom].append(equation)

    def whole(equation):
        """Whether an operand has the result's shape without being broadcast to it."""
        return any(
            not isinstance(atom, Literal)
            and made.get(atom) != "broadcast_in_dim"
            and atom.aval.shape == equation.outvars[0].aval.shape
            for atom in equation.invars
        )

    kept = {atom for atom in program.outvars if not isinstance(atom, Literal)}
    return {
        var
        for var, name in made.items()
        if name == "broadcast_in_dim"
        and var not in kept
        and all(e.primitive.name in BROADCASTING and whole(e) for e in readers[var])
    }


def _parts(graph, equation, x):
    axis, found, start = equation.params["axis"], [], 0
    for size in equation.params["sizes"]:
        bounds = (np.array([at], np.int64) for at in (start, start + size, axis))
        found.append(graph.op("Slice", [x, *bounds]))
        start += size
    return found


def _slices(graph, equation, x):
    axis = equation.params["axis"]
    if free(equation.invars[0].aval.shape[axis]):
        raise _unknown("unstack of images")
    places = range(len(equation.outvars))
    return [graph.op("Gather", [x, np.array(at, np.int64)], axis=axis) for at in places]


def _branch(graph, equation, inputs):
    which, *others = inputs
    if isinstance(which, str):
        raise _unknown("cond on the image")
    branches = equation.params["branches"]
    chosen = branches[int(np.clip(which, 0, len(branches) - 1))]
    return run(graph, chosen.jaxpr, [np.asarray(each) for each in chosen.consts], others)


def _unrolled(graph, equation, inputs):
    """A scan, its body once for each step."""
    given, inner = equation.params, equation.params["jaxpr"]
    shared, carried = given["num_consts"], given["num_carry"]
    consts, carry, rows = inputs[:shared], inputs[shared:][:carried], inputs[shared + carried :]
    atoms = equation.invars[shared + carried :]
    order = range(given["length"])
    stacked: dict[int, list] = {}
    for step in reversed(order) if given["reverse"] else order:
        row = [_row(graph, x, atom.aval.shape, step) for x, atom in zip(rows, atoms, strict=True)]
        own = [np.asarray(each) for each in inner.consts]
        found = run(graph, inner.jaxpr, own, [*consts, *carry, *row])
        carry, stacked[step] = found[:carried], found[carried:]
    columns = zip(*(stacked[step] for step in order), strict=True)
    shapes = [var.aval.shape for var in equation.outvars[carried:]]
    stacks = [_stack(graph, each, shape) for each, shape in zip(columns, shapes, strict=True)]
    return [*carry, *stacks]


def _row(graph, x, shape, step):
    if not isinstance(x, str):
        return x[step]
    if free(shape[0]):
        raise _unknown("scan over images")
    return graph.op("Gather", [x, np.array(step, np.int64)], axis=0)


def _stack(graph, column, shape):
    one = [1, *shape[1:]]
    parts = [graph.reshape(each, shape[1:], one) for each in column]
    return graph.op("Concat", parts, axis=0)
