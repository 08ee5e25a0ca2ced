"""Convolutions, matrix products and pooling in an ONNX graph; see `primitives`."""

import math
from collections.abc import Callable, Sequence

import numpy as np

from jaxseg.storage.export.graph import Unwritable
from jaxseg.storage.export.primitives import padded


def _convolution(graph, equation, inputs):
    given = equation.params
    lhs, rhs, out = given["dimension_numbers"]
    if given["batch_group_count"] != 1:
        raise Unwritable("convolution in groups of images")
    x, kernel = graph.transpose(inputs[0], lhs), graph.transpose(inputs[1], rhs)
    edges = list(given["padding"])
    if any(inner != 1 for inner in given["lhs_dilation"]):
        raise Unwritable("transposed convolution")
    if any(min(edge) < 0 for edge in edges):
        raise Unwritable("convolution with negative padding")
    pads = [low for low, _ in edges] + [high for _, high in edges]
    found = graph.op(
        "Conv", [x, kernel], group=given["feature_group_count"], pads=pads,
        strides=list(given["window_strides"]), dilations=list(given["rhs_dilation"]),
    )  # fmt: skip
    return graph.transpose(found, np.argsort(out).tolist())


def _product(graph, equation, inputs):
    """dot_general: [batch.., M, K] x [batch.., K, N], with axes moved there and back."""
    (contract, batch) = equation.params["dimension_numbers"]
    shapes = [var.aval.shape for var in equation.invars]
    free = [
        [axis for axis in range(len(shape)) if axis not in (*contract[side], *batch[side])]
        for side, shape in enumerate(shapes)
    ]
    after = equation.outvars[0].aval.shape
    if not batch[0] and not isinstance(inputs[1], str) and len(contract[0]) == 1:
        last = len(shapes[0]) - 1
        if contract[0][0] == last:  # a dense layer: no axis of the large operand moves
            kernel = graph.transpose(inputs[1], [*contract[1], *free[1]])
            kernel = np.reshape(kernel, (shapes[0][last], -1))
            sides = [*(shapes[0][axis] for axis in free[0]), kernel.shape[1]]
            return graph.reshape(graph.op("MatMul", [inputs[0], kernel]), sides, after)
    common = [shapes[0][axis] for axis in batch[0]]
    sides = [math.prod(shape[a] for a in axes) for shape, axes in zip(shapes, free, strict=True)]
    inner = math.prod(shapes[0][axis] for axis in contract[0])
    left = _moved(graph, inputs[0], shapes[0], [*batch[0], *free[0], *contract[0]])
    left = graph.reshape(*left, [*common, sides[0], inner])
    right = _moved(graph, inputs[1], shapes[1], [*batch[1], *contract[1], *free[1]])
    right = graph.reshape(*right, [*common, inner, sides[1]])
    found = graph.op("MatMul", [left, right])
    return graph.reshape(found, [*common, *sides], after)


def _moved(graph, x, shape: Sequence[int], order):
    return graph.transpose(x, order), [shape[axis] for axis in order]


def _pooled(graph, equation, inputs):
    """Maxima or sums of windows over the two axes of an image [N, H, W, C]."""
    given, shape = equation.params, equation.invars[0].aval.shape
    window, strides = given["window_dimensions"], given["window_strides"]
    dilated = (*given["base_dilation"], *given["window_dilation"])
    if len(shape) != 4 or (window[0], window[3]) != (1, 1) or any(step != 1 for step in dilated):
        raise Unwritable("windows over other axes")
    x, order = inputs[0], (0, 3, 1, 2)
    largest = equation.primitive.name == "reduce_window_max"
    edge = np.array(-np.inf if largest else 0, equation.invars[0].aval.dtype)
    x = graph.transpose(padded(graph, x, list(given["padding"]), edge), order)
    sides = dict(kernel_shape=list(window[1:3]), strides=list(strides[1:3]))
    found = graph.op("MaxPool" if largest else "AveragePool", [x], **sides)
    if not largest:
        found = graph.op("Mul", [found, np.array(math.prod(window), edge.dtype)])
    return graph.transpose(found, np.argsort(order).tolist())


BECOMES: dict[str, Callable] = {
    "conv_general_dilated": _convolution,
    "dot_general": _product,
    "reduce_window_max": _pooled,
    "reduce_window_sum": _pooled,
}
