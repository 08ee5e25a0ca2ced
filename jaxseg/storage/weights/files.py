"""Loads weight files of four kinds into one flat {name: array}."""

import io
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict

from jaxseg.data import impostor
from jaxseg.errors import UserError
from jaxseg.storage.weights import archives, caffemodel, pickles, pth

WRAPPERS = ("state_dict", "model_state", "model_state_dict", "model", "net", "network", "weights")


# The endings of files that `load` reads; the last six are PyTorch's.
ENDINGS = (
    *(".npz", ".safetensors", ".caffemodel"),
    *(".pth", ".pt", ".pth.tar", ".pt.tar", ".ckpt", ".bin"),
)


def ending_of(path: str | Path) -> str:
    """The ending of a weights file, one of ENDINGS; '' for another file."""
    name = Path(path).name.lower()
    return next((ending for ending in ENDINGS if name.endswith(ending)), "")


def load(path: str | Path) -> dict[str, np.ndarray]:
    """Loads the tensors of a weights file.

    The format follows from the file's ending: .npz, .safetensors, .caffemodel, or PyTorch's .pth,
    .pt, .pth.tar, .ckpt and .bin. Training checkpoints are unwrapped ('state_dict', 'model', ...);
    their other contents are ignored. The prefix 'module.' of multi-GPU wrappers is removed from
    names, and the counters 'num_batches_tracked', which are not needed here, are left out.

    Args:
      path: the file.

    Returns:
      {name: array} in the file's own names and layouts.

    Raises:
      UserError: the file is missing, of an unknown format, damaged, or contains no tensors.
    """
    path = Path(path).expanduser()
    ending = ending_of(path)
    if not ending:
        raise UserError(f"{path}: weights are read from {', '.join(ENDINGS)} files")
    if not path.is_file():
        raise UserError(f"{path}: no such weights file")
    try:
        with path.open("rb") as file:
            if what := impostor.told(file.read(impostor.ENOUGH)):
                raise ValueError(what)
        tensors = _flat(_READERS.get(ending, pth.read)(path))
    except (ValueError, OSError, MemoryError) as error:
        reason = (str(error).splitlines() or ["not enough memory for it"])[0][:300]
        raise UserError(f"{path}: not a readable {ending} weights file ({reason})") from error
    if not tensors:
        raise UserError(f"{path}: no tensors in it")
    return tensors


def save(path: str | Path, params: Mapping[str, Any], stats: Mapping[str, Any]) -> None:
    """Saves a network as .npz under its own names, for `load` and `merge`."""
    leaves = flatten_dict({"params": params, "stats": stats}, sep="/")
    np.savez(path, **{name: np.asarray(leaf) for name, leaf in leaves.items()})


def _npz(path: Path) -> dict[str, np.ndarray]:
    with archives.opened(path, path.stat().st_size) as archive:
        names = [name for name in archive.namelist() if name.endswith(".npy")]
        return {name.removesuffix(".npy"): _npy(name, archive.read(name)) for name in names}


def _npy(name: str, content: bytes) -> np.ndarray:
    """Reads one array; compares the size in its header with the data before allocating memory."""
    file = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(file)
        if version == (1, 0):
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        elif version == (2, 0):
            shape, _, dtype = np.lib.format.read_array_header_2_0(file)
        else:
            raise ValueError(f"version {version} of the format")
        if dtype.hasobject:
            raise ValueError("Python objects, which are not read")
        left = len(content) - file.tell()
        if any(size < 0 for size in shape) or math.prod(shape) * dtype.itemsize != left:
            raise ValueError(f"{left} bytes of values where its header announces others")
        file.seek(0)
        return np.lib.format.read_array(file, allow_pickle=False)
    except Exception as error:  # the header is Python source: TokenError, RecursionError, ...
        raise ValueError(f"{name}: {error or type(error).__name__}") from error


def _safetensors(path: Path) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(path)
    except (SafetensorError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(str(error)) from error


def _flat(tree: Any, wrapped: bool = False) -> dict[str, np.ndarray]:
    """Tensors by name. Other contents of a training checkpoint are ignored, but its weights have to
    be tensors only.
    """
    if isinstance(tree, pickles.Foreign):
        raise ValueError(
            f"refused: an object of {tree.name}, and only tensors are read: save its state_dict()"
        )
    if not isinstance(tree, Mapping):
        return {}
    for wrapper in WRAPPERS:
        if isinstance(tree.get(wrapper), Mapping | pickles.Foreign):
            return _flat(tree[wrapper], wrapped=True)
    tensors = {}
    for name, value in tree.items():
        name = str(name).removeprefix("module.")
        if isinstance(value, np.ndarray) and not name.endswith("num_batches_tracked"):
            tensors[name] = value
        if isinstance(value, pickles.Foreign) and (wrapped or len(tree) == 1):
            raise ValueError(f"refused: {name!r} is of {value.name}, and only tensors are read")
    return tensors


_READERS = {".npz": _npz, ".safetensors": _safetensors, ".caffemodel": caffemodel.read}
