"""Writes tensors in PyTorch's two file formats, without PyTorch, as far as the tests need it."""

import collections
import io
import pickle
import struct
import sys
import types
import zipfile

import numpy as np
import pytest

TYPES = {"float32": "FloatStorage", "float16": "HalfStorage", "int64": "LongStorage"}


def stand_in(monkeypatch):
    """Stand-ins that are pickled under PyTorch's names; needed for writing only."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")

    def _rebuild_tensor_v2(*arguments):
        raise AssertionError("pickled code ran")

    _rebuild_tensor_v2.__module__ = "torch._utils"
    _rebuild_tensor_v2.__qualname__ = "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2
    for name in TYPES.values():
        setattr(torch, name, type(name, (), {"__module__": "torch"}))
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)
    return torch, utils


class Stored:
    """An array that pickles as a PyTorch tensor whose storage is kept elsewhere."""

    def __init__(self, array, modules, key, view=None):
        self.storage, self.modules, self.key = np.ravel(array), modules, key
        strides = tuple(s // array.itemsize for s in array.strides)
        self.view = view or (0, array.shape, strides)

    def __reduce__(self):
        torch, utils = self.modules
        kind = getattr(torch, TYPES[self.storage.dtype.name])
        persistent = Persistent(("storage", kind, self.key, "cpu", self.storage.size))
        empty = collections.OrderedDict()
        return utils._rebuild_tensor_v2, (persistent, *self.view, False, empty)


class Persistent:
    def __init__(self, pid):
        self.pid = pid


class Pickler(pickle.Pickler):
    def persistent_id(self, value):
        return value.pid if isinstance(value, Persistent) else None


def dumps(value):
    buffer = io.BytesIO()
    Pickler(buffer, protocol=2).dump(value)
    return buffer.getvalue()


def write_zip(path, tree, stored):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", dumps(tree))
        archive.writestr("archive/byteorder", "little")
        for tensor in stored:
            archive.writestr(f"archive/data/{tensor.key}", tensor.storage.tobytes())


def write_stream(path, tree, stored):
    with open(path, "wb") as file:
        for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}, tree):
            file.write(dumps(part))
        file.write(dumps([tensor.key for tensor in stored]))
        for tensor in stored:
            file.write(struct.pack("<q", tensor.storage.size) + tensor.storage.tobytes())


WRITERS = {"zip": write_zip, "stream": write_stream}


def write_state_dict(path, state, container):
    """Saves {name: array} as `torch.save` saves a state_dict; an OrderedDict, as PyTorch's."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        modules = stand_in(monkeypatch)
        stored = [Stored(array, modules, str(i)) for i, array in enumerate(state.values())]
        tree = collections.OrderedDict(zip(state, stored, strict=True))
        WRITERS[container](path, tree, stored)
