"""Reads the tensors of a PyTorch file as NumPy arrays, without PyTorch and without running pickled
code.

There are two formats: a zip archive (PyTorch 1.6 and later), and the earlier stream of pickles,
which the published weights of this field use. Both describe tensors by a pickle, and a pickle may
call any function. `pickles` reads it as data: only the names of tensors and plain containers are
interpreted, all others become placeholders.
"""

import io
import math
import mmap
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from jaxseg.storage.weights import archives, pickles

STREAM_MAGIC = 0x1950A86A20F9469CFC6C
MOST_AXES = 32
MOST_COPIES = 4  # tensors may share storages; together they may take this many times the bytes
DTYPES = {
    "Float": np.dtype("<f4"),
    "Double": np.dtype("<f8"),
    "Half": np.dtype("<f2"),
    "BFloat16": np.dtype(ml_dtypes.bfloat16),
    "Long": np.dtype("<i8"),
    "Int": np.dtype("<i4"),
    "Short": np.dtype("<i2"),
    "Char": np.dtype("i1"),
    "Byte": np.dtype("u1"),
    "Bool": np.dtype("?"),
}


class _StorageType(NamedTuple):
    dtype: np.dtype


class _Storage(NamedTuple):
    key: str
    dtype: np.dtype
    size: int


