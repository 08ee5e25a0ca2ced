"""Weight files made to take memory or time, to run code, or merely not what their name says: one
line each, in little memory and time.
"""

import argparse
import io
import os
import pickle
import struct
import time
import tracemalloc
import zipfile

import numpy as np
import pytest
from kit import torch_files
from kit.torch_files import WRITERS, Stored

from jaxseg.errors import UserError
from jaxseg.storage.weights import files, pickles

MAGIC = pickle.dumps(0x1950A86A20F9469CFC6C, 2)
FRONT = MAGIC + pickle.dumps(1001, 2) + pickle.dumps({}, 2)  # of the older container
MEMORY, SECONDS = 400e6, 20


def stream(pickled: bytes) -> bytes:
    return FRONT + b"\x80\x02" + pickled + b"." + pickle.dumps([], 2)


def zipped(pickled: bytes, compress: int = zipfile.ZIP_STORED, **more: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compress) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + pickled + b".")
        for name, content in more.items():
            archive.writestr(f"archive/data/{name}", content)
    return buffer.getvalue()


def tensor(key: bytes, size: int, shape: int) -> bytes:
    """Opcodes that put a tensor of float32 [shape] in storage `key`."""
    number = lambda n: b"J" + struct.pack("<i", n)  # noqa: E731
    pid = (
        b"(U\x07storagectorch\nFloatStorage\nU" + bytes([len(key)]) + key + b"U\x03cpu"
        + number(size) + b"tQ"
    )  # fmt: skip
    arguments = b"(" + pid + b"K\x00" + number(shape) + b"\x85K\x01\x85\x89}t"
    return b"ctorch._utils\n_rebuild_tensor_v2\n" + arguments + b"R"


def shared_storage() -> bytes:
    """A megabyte of storage that each of 500 tensors of other lengths would copy."""
    size = 250_000
    items = b"".join(
        b"X" + struct.pack("<i", 4) + f"{i:04d}".encode() + tensor(b"0", size, size - i)
        for i in range(500)
    )
    return zipped(b"}(" + items + b"u", **{"0": bytes(4 * size)})


def npz(header: bytes, content: bytes = b"", compress: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compress) as archive:
        length = struct.pack("<H", len(header))
        archive.writestr("a.npy", b"\x93NUMPY\x01\x00" + length + header + content)
    return buffer.getvalue()


def whole_npz() -> bytearray:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, a=np.arange(1000.0))
    return bytearray(buffer.getvalue())


def changed(content: bytearray, signature: bytes, offset: int, value: int) -> bytes:
    """`content` with two bytes set in every header of a zip of the kind `signature`."""
    at = content.find(signature)
    while at >= 0:
        content[at + offset : at + offset + 2] = struct.pack("<H", value)
        at = content.find(signature, at + 4)
    return bytes(content)


def both(offset: int, value: int) -> bytes:
    content = changed(whole_npz(), b"PK\x01\x02", offset + 2, value)
    return changed(bytearray(content), b"PK\x03\x04", offset, value)


def damaged_stream() -> bytes:
    content = whole_npz()
    at = content.find(b"a.npy") + 40
    content[at : at + 40] = b"\xff" * 40
    return bytes(content)


