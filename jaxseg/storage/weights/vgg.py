"""VGG-16 in PyTorch files: which of two numberings a file has, and what each tensor is called here.

Both count all layers of `features`, ReLU and pooling included. torchvision's thirteen convolutions
end at 28 and are followed by fully connected layers: `classifier.0`, `.3` and `.6`, or `.1`, `.4`
and `.6` in the conversion of Caffe's model. AdaptSegNet took pool4 out, so that stage 5 moves down
by one, and put fc6 and fc7 at 29 and 31 as convolutions; its head is `classifier.conv2d_list`.
"""

import math
import re
from collections.abc import Iterable

import numpy as np

_STAGES = (2, 2, 3, 3, 3)
_NAMES = [f"conv{stage}_{i + 1}" for stage, n in enumerate(_STAGES, start=1) for i in range(n)]
_FOUR = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21)  # the convolutions of stages 1 to 4
NUMBERINGS = {
    "torchvision": dict(zip((*_FOUR, 24, 26, 28), _NAMES, strict=True)),
    "reference": dict(zip((*_FOUR, 23, 25, 27, 29, 31), (*_NAMES, "fc6", "fc7"), strict=True)),
}
_FULL = {"0": "fc6", "1": "fc6", "3": "fc7", "4": "fc7"}
_CONV = re.compile(r"features\.(\d+)\.(weight|bias)")
_CLASSIFIER = re.compile(r"classifier\.(\d+)\.(weight|bias)")


def numbering(names: Iterable[str]) -> str:
    """'torchvision', 'reference', or '' for names that are not a whole VGG-16's."""
    found = {int(match[1]) for name in names if (match := _CONV.fullmatch(name))}
    return next((kind for kind, table in NUMBERINGS.items() if found == set(table)), "")


def target(name: str, kind: str) -> str | None:
    """The path in this project of a tensor of a file in numbering `kind`, or None."""
    if match := _CONV.fullmatch(name):
        module = NUMBERINGS[kind][int(match[1])]
    elif kind == "torchvision" and (match := _CLASSIFIER.fullmatch(name)) and match[1] in _FULL:
        module = _FULL[match[1]]
    else:
        return None
    return f"params/backbone/{module}/{'kernel' if match[2] == 'weight' else 'bias'}"


def as_convolution(matrix: np.ndarray, path: str) -> np.ndarray:
    """Reshapes a fully connected layer's weights into a convolution's.

    fc6 read a [512, 7, 7] map, channels first, so its rows are kernels over all of that map; fc7
    becomes 1x1.

    Args:
      matrix: [O, I].
      path: the path that `target` gave it.

    Returns:
      [O, C, k, k] with C k k = I: C = 512 for fc6 where that divides I into a square, else k = 1.
    """
    outputs, inputs = matrix.shape
    side = math.isqrt(inputs // 512) if "/fc6/" in path else 1
    if side < 1 or 512 * side * side != inputs:
        side = 1
    return matrix.reshape(outputs, inputs // side**2, side, side)
