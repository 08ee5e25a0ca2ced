"""No backbone: the stages are given, so that a segmenter of it is its head alone (`hrda`)."""

from typing import NamedTuple

from jaxseg.models.backbones.stages import Stages


class Sizes(NamedTuple):
    """Nothing to tell."""


SIZES: dict[str, Sizes] = {}
STRIDES = (32, 16, 14, 8, 4)


def given(stages: Stages, train: bool) -> Stages:
    """Hands on the stages it is given."""
    del train
    return stages


def make(sizes: Sizes, *, output_stride: int = 32, name: str | None = None):
    """See `given`; a function, which has no parameters, and takes no name from the others."""
    del sizes, output_stride, name
    return given