HEADER = "{{'descr': '{}', 'fortran_order': False, 'shape': {}, }}\n".format
DOUBLED = b"]q\x000" + b"".join(
    b"](h" + bytes([i]) + b"h" + bytes([i]) + b"eq" + bytes([i + 1]) + b"0" for i in range(90)
)
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 178814045\n"
CASES = {
    "memo.pth": (stream(b"}r\xff\xff\xff\x7f"), "no tensors"),  # 12 GB in Python's own reader
    "doubled.pth": (stream(b"}U\x01a" + DOUBLED + b"h\x5as"), "no tensors"),  # 2^90 lists
    "deep.pth": (stream(b"}U\x01a" + b"]" * 20_000 + b"a" * 19_999 + b"s"), "100 deep"),
    "itself.pth": (stream(b"}q\x00U\x01ah\x00s"), "100 deep"),
    "deep_key.pth": (stream(b"}" + b"N" + b"\x85" * 20_000 + b"Ns"), "key"),  # hash: a crash
    "doubled_key.pth": (stream(b"}N" + b"2\x86" * 80 + b"Ns"), "key"),  # hash: for ever
    "one_hash.pth": (
        stream(b"}" + b"".join(b"\x8a\x20" + (i * (2**61 - 1)).to_bytes(32, "little") + b"Ns"
                               for i in range(1, 9))), "key",
    ),
    "long_text.pth": (stream(b"X\xff\xff\xff\x7fabc"), "not a readable"),
    "long_bytes.pth": (stream(b"\x8e" + b"\xff" * 7 + b"\x7fabc"), "not a readable"),
    "calls.pth": (
        stream(b"}U\x01a]q\x00(" + b"]" * 5_000 + b"e0"
               + b"ccollections\nOrderedDict\nh\x00\x85R0" * 5_000 + b"Ns"), "not a readable",
    ),
    "opcodes.pth": (stream(b"(" + b"}" * 30_000 + b"l"), "opcodes"),
    "storage.pth": (stream(b"}U\x01a" + tensor(b"0", 2**31 - 1, 4) + b"s"), "not a readable"),
    "shared.pth": (shared_storage(), "share storages"),
    "bomb.pth": (
        zipped(b"U\x01a" + b"0" * 10, zipfile.ZIP_DEFLATED, **{"0": bytes(300_000_000)}), "unpack",
    ),
    "bomb.npz": (
        npz(HEADER("<f4", (75_000_000,)).encode(), bytes(300_000_000), zipfile.ZIP_DEFLATED),
        "unpack",
    ),
    "announced.npz": (npz(HEADER("<f4", (2**50,)).encode()), "announces"),
    "negative.npz": (npz(HEADER("<f4", (-4,)).encode()), "a.npy"),
    "tokens.npz": (npz(b"{'descr': '<f4', 'fortran_order': False, 'shape': (4,) \n"), "a.npy"),
    "indent.npz": (npz(b"\n  if x:\n y\n"), "a.npy"),
    "parentheses.npz": (npz(b"(" * 900 + b"\n"), "a.npy"),
    "encrypted.npz": (both(6, 1), "encrypted"),
    "method.npz": (both(8, 77), "zip"),
    "zlib.npz": (damaged_stream(), "zip"),
    "lfs.pth": (LFS, "Git LFS pointer"),
    "lfs.safetensors": (LFS, "Git LFS pointer"),
    "page.pth": (b"\n<!DOCTYPE html><html><body>Sign in", "web page"),
    "page.npz": (b"<?xml version='1.0'?><Error>AccessDenied</Error>", "web page"),
    "empty.caffemodel": (b"", "an empty file"),
    "shape.caffemodel": (
        b"\xa2\x06\xd2\x02\x3a\xcf\x02\x3a\xc8\x02\x0a\xc5\x02" + b"\x7f" * 325, "caffemodel",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_one_line_in_little_memory_and_time(tmp_path, monkeypatch, name):
    monkeypatch.setattr(pickles, "MOST_OPCODES", 50_000 if name != "opcodes.pth" else 20_000)
    content, message = CASES[name]
    path = tmp_path / name
    path.write_bytes(content)
    started = time.monotonic()
    tracemalloc.start()
    try:
        with pytest.raises(UserError) as caught:
            files.load(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    said = str(caught.value)
    assert str(path) in said and message in said, said
    assert "\n" not in said and len(said) < 500 + len(str(path))
    assert peak < MEMORY and time.monotonic() - started < SECONDS


@pytest.mark.parametrize("container", WRITERS)
@pytest.mark.parametrize("ending", [".pth.tar", ".ckpt", ".bin", ".pt"])
def test_what_lies_beside_the_weights_is_left_alone(tmp_path, monkeypatch, container, ending):
    class Callback:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "made"),)

    names = torch_files.stand_in(monkeypatch)
    stored = [Stored(np.arange(3, dtype=np.float32), names, "0")]
    tree = {
        "net": {"module.a.weight": stored[0]},
        "best": np.float64(43.8),
        "random": np.random.default_rng(0).bit_generator.state,
        "args": argparse.Namespace(lr=2.5e-4, path=tmp_path),
        "seen": {1, 2},
        "callback": Callback(),
        (0, "of an optimiser"): None,
    }
    path = tmp_path / f"w{ending}"
    WRITERS[container](path, tree, stored)
    tensors = files.load(path)
    assert tensors.keys() == {"a.weight"} and not (tmp_path / "made").exists()
    np.testing.assert_array_equal(tensors["a.weight"], [0, 1, 2])


def test_whole_objects_are_refused_by_name(tmp_path):
    for tree in (argparse.Namespace(a=1), {"model": argparse.Namespace(a=1)}):
        WRITERS["zip"](tmp_path / "w.pth", tree, [])
        with pytest.raises(UserError, match=r"w.pth.*argparse.Namespace.*state_dict\(\)"):
            files.load(tmp_path / "w.pth")


def test_tied_weights_and_ordered_dicts_of_python_2(tmp_path, monkeypatch):
    names = torch_files.stand_in(monkeypatch)
    one = Stored(np.arange(4, dtype=np.float32).reshape(2, 2), names, "0")
    WRITERS["zip"](tmp_path / "w.pth", {str(i): one for i in range(50)}, [one])
    tensors = files.load(tmp_path / "w.pth")
    assert len(tensors) == 50 and tensors["7"].tolist() == [[0, 1], [2, 3]]
    part = tensor(b"0", 2, 2)
    pairs = b"ccollections\nOrderedDict\n](](U\x01a" + part + b"e](U\x01b" + part + b"ee\x85R"
    (tmp_path / "old.pth").write_bytes(zipped(pairs, **{"0": np.float32([3, 4]).tobytes()}))
    assert {k: v.tolist() for k, v in files.load(tmp_path / "old.pth").items()} == {
        "a": [3, 4], "b": [3, 4],
    }  # fmt: skip
