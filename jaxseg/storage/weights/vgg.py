"""VGG-16 in PyTorch files: finds which of two numberings a file has, and renames its tensors.

Both numberings count all layers of `features`, including ReLU and pooling. In torchvision's the
last of thirteen convolutions is number 28, and fully connected layers follow: `classifier.0`, `.3`
and `.6`, or `.1`, `.4` and `.6` in the conversion of Caffe's model. AdaptSegNet removed pool4, so
that the numbers of stage 5 are lower by one, and added fc6 and fc7 as convolutions 29 and 31; its
head is `classifier.conv2d_list`.
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
    """'torchvision', 'reference', or '' if the names are not those of a complete VGG-16."""
    found = {int(match[1]) for name in names if (match := _CONV.fullmatch(name))}
    return next((kind for kind, table in NUMBERINGS.items() if found == set(table)), "")


def target(name: str, kind: str) -> str | None:
    """This project's path for a tensor in a file with the numbering `kind`, or None."""
    if match := _CONV.fullmatch(name):
        module = NUMBERINGS[kind][int(match[1])]
    elif kind == "torchvision" and (match := _CLASSIFIER.fullmatch(name)) and match[1] in _FULL:
        module = _FULL[match[1]]
    else:
        return None
    return f"params/backbone/{module}/{'kernel' if match[2] == 'weight' else 'bias'}"


def as_convolution(matrix: np.ndarray, path: str) -> np.ndarray:
    """Reshapes the weights of a fully connected layer into a convolution kernel.

    fc6 reads a [512, 7, 7] map, channels first, so each row becomes a 7x7 kernel; fc7 becomes 1x1.

    Args:
      matrix: [O, I].
      path: from `target`.

    Returns:
      [O, C, k, k] with C k k = I: C = 512 for fc6 where that divides I into a square, else k = 1.
    """
    outputs, inputs = matrix.shape
    side = math.isqrt(inputs // 512) if "/fc6/" in path else 1
    if side < 1 or 512 * side * side != inputs:
        side = 1
    return matrix.reshape(outputs, inputs // side**2, side, side)
