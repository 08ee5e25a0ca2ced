"""Reads the tensors of a PyTorch file as NumPy arrays, without PyTorch and without running pickled
code.

Two containers exist: the zip archive (PyTorch 1.6 and later) and the stream of pickles before it,
in which the published weights of this field came. Both describe tensors by a pickle, and a pickle
may name any function to be called. Here only the handful of names that stand for tensors and plain
containers resolve; anything else is refused before it runs.
"""

import collections
import io
import pickle
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

STREAM_MAGIC = 0x1950A86A20F9469CFC6C
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
    """A view that waits for its storage to be read."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _tensor(storage, offset, shape, strides, *unused):
    if not isinstance(storage, _Storage):
        raise pickle.UnpicklingError("a tensor without storage")
    return _Tensor(storage, offset, tuple(shape), tuple(strides))


def _parameter(tensor, *unused):
    return tensor


_ALLOWED = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch", "Size"): tuple,
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
}


class _Unpickler(pickle.Unpickler):
    def __init__(self, file):
        super().__init__(file, encoding="utf-8")
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module, name):
        if (module, name) in _ALLOWED:
            return _ALLOWED[module, name]
        kind = name.removesuffix("Storage")
        if module in ("torch", "torch.storage") and kind != name and kind in DTYPES:
            return _StorageType(DTYPES[kind])
        raise pickle.UnpicklingError(
            f"refused: it refers to {module}.{name}, and only tensors and plain containers are read"
        )

    def persistent_load(self, pid):
        if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage":
            raise pickle.UnpicklingError("refused: unknown persistent object")
        kind, key, _, size = pid[1:5]
        if not isinstance(kind, _StorageType) or not isinstance(size, int) or size < 0:
            raise pickle.UnpicklingError("refused: unknown kind of storage")
        if len(pid) > 5 and pid[5] is not None:
            raise pickle.UnpicklingError("views of storages are not supported")
        return self.storages.setdefault(str(key), _Storage(str(key), kind.dtype, size))


def _resolve(value: Any, data: dict[str, np.ndarray]) -> Any:
    if isinstance(value, _Tensor):
        return _view(value, data[value.storage.key])
    if isinstance(value, dict):
        return {key: _resolve(item, data) for key, item in value.items()}
    if isinstance(value, list | tuple) and type(value) in (list, tuple):
        return type(value)(_resolve(item, data) for item in value)
    return value


def _view(tensor: _Tensor, flat: np.ndarray) -> np.ndarray:
    numbers = (tensor.offset, *tensor.shape, *tensor.strides)
    if len(tensor.shape) != len(tensor.strides) or not all(
        isinstance(number, int) and number >= 0 for number in numbers
    ):
        raise ValueError("a tensor of impossible shape")
    if 0 in tensor.shape:
        return np.zeros(tensor.shape, flat.dtype)
    last = sum((n - 1) * stride for n, stride in zip(tensor.shape, tensor.strides, strict=True))
    # A stride of 0 repeats values: without this bound a few bytes could ask for any amount of
    # memory.
    if tensor.offset + last >= flat.size or np.prod(tensor.shape, dtype=object) > flat.size:
        raise ValueError("a tensor reaches outside its storage")
    strides = [stride * flat.dtype.itemsize for stride in tensor.strides]
    view = np.lib.stride_tricks.as_strided(flat[tensor.offset :], tensor.shape, strides)
    return np.array(view, order="C")


def _numbers(raw: bytes, storage: _Storage) -> np.ndarray:
    if len(raw) != storage.size * storage.dtype.itemsize:
        raise ValueError(f"storage {storage.key} is truncated")
    return np.frombuffer(raw, storage.dtype)


def _read_zip(file) -> Any:
    with zipfile.ZipFile(file) as archive:
        names = set(archive.namelist())
        index = next((name for name in names if name.split("/")[1:] == ["data.pkl"]), None)
        if index is None:
            raise ValueError("a zip archive, but not one that PyTorch wrote")
        root = index.removesuffix("data.pkl")
        if root + "byteorder" in names and archive.read(root + "byteorder") != b"little":
            raise ValueError("big-endian files are not supported")
        unpickler = _Unpickler(io.BytesIO(archive.read(index)))
        tree = unpickler.load()
        data = {
            key: _numbers(archive.read(f"{root}data/{key}"), storage)
            for key, storage in unpickler.storages.items()
        }
    return _resolve(tree, data)


def _read_stream(file) -> Any:
    if _Unpickler(file).load() != STREAM_MAGIC:
        raise ValueError("not a PyTorch file")
    _Unpickler(file).load()  # protocol version
    _Unpickler(file).load()  # the writer's word sizes
    unpickler = _Unpickler(file)
    tree = unpickler.load()
    data = {}
    for key in _Unpickler(file).load():
        storage = unpickler.storages[str(key)]
        if int.from_bytes(file.read(8), "little", signed=True) != storage.size:
            raise ValueError(f"storage {key} has another size than announced")
        data[storage.key] = _numbers(file.read(storage.size * storage.dtype.itemsize), storage)
    return _resolve(tree, data)


def read(path: str | Path) -> Any:
    """Reads a .pth or .pt file.

    Args:
      path: the file.

    Returns:
      What was saved: nested dicts, lists and tuples with NumPy arrays for tensors (copies, C order;
        bfloat16 through
      ml_dtypes).

    Raises:
      ValueError: not such a file, damaged, truncated, or refused because it refers to anything but
        tensors.
      OSError: the file cannot be read.
    """
    with open(path, "rb") as file:
        try:
            if zipfile.is_zipfile(file):
                return _read_zip(file)
            file.seek(0)
            return _read_stream(file)
        except OSError:
            raise
        except Exception as error:  # a damaged pickle can fail in any way
            raise ValueError(str(error) or type(error).__name__) from error
