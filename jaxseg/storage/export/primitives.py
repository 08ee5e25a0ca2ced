"""What each primitive of JAX becomes in an ONNX graph.

A function here takes (graph, equation, inputs) and returns the equation's one output. Inputs are
names of nodes' outputs or constants, and at least one of them is no constant.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from onnx import helper

from jaxseg.storage.export.graph import Graph, Unwritable, Value, any_free, free

# Primitives with an operator of the same meaning; operands broadcast as in NumPy.
SAME = {
    "abs": "Abs", "add": "Add", "add_any": "Add", "and": "And", "cos": "Cos", "div": "Div",
    "eq": "Equal", "erf": "Erf", "exp": "Exp", "floor": "Floor", "ge": "GreaterOrEqual",
    "gt": "Greater", "le": "LessOrEqual", "log": "Log", "logistic": "Sigmoid", "lt": "Less",
    "min": "Min", "mul": "Mul", "neg": "Neg", "not": "Not", "or": "Or", "pow": "Pow",
    "sign": "Sign", "sin": "Sin", "sqrt": "Sqrt", "sub": "Sub", "tanh": "Tanh",
}  # fmt: skip
REDUCTIONS = {"reduce_max": "ReduceMax", "reduce_min": "ReduceMin", "reduce_sum": "ReduceSum"}


def same(graph: Graph, equation: Any, inputs: list[Value]) -> str:
    """One of `SAME`."""
    return graph.op(SAME[equation.primitive.name], inputs)


def _max(graph, equation, inputs):
    if not isinstance(inputs[1], str) and not np.any(inputs[1]):
        return graph.op("Relu", inputs[:1])
    return graph.op("Max", inputs)


def _ne(graph, equation, inputs):
    return graph.op("Not", [graph.op("Equal", inputs)])


def _square(graph, equation, inputs):
    return graph.op("Mul", [inputs[0], inputs[0]])


def _integer_pow(graph, equation, inputs):
    return graph.op("Pow", [inputs[0], np.array(equation.params["y"], _dtype(equation))])


def _rsqrt(graph, equation, inputs):
    return graph.op("Reciprocal", [graph.op("Sqrt", inputs)])


def _erfc(graph, equation, inputs):
    return graph.op("Sub", [np.array(1, _dtype(equation)), graph.op("Erf", inputs)])


def _log1p(graph, equation, inputs):
    return graph.op("Log", [graph.op("Add", [inputs[0], np.array(1, _dtype(equation))])])


def _clamp(graph, equation, inputs):
    low, x, high = inputs
    return graph.op("Min", [graph.op("Max", [x, low]), high])


def _select_n(graph, equation, inputs):
    which, *cases = inputs
    if len(cases) != 2 or equation.invars[0].aval.dtype != bool:
        raise Unwritable("select_n of more than two cases")
    return graph.op("Where", [which, cases[1], cases[0]])


def _convert(graph, equation, inputs):
    dtype = np.dtype(equation.params["new_dtype"])
    if equation.invars[0].aval.dtype == dtype:
        return inputs[0]
    return graph.op("Cast", inputs, to=helper.np_dtype_to_tensor_dtype(dtype))


# --- shapes ---


def _reshape(graph, equation, inputs):
    if equation.primitive.name == "reshape" and equation.params["dimensions"] is not None:
        raise Unwritable("reshape in another order")
    return graph.reshape(inputs[0], equation.invars[0].aval.shape, _shape(equation))


def aligned(graph: Graph, equation: Any, inputs: list[Value]) -> Value:
    """broadcast_in_dim up to the rank: the result is left to broadcast by itself."""
    shape, at = _shape(equation), equation.params["broadcast_dimensions"]
    given = equation.invars[0].aval.shape
    ranked = [1] * len(shape)
    for axis, size in zip(at, given, strict=True):
        ranked[axis] = size
    return graph.reshape(inputs[0], given, ranked)


def _broadcast(graph, equation, inputs):
    x, shape = aligned(graph, equation, inputs), _shape(equation)
    return graph.op("Expand", [x, graph.shape(shape)])


def _transpose(graph, equation, inputs):
    return graph.transpose(inputs[0], equation.params["permutation"])


def _concatenate(graph, equation, inputs):
    return graph.op("Concat", inputs, axis=equation.params["dimension"])


def _stack(graph, equation, inputs):
    axis, given = equation.params["axis"], equation.invars[0].aval.shape
    one = [*given[:axis], 1, *given[axis:]]
    return graph.op("Concat", [graph.reshape(x, given, one) for x in inputs], axis=axis)


def _tile(graph, equation, inputs):
    return graph.op("Tile", [inputs[0], np.array(equation.params["reps"], np.int64)])


def _slice(graph, equation, inputs):
    given = equation.params
    steps = given["strides"] or [1] * len(given["start_indices"])
    return _cut(graph, inputs[0], given["start_indices"], given["limit_indices"], steps)


def _cut(graph, x, starts, limits, steps):
    if any_free(starts):
        raise Unwritable("slice of images")
    limits = [2**62 if free(size) else size for size in limits]
    axes = np.arange(len(starts))
    bounds = (np.array(each, np.int64) for each in (starts, limits, axes, steps))
    return graph.op("Slice", [x, *bounds])


def _rev(graph, equation, inputs):
    axes = np.array(equation.params["dimensions"], np.int64)
    count = len(axes)
    ends = (np.full(count, at, np.int64) for at in (-1, -(2**62)))
    return graph.op("Slice", [inputs[0], *ends, axes, np.full(count, -1, np.int64)])


def _pad(graph, equation, inputs):
    x, value = inputs
    edges = equation.params["padding_config"]
    if any(inner for _, _, inner in edges):
        raise Unwritable("padding between elements")
    if any(low < 0 or high < 0 for low, high, _ in edges):  # crops
        size = equation.invars[0].aval.shape
        starts = [max(0, -low) for low, _, _ in edges]
        limits = [n if high >= 0 else n + high for n, (_, high, _) in zip(size, edges, strict=True)]
        x = _cut(graph, x, starts, limits, [1] * len(starts))
    return padded(graph, x, [(max(0, low), max(0, high)) for low, high, _ in edges], value)


def padded(graph: Graph, x: Value, edges: list[tuple[int, int]], value: Value) -> Value:
    """`x` with (before, after) values more along each axis."""
    if not any(map(any, edges)):
        return x
    numbers = np.array([low for low, _ in edges] + [high for _, high in edges], np.int64)
    return graph.op("Pad", [x, numbers, value])


# --- boxes at constant places ---


def _dynamic_slice(graph, equation, inputs):
    return _box(graph, equation, inputs[0], _known(inputs[1:]), equation.params["slice_sizes"])


def _gather(graph, equation, inputs):
    """A gather of one box, which a slice at a constant place becomes when it is batched."""
    dims = equation.params["dimension_numbers"]
    start = _one_place(inputs[1], dims.start_index_map, equation)
    if dims.operand_batching_dims:
        raise Unwritable("gather with batches")
    return _box(graph, equation, inputs[0], start, equation.params["slice_sizes"])


def _box(graph, equation, x, start, sizes):
    shape = equation.invars[0].aval.shape
    start = [_held(at, size, n) for at, size, n in zip(start, sizes, shape, strict=True)]
    limits = [at + size for at, size in zip(start, sizes, strict=True)]
    cut = _cut(graph, x, start, limits, [1] * len(start))
    return graph.reshape(cut, sizes, _shape(equation))


def _dynamic_update_slice(graph, equation, inputs):
    return _placed(graph, equation, inputs[0], inputs[1], _known(inputs[2:]), None)


def _scatter(graph, equation, inputs):
    """A scatter of one box; see `_gather`."""
    dims = equation.params["dimension_numbers"]
    start = _one_place(inputs[1], dims.scatter_dims_to_operand_dims, equation)
    if dims.operand_batching_dims:
        raise Unwritable("scatter with batches")
    updates = iter(equation.invars[2].aval.shape[axis] for axis in dims.update_window_dims)
    rank = len(_shape(equation))
    box = [1 if axis in dims.inserted_window_dims else next(updates) for axis in range(rank)]
    return _placed(graph, equation, inputs[0], inputs[2], start, box)


def _placed(graph, equation, x, update, start, box):
    """`x` with a box replaced by `update`."""
    shape = _shape(equation)
    given = equation.invars[1 if box is None else 2].aval
    box = list(given.shape) if box is None else box
    start = [_held(at, size, n) for at, size, n in zip(start, box, shape, strict=True)]
    edges = [(at, n - at - size) for at, size, n in zip(start, box, shape, strict=True)]
    zero = np.zeros((), given.dtype)
    moved = padded(graph, graph.reshape(update, given.shape, box), edges, zero)
    if not isinstance(x, str) and not x.any():
        return moved
    inside = np.zeros([1 if free(n) else n for n in shape], bool)
    inside[tuple(slice(at, at + size) for at, size in zip(start, box, strict=True))] = True
    return graph.op("Where", [inside, moved, x])


def _known(starts):
    if any(isinstance(start, str) for start in starts):
        raise Unwritable("a place that depends on the image")
    return [int(start) for start in starts]


def _one_place(indices, axes, equation):
    numbers = _known([indices] if isinstance(indices, str) else np.ravel(indices))
    if len(numbers) != len(axes):
        raise Unwritable("several places at once")
    start = [0] * equation.invars[0].aval.ndim
    for axis, number in zip(axes, numbers, strict=True):
        start[axis] = number
    return start


def _held(start, size, length):
    return max(0, min(start, length - size))


# --- reductions ---


def _reduce(graph, equation, inputs):
    axes = np.array(equation.params["axes"], np.int64)
    return graph.op(REDUCTIONS[equation.primitive.name], [inputs[0], axes], keepdims=0)


def _argmax(graph, equation, inputs):
    (axis,) = equation.params["axes"]
    found = graph.op("ArgMax", inputs, axis=axis, keepdims=0)
    return graph.op("Cast", [found], to=helper.np_dtype_to_tensor_dtype(_dtype(equation)))


def _shape(equation):
    return equation.outvars[0].aval.shape


def _dtype(equation):
    return np.dtype(equation.outvars[0].aval.dtype)


BECOMES: dict[str, Callable] = {
    **dict.fromkeys(SAME, same),
    **dict.fromkeys(REDUCTIONS, _reduce),
    "max": _max, "ne": _ne, "square": _square, "integer_pow": _integer_pow, "rsqrt": _rsqrt,
    "erfc": _erfc, "log1p": _log1p, "clamp": _clamp, "select_n": _select_n,
    "convert_element_type": _convert, "reshape": _reshape, "squeeze": _reshape,
    "expand_dims": _reshape, "broadcast_in_dim": _broadcast, "transpose": _transpose,
    "concatenate": _concatenate, "stack": _stack, "tile": _tile, "slice": _slice, "rev": _rev,
    "pad": _pad, "argmax": _argmax,
    "dynamic_slice": _dynamic_slice, "gather": _gather, "scatter": _scatter,
    "dynamic_update_slice": _dynamic_update_slice,
}  # fmt: skip
