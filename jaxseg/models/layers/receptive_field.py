"""Where the pixels of a feature map lie in the image: the arithmetic behind the crops of fully
convolutional networks (Long et al., 2015).

A convolution or pooling of kernel k, stride s and padding p reads around s i - p + (k - 1) / 2 of
its input for output index i. A transposed convolution is the same map the other way round. So every
chain of layers is an affine map, and two maps of the same scale fit together by a shift.
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
    """Index i of a map lies at `scale * i + shift` of the image, counted in pixels."""

    scale: Fraction
    shift: Fraction


def place(steps: Iterable[Step]) -> Place:
    """Where the output of a chain of layers lies in its input; no layers, the input itself."""
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
    """First row and column of a map to keep so that it lies on another one.

    Args:
      larger, smaller: the chains of layers from the image to either map.

    Returns:
      The index in `larger` that lies where index 0 of `smaller` does.

    Raises:
      ValueError: the maps have different scales, or do not fit by cropping whole pixels.
    """
    larger, smaller = place(larger), place(smaller)
    offset = (smaller.shift - larger.shift) / larger.scale
    if larger.scale != smaller.scale or offset.denominator != 1 or offset < 0:
        raise ValueError(f"no crop of {larger} lies on {smaller}")
    return int(offset)
