"""Where the pixels of a feature map lie in the image: the arithmetic behind the crops of fully
convolutional networks (Long et al., 2015).

For output index i, a convolution or pooling of kernel k, stride s and padding p reads a window
centred at s i - p + (k - 1) / 2 of its input. A transposed convolution is the inverse map. So every
chain of layers is an affine map of indices, and feature maps of one scale can be aligned by a
shift.
"""

from collections.abc import Iterable
from fractions import Fraction
from typing import NamedTuple


class Step(NamedTuple):
    """The geometry of one layer, the same for both axes; `transposed` for a deconvolution."""

    kernel: int
    stride: int = 1
    padding: int = 0
    transposed: bool = False


class Place(NamedTuple):
    """Index i of a feature map lies at `scale * i + shift` in the image, in pixels."""

    scale: Fraction
    shift: Fraction


def place(steps: Iterable[Step]) -> Place:
    """Where the output of a chain of layers lies in its input; without layers, the identity."""
    scale, shift = Fraction(1), Fraction(0)
    for step in steps:
        middle = Fraction(step.kernel - 1, 2) - step.padding
        if step.transposed:
            scale /= step.stride
            shift -= scale * middle
        else:
            shift += scale * middle
            scale *= step.stride
    return Place(scale, shift)


def crop_offset(larger: Iterable[Step], smaller: Iterable[Step]) -> int:
    """The first row and column to keep when a map is cropped to align with another one.

    Args:
      larger, smaller: the chains of layers from the image to the two maps.

    Returns:
      The index in `larger` at the position of index 0 in `smaller`.

    Raises:
      ValueError: the maps have different scales, or cropping whole pixels cannot align them.
    """
    larger, smaller = place(larger), place(smaller)
    offset = (smaller.shift - larger.shift) / larger.scale
    if larger.scale != smaller.scale or offset.denominator != 1 or offset < 0:
        raise ValueError(f"no crop of {larger} lies on {smaller}")
    return int(offset)
