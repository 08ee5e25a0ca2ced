"""VGG-16's convolutions in the file of holistically nested edge detection (HED; Xie and Tu, ICCV
2015): read from Keras' HDF5 layout, and renamed.

The file names its arrays 'block<1..5>/layers/conv2d[_<n>]/vars/<0 or 1>', kernels [kh, kw, C, K]
and biases [K], and those of the edge detector 'dsn<1..5>/vars/...' and 'fuse/vars/...'. The network
takes Caffe's images, BGR minus the mean (`config.net.preprocess=caffe`). HDF5's reader is not made
for files that one does not trust, so only the packaged file is read, by its checksum.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from jaxseg.errors import UserError

# The edge detector, which is left over, and the fully connected layers, which the file lacks.
EXCUSED = (r"^(dsn\d|fuse)/", r"^params/backbone/fc[67]/", r"^params/((aux|main)_head|decoder)/")

_CONV = re.compile(r"block([1-5])/layers/conv2d(?:_(\d))?/vars/([01])")


def load(path: str | Path) -> dict[str, np.ndarray]:
    """The arrays of the file by name.

    Raises:
      UserError: h5py is not installed.
    """
    try:
        import h5py
    except ModuleNotFoundError as error:
        raise UserError(
            f"{path}: h5py, which reads it, is not installed: pip install h5py"
        ) from error
    found = {}
    with h5py.File(path, "r") as file:

        def take(name, item):
            if isinstance(item, h5py.Dataset):
                found[name] = np.asarray(item)

        file.visititems(take)
    return found


def is_hed(tensors: Mapping[str, np.ndarray] | tuple[()]) -> bool:
    """Whether the names are those of the file."""
    return "block1/layers/conv2d/vars/0" in tensors and "fuse/vars/0" in tensors


def to_ours(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Renames the convolutions to 'params/backbone/conv<stage>_<number>/<kernel or bias>'; other
    names stay as they are, for `merge` to report.
    """
    renamed = {}
    for name, array in tensors.items():
        if match := _CONV.fullmatch(name):
            stage, before, leaf = match.groups()
            layer = f"conv{stage}_{int(before or 0) + 1}"
            name = f"params/backbone/{layer}/{('kernel', 'bias')[int(leaf)]}"
        renamed[name] = array
    return renamed
