"""An ONNX graph under construction, whose first dimension, the batch, stays free.

A program is traced with a batch of `BATCH` images, a prime number no other size is a multiple of.
Tracing computes nothing, so its size costs nothing. In every shape that follows, a multiple of
`BATCH` is a multiple of the number of images and becomes an expression of it; all other sizes are
constants.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

BATCH = 10007
OPSET, IR_VERSION = 18, 10  # read by onnxruntime since 1.18
IMAGE = "image"  # name of the input
LIMIT = 2**31  # bytes of a protobuf

Value = str | np.ndarray  # of a node's output, or a constant


class Unwritable(Exception):
    """A form of an operation that the writer does not have; becomes a UserError that names it."""


def free(size: int) -> bool:
    """Whether a dimension depends on the number of images."""
    return size >= BATCH and size % BATCH == 0


def any_free(shape: Sequence[int]) -> bool:
    """Whether an array's shape depends on the number of images."""
    return any(map(free, shape))


class Graph:
    """Collects nodes and constants; equal constants are stored once."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self._tensors: dict[Any, Any] = {}
        self._batch: dict[int, str] = {}

    def op(self, kind: str, inputs: Sequence[Value], **attributes: Any) -> str:
        """Adds a node with one output and returns the output's name."""
        name = f"{kind.lower()}_{len(self.nodes)}"
        names = [self.named(value) for value in inputs]
        self.nodes.append(helper.make_node(kind, names, [name], name=name, **attributes))
        return name

    def named(self, value: Value) -> str:
        """The name of a value; a constant is added to the graph."""
        if isinstance(value, str):
            return value
        value = np.asarray(value, order="C")
        key = value.dtype.str, value.shape, value.tobytes()
        if key not in self._tensors:
            name = f"constant_{len(self._tensors)}"
            self._tensors[key] = numpy_helper.from_array(value, name)
        return self._tensors[key].name

    def transpose(self, x: Value, order: Sequence[int]) -> Value:
        """Permutes axes; a constant is permuted at once."""
        if tuple(order) == tuple(range(len(order))):
            return x
        if not isinstance(x, str):
            return np.transpose(x, order)
        return self.op("Transpose", [x], perm=list(order))

    def reshape(self, x: Value, before: Sequence[int], after: Sequence[int]) -> Value:
        """Reshapes `x` of shape `before`."""
        if tuple(before) == tuple(after):
            return x
        if not isinstance(x, str):
            return np.reshape(x, after)
        # onnxruntime moves transpositions through these, but not through a Reshape.
        if added := _ones_added(before, after):
            return self.op("Unsqueeze", [x, np.array(added)])
        if removed := _ones_added(after, before):
            return self.op("Squeeze", [x, np.array(removed)])
        if sum(map(free, after)) > 1:
            return self.op("Reshape", [x, self.shape(after)])
        sizes = [-1 if free(size) else size for size in after]
        return self.op("Reshape", [x, np.array(sizes, np.int64)])

    def shape(self, shape: Sequence[int]) -> Value:
        """A shape as a tensor, int64 [rank], computed from the image's where it is free."""
        if not any_free(shape):
            return np.array(shape, np.int64)
        parts = [
            self._images(size // BATCH) if free(size) else np.array([size], np.int64)
            for size in shape
        ]
        return self.op("Concat", parts, axis=0)

    def _images(self, times: int) -> str:
        """The number of images times a factor, int64 [1]."""
        if times not in self._batch:
            if times == 1:
                one = (np.array([at], np.int64) for at in (0, 1))
                found = self.op("Slice", [self.op("Shape", [IMAGE]), *one])
            else:
                found = self.op("Mul", [self._images(1), np.array([times], np.int64)])
            self._batch[times] = found
        return self._batch[times]

    def model(
        self, inputs: dict[str, Any], outputs: dict[str, Any], metadata: dict[str, str]
    ) -> Any:
        """The checked ONNX model.

        Args:
          inputs, outputs: name -> anything with a shape and a dtype; their values are nodes' names.
          metadata: pairs of strings stored with the model.

        Raises:
          ValueError: more than 2 GB, which ONNX cannot hold in one file.
        """
        graph = helper.make_graph(
            self.nodes, "jaxseg", _described(inputs), _described(outputs),
            initializer=list(self._tensors.values()),
        )  # fmt: skip
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION,
            producer_name="jaxseg",
        )  # fmt: skip
        helper.set_model_props(model, metadata)
        if model.ByteSize() >= LIMIT:
            raise ValueError(f"{model.ByteSize() / 1e9:.1f} GB, and an ONNX file holds 2 GB")
        onnx.checker.check_model(model)
        return model


def _described(values):
    return [
        helper.make_tensor_value_info(
            name,
            helper.np_dtype_to_tensor_dtype(np.dtype(value.dtype)),
            ["batch" if free(size) else size for size in value.shape],
        )
        for name, value in values.items()
    ]


def _ones_added(before: Sequence[int], after: Sequence[int]) -> list[int]:
    """The axes of `after` that are new and of size one, if that is all that differs; else []."""
    added, left = [], list(before)
    for axis, size in enumerate(after):
        if left and left[0] == size:
            left.pop(0)
        elif size == 1:
            added.append(axis)
        else:
            return []
    return [] if left else added
