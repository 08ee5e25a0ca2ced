"""Loads weight files of four kinds into one flat {name: array}."""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxseg.errors import UserError
from jaxseg.storage.weights import caffemodel, pth

WRAPPERS = ("state_dict", "model_state", "model_state_dict", "model")


def load(path: str | Path) -> dict[str, np.ndarray]:
    """Loads the tensors of a .npz, .safetensors, .pth, .pt or .caffemodel file.

    Training checkpoints are unwrapped ('state_dict', 'model', ...), the 'module.' that multi-GPU
    wrappers put before every name goes, and so do the counters 'num_batches_tracked', which nothing
    here needs.

    Args:
      path: the file.

    Returns:
      {name: array} in the file's own names and layouts.

    Raises:
      UserError: the file is missing, of another kind, damaged, or holds no tensors.
    """
    path = Path(path).expanduser()
    readers = {
        **{".npz": _npz, ".safetensors": _safetensors, ".pth": pth.read, ".pt": pth.read},
        ".caffemodel": caffemodel.read,
    }
    if path.suffix not in readers:
        raise UserError(f"{path}: weights are read from {', '.join(readers)} files")
    if not path.is_file():
        raise UserError(f"{path}: no such weights file")
    try:
        tree = readers[path.suffix](path)
    except (ValueError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path}: not a readable {path.suffix} weights file ({reason})") from error
    tensors = _flat(tree)
    if not tensors:
        raise UserError(f"{path}: no tensors in it")
    return tensors


def save(path: str | Path, params: Mapping[str, Any], stats: Mapping[str, Any]) -> None:
    """Saves a network as .npz under its own names, for `load` and `merge`."""
    arrays = {}
    for kind, tree in (("params", params), ("stats", stats)):
        for name, value in flatten(tree).items():
            arrays[f"{kind}/{name}"] = np.asarray(value)
    np.savez(path, **arrays)


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flattens nested dicts to {'a/b/c': leaf}."""
    flat = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{name}/"))
        else:
            flat[prefix + name] = value
    return flat


def _npz(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (zipfile.BadZipFile, EOFError, AttributeError, TypeError) as error:
        raise ValueError(str(error) or "empty") from error


def _safetensors(path: Path) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(path)
    except (SafetensorError, KeyError) as error:
        raise ValueError(str(error)) from error


def _flat(tree: Any) -> dict[str, np.ndarray]:
    if not isinstance(tree, Mapping):
        return {}
    for wrapper in WRAPPERS:
        if isinstance(tree.get(wrapper), Mapping):
            return _flat(tree[wrapper])
    tensors = {}
    for name, value in tree.items():
        name = str(name).removeprefix("module.")
        if isinstance(value, np.ndarray) and not name.endswith("num_batches_tracked"):
            tensors[name] = value
    return tensors
