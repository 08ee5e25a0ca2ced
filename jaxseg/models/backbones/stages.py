"""The output of every backbone: all its stages by name, so that any head fits any backbone."""

from typing import NamedTuple

import jax


class Stage(NamedTuple):
    """One stage's feature map.

    Attributes:
      features: [N, h, w, C], in the backbone's computation dtype.
      stride: pixels of the input for each pixel of the map, along either axis.
    """

    features: jax.Array
    stride: int


# {'stage1': Stage, ..., 'stage4': Stage}, from fine to coarse. The usual strides are 4, 8, 16, 32;
# a dilated backbone keeps the last ones at 16 or 8. A backbone may add maps of other names.
Stages = dict[str, Stage]
