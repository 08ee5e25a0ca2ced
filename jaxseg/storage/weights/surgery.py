"""Makes ImageNet networks fully convolutional ('net surgery', Long et al., 2015).

A fully connected layer that reads a [C, k, k] map equals a convolution with a k x k kernel. Files
of AlexNet and VGG-16 name their tensors by Caffe's layers (conv1 ... conv5 or conv1_1 ... conv5_3,
fc6, fc7), in one of two layouts, which the first convolution tells apart:

- Caffe's and PyTorch's: [K, C, kh, kw] and [K, C k k], the map flattened channels first.
- TensorFlow's, also in the widespread vgg16_weights.npz: [kh, kw, C, K] and [k k C, K], channels
  last.

torchvision's VGG-16 has other names, which `rename.to_ours` reads. Its AlexNet is a different
network (64 channels and no groups in the first layers) and fits no network here.
"""

import math
import re
from collections.abc import Mapping

import numpy as np

from jaxseg.errors import UserError

# Tensors that need not match: ImageNet's classifier; the bilinear kernels in an FCN's file, which
# are constants here; and an FCN's scores, which may keep their initial values.
CLASSIFIER_ONLY = (r"^fc8", r"^classifier\.6\.", r"^upscore", r"^params/main_head/")

_NAME = re.compile(r"(conv[1-5](?:_[1-3])?|fc[678]|score_\w+?)[._/](\w+)")
_LEAVES = {
    **dict.fromkeys(("weight", "weights", "W", "w", "kernel", "0"), "kernel"),
    **dict.fromkeys(("bias", "biases", "b", "1"), "bias"),
}


def to_ours(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Renames, transposes and reshapes an AlexNet, a VGG-16, or an FCN based on either.

    Args:
      tensors: {name: array} as `files.load` returns it: '<layer>' and 'weight' or 'bias' (also W,
        b, weights, biases, 0, 1) with '.', '_' or '/' between them. Unknown names are kept
        unchanged, and `merge` reports them; so is fc8, ImageNet's classifier.

    Returns:
      {'params/backbone/<layer>/<kernel or bias>' or 'params/main_head/...': array}, kernels
      [kh, kw, C, K]. The kernel sides of fc6 and fc7 follow from the number of input channels.

    Raises:
      UserError: the first convolution, which determines the layout, is missing, or fc6 does not
        read a square map of the last convolution's channels.
    """
    found = {}
    for name, array in tensors.items():
        match = _NAME.fullmatch(name)
        if match and match[2] in _LEAVES and match[1] != "fc8":
            found[match[1], _LEAVES[match[2]]] = name, np.asarray(array)
    kernels = {layer: array for (layer, leaf), (_, array) in found.items() if leaf == "kernel"}
    channels_first = _channels_first(kernels)
    renamed, taken = {}, {name for name, _ in found.values()}
    for (layer, leaf), (_, array) in found.items():
        group = "main_head" if layer.startswith("score") else "backbone"
        if leaf == "bias":
            array = array.reshape(-1)  # Caffe's older files have [1, 1, 1, K]
        else:
            array = _convolution(layer, array, kernels, channels_first)
        renamed[f"params/{group}/{layer}/{leaf}"] = array
    return {**renamed, **{name: array for name, array in tensors.items() if name not in taken}}


def _channels_first(kernels):
    """Whether kernels are [K, C, kh, kw], by the convolution that reads the image's 3 channels."""
    first = kernels.get("conv1", kernels.get("conv1_1"))
    if first is None or first.ndim != 4:
        raise UserError(
            "weights have no conv1 or conv1_1: neither an AlexNet nor a VGG-16 of Caffe"
        )
    if first.shape[1] == 3 and first.shape[2] == first.shape[3]:
        return True
    if first.shape[2] == 3 and first.shape[0] == first.shape[1]:
        return False
    raise UserError(f"weights: the first convolution {first.shape} does not read three channels")


def _convolution(layer, array, kernels, channels_first):
    """A layer's weights as a convolution kernel [kh, kw, C, K]."""
    if array.ndim == 4 and array.shape[:2] == (1, 1) and channels_first and layer in ("fc6", "fc7"):
        array = array[0, 0]  # Caffe's older files have [1, 1, K, C k k]
    if array.ndim == 4:
        array = array.transpose(2, 3, 1, 0) if channels_first else array
        return np.ascontiguousarray(array)
    if array.ndim != 2:
        raise UserError(f"weights: {layer} has shape {array.shape}, not that of a layer")
    inputs, outputs = array.shape[::-1] if channels_first else array.shape
    channels = inputs if layer != "fc6" else _channels_before_fc6(kernels, channels_first)
    side = math.isqrt(inputs // channels)
    if channels * side * side != inputs:
        raise UserError(
            f"weights: {layer} reads {inputs} values, not a square map of {channels} channels"
        )
    if channels_first:
        array = array.reshape(outputs, channels, side, side).transpose(2, 3, 1, 0)
    else:
        array = array.reshape(side, side, channels, outputs)
    return np.ascontiguousarray(array)


def _channels_before_fc6(kernels, channels_first):
    last = kernels.get("conv5", kernels.get("conv5_3"))
    if last is None or last.ndim != 4:
        raise UserError("weights have an fc6 but no conv5 or conv5_3 before it")
    return last.shape[0 if channels_first else 3]