class _Tensor(NamedTuple):
    """A view of a storage that is not read yet."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _tensor(storage, offset, shape, strides, *unused):
    if not isinstance(storage, _Storage) or not isinstance(shape, tuple | list):
        raise ValueError("a tensor without storage or shape")
    if not isinstance(strides, tuple | list) or len(shape) != len(strides):
        raise ValueError("a tensor of impossible shape")
    if len(shape) > MOST_AXES:
        raise ValueError("a tensor of impossible shape")
    numbers = (offset, *shape, *strides)
    if not all(isinstance(number, int) and 0 <= number < 2**62 for number in numbers):
        raise ValueError("a tensor of impossible shape")
    return _Tensor(storage, offset, tuple(shape), tuple(strides))


def _parameter(tensor, *unused):
    return tensor


def _from_type(function, kind, arguments, *unused):
    if function is not _tensor or not isinstance(arguments, tuple):
        return pickles.Foreign("torch._tensor._rebuild_from_type_v2")
    return _tensor(*arguments)


def _ordered(pairs=None):
    """An ordered dict; Python 2 wrote it with a list of pairs."""
    if pairs is None:
        return {}
    if type(pairs) is not list or not all(type(pair) in (list, tuple) for pair in pairs):
        raise ValueError("an ordered dict of what are no pairs")
    found = {}
    for pair in pairs:
        key, value = pair
        if not isinstance(key, str) or len(key) > pickles.LONGEST:
            raise ValueError("an ordered dict with a key that is no text")
        found[key] = value
    pairs.clear()  # so that a pickle cannot make many dicts from one long list
    return found


_KNOWN = {
    "collections.OrderedDict": _ordered,
    "collections.defaultdict": lambda *factory: {},
    "torch.Size": lambda sizes=(): tuple(sizes[: MOST_AXES + 1]),
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch._tensor._rebuild_from_type_v2": _from_type,
}


def _storage_type(name: str) -> _StorageType | None:
    module, _, kind = name.rpartition(".")
    dtype = DTYPES.get(kind.removesuffix("Storage")) if kind.endswith("Storage") else None
    return _StorageType(dtype) if module in ("torch", "torch.storage") and dtype else None


def _unpickled(file: Any, storages: dict[str, _Storage]) -> Any:
    """Reads one pickle; collects the storages that it refers to in `storages`."""

    def persistent(pid):
        if not isinstance(pid, tuple) or not 5 <= len(pid) <= 6 or pid[0] != "storage":
            raise ValueError("refused: unknown persistent object")
        kind, key, _, size = pid[1:5]
        if not isinstance(kind, _StorageType) or not isinstance(size, int) or size < 0:
            raise ValueError("refused: unknown kind of storage")
        if not isinstance(key, str | int):
            raise ValueError("refused: unknown kind of storage")
        if len(pid) > 5 and pid[5] is not None:
            raise ValueError("views of storages are not supported")
        return storages.setdefault(str(key), _Storage(str(key), kind.dtype, size))

    return pickles.load(file, _KNOWN, _storage_type, persistent)


def _resolve(value: Any, data: dict[str, np.ndarray]) -> Any:
    left = MOST_COPIES * sum(flat.nbytes for flat in data.values())
    views: dict[_Tensor, np.ndarray] = {}

    def leaf(item):
        nonlocal left
        if not isinstance(item, _Tensor):
            return item
        if item not in views:
            flat = data[item.storage.key]
            _check_view(item, flat)
            left -= math.prod(item.shape) * flat.dtype.itemsize
            if left < 0:
                raise ValueError("refused: its tensors share storages to more than they hold")
            views[item] = _view(item, flat)
        return views[item]

    return pickles.walked(value, leaf)


def _check_view(tensor: _Tensor, flat: np.ndarray) -> None:
    if 0 in tensor.shape:
        if math.prod(n for n in tensor.shape if n) >= 2**60:
            raise ValueError("a tensor of impossible shape")
        return
    last = sum((n - 1) * stride for n, stride in zip(tensor.shape, tensor.strides, strict=True))
    # A stride of 0 repeats values: without this bound a few bytes could ask for any amount of
    # memory.
    if tensor.offset + last >= flat.size or math.prod(tensor.shape) > flat.size:
        raise ValueError("a tensor reaches outside its storage")


def _view(tensor: _Tensor, flat: np.ndarray) -> np.ndarray:
    if 0 in tensor.shape:
        return np.zeros(tensor.shape, flat.dtype)
    # The stride of an axis of one element is never used, and may be any number.
    strides = [
        stride * flat.dtype.itemsize if size > 1 else flat.dtype.itemsize
        for size, stride in zip(tensor.shape, tensor.strides, strict=True)
    ]
    view = np.lib.stride_tricks.as_strided(flat[tensor.offset :], tensor.shape, strides)
    return np.array(view, order="C")


def _numbers(raw: bytes, storage: _Storage) -> np.ndarray:
    if len(raw) != storage.size * storage.dtype.itemsize:
        raise ValueError(f"storage {storage.key} is truncated")
    return np.frombuffer(raw, storage.dtype)


def _read_zip(file, size: int) -> Any:
    with archives.opened(file, size) as archive:
        names = set(archive.namelist())
        index = next((n for n in sorted(names) if n.split("/")[1:] == ["data.pkl"]), None)
        if index is None:
            raise ValueError("a zip archive, but not one that PyTorch wrote")
        root = index.removesuffix("data.pkl")
        if root + "byteorder" in names and archive.read(root + "byteorder") != b"little":
            raise ValueError("big-endian files are not supported")
        storages: dict[str, _Storage] = {}
        tree = _unpickled(io.BytesIO(archive.read(index)), storages)
        data = {}
        for key, storage in storages.items():
            name = f"{root}data/{key}"
            if name not in names:
                raise ValueError(f"storage {key} is missing")
            data[key] = _numbers(archive.read(name), storage)
    return _resolve(tree, data)


def _read_stream(file) -> Any:
    unused: dict[str, _Storage] = {}
    if _unpickled(file, unused) != STREAM_MAGIC:
        raise ValueError("not a PyTorch file")
    _unpickled(file, unused)  # protocol version
    _unpickled(file, unused)  # the writer's word sizes
    storages: dict[str, _Storage] = {}
    tree, data = _unpickled(file, storages), {}
    keys = _unpickled(file, unused)
    if not isinstance(keys, list) or not all(isinstance(key, str | int) for key in keys):
        raise ValueError("a list of storages that is none")
    for key in keys:
        storage = storages.get(str(key))
        if storage is None or int.from_bytes(file.read(8), "little", signed=True) != storage.size:
            raise ValueError(f"storage {key} has another size than announced")
        data[storage.key] = _numbers(file.read(storage.size * storage.dtype.itemsize), storage)
    return _resolve(tree, data)


def read(path: str | Path) -> Any:
    """Reads a .pth or .pt file.

    Args:
      path: the file.

    Returns:
      The saved value: nested dicts, lists and tuples with NumPy arrays for tensors (copies, C
      order; bfloat16 through ml_dtypes), and `pickles.Foreign` for objects of any other kind.

    Raises:
      ValueError: not a PyTorch file, damaged, truncated, or refused because reading it would take
        more time or memory than such a file can need.
      OSError: the file cannot be read.
    """
    with open(path, "rb") as file:
        try:
            if zipfile.is_zipfile(file):
                return _read_zip(file, Path(path).stat().st_size)
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                if content[:4] == b"PK\x03\x04":
                    raise ValueError("the file ends too early: fetch it again")
                return _read_stream(content)
        except OSError:
            raise
        except Exception as error:  # a damaged pickle can fail in any way
            raise ValueError(str(error) or type(error).__name__) from error
