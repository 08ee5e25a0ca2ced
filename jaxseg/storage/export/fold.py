"""Equations of constants, computed while an ONNX graph is written.

NumPy does the common ones: each operation that JAX computes by itself is compiled first.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

ELEMENTWISE: dict[str, Callable] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "max": np.maximum, "min": np.minimum,
    "neg": np.negative, "sqrt": np.sqrt, "exp": np.exp, "cos": np.cos, "sin": np.sin,
    "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal, "eq": np.equal,
    "ne": np.not_equal, "and": np.bitwise_and, "or": np.bitwise_or, "sign": np.sign,
    "square": np.square, "stop_gradient": np.asarray,
}  # fmt: skip


def fold(equation: Any, inputs: list[np.ndarray]) -> list[np.ndarray]:
    """The outputs of an equation whose inputs are all constants."""
    name, given = equation.primitive.name, equation.params
    shape, dtype = equation.outvars[0].aval.shape, np.dtype(equation.outvars[0].aval.dtype)
    if name in ELEMENTWISE:
        return [np.asarray(ELEMENTWISE[name](*inputs), dtype)]
    if name == "rsqrt":
        return [np.asarray(1 / np.sqrt(inputs[0]), dtype)]
    if name == "div" and np.issubdtype(dtype, np.floating):
        return [np.asarray(inputs[0] / inputs[1], dtype)]
    if name == "convert_element_type" and np.issubdtype(dtype, np.floating):
        return [inputs[0].astype(dtype)]
    if name == "select_n" and len(inputs) == 3 and inputs[0].dtype == bool:
        return [np.asarray(np.where(inputs[0], inputs[2], inputs[1]), dtype)]
    if name in ("squeeze", "expand_dims") or (name == "reshape" and given["dimensions"] is None):
        return [inputs[0].reshape(shape)]
    if name == "transpose":
        return [inputs[0].transpose(given["permutation"])]
    if name == "concatenate":
        return [np.concatenate(inputs, given["dimension"])]
    if name == "broadcast_in_dim":
        ranked = [1] * len(shape)
        for axis, size in zip(given["broadcast_dimensions"], inputs[0].shape, strict=True):
            ranked[axis] = size
        return [np.broadcast_to(inputs[0].reshape(ranked), shape)]
    if name == "slice":
        steps = given["strides"] or [1] * len(shape)
        bounds = zip(given["start_indices"], given["limit_indices"], steps, strict=True)
        return [inputs[0][tuple(slice(*each) for each in bounds)]]
    found = equation.primitive.bind(*map(jnp.asarray, inputs), **given)
    return [np.asarray(each) for each in jax.tree.leaves(found)]
