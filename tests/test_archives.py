"""Zips that cannot be read, of data sets and of weights: each is one line with a remedy."""

import struct
import zipfile

import pytest

from jaxseg.data.conversion import tree
from jaxseg.errors import UserError
from jaxseg.storage.weights import archives

TEXT = bytes(range(256)) * 8


def broken(path, how):
    """Writes a zip with images/a.png, spoilt in one place of its central directory or its data."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images/a.png", TEXT)
    data = bytearray(path.read_bytes())
    entry = data.index(b"PK\x01\x02")
    if how == "data":
        data[data.index(TEXT)] ^= 1
    else:
        place, value = {"version": (6, 99), "encrypted": (8, 1), "compression": (10, 77)}[how]
        data[entry + place : entry + place + 2] = struct.pack("<H", value)
        if how == "encrypted":  # the local header says it too
            data[6:8] = struct.pack("<H", value)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    "how, told",
    [
        ("version", r"a.zip: cannot be read \(zip file version 9\.9\); unpack it"),
        ("compression", r"a.zip:images/a.png: cannot be read \(.*compression.*\); unpack it"),
        ("encrypted", r"a.zip:images/a.png: cannot be read \(.*encrypted.*\); unpack it"),
        ("data", r"a.zip:images/a.png: cannot be read \(.*CRC.*\); fetch it again"),
    ],
)
def test_of_a_data_set(tmp_path, how, told):
    broken(tmp_path / "a.zip", how)
    with pytest.raises(UserError, match=told):
        tree.Tree(tmp_path, ("images",), "images/NAME.png").read("images/a.png")


@pytest.mark.parametrize(
    "how, told",
    [
        ("version", r"a damaged zip archive \(zip file version 9\.9\)"),
        ("compression", r"a damaged zip archive \(.*compression.*\)"),
        ("encrypted", "an encrypted zip archive"),
        ("data", r"a damaged zip archive \(.*CRC.*\)"),
    ],
)
def test_of_weights(tmp_path, how, told):
    path = broken(tmp_path / "a.pth", how)
    with (
        pytest.raises(ValueError, match=told),
        archives.opened(path, path.stat().st_size) as archive,
    ):
        archive.read("images/a.png")


def test_weights_that_would_unpack_to_more_than_a_machine_has(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "SPARE", 0)
    path = tmp_path / "a.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(100_000))
    with (
        pytest.raises(ValueError, match=r"refused: \d+ bytes that unpack to 100000"),
        archives.opened(path, path.stat().st_size),
    ):
        raise AssertionError("opened")
