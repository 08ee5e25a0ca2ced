"""Images, zips, folders and prepared records that are damaged, too large, or go round in circles:
one line that names the file.
"""

import io
import os
import shutil
import struct
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image

from jaxseg.data import codec, records
from jaxseg.data.conversion import folder_files, tree
from jaxseg.errors import UserError


def png_of(width: int, height: int, colour: int) -> bytes:
    """A PNG whose header announces an image, of which there are a few bytes."""
    header = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b""))
    chunks = (
        (struct.pack(">I", len(content)), kind + content, zlib.crc32(kind + content))
        for kind, content in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        length + content + struct.pack(">I", check) for length, content, check in chunks
    )


@pytest.mark.parametrize("pillow_alone", [False, True])
@pytest.mark.parametrize("colour, decode", [(2, codec.decode_image), (0, codec.decode_ids)])
def test_an_image_larger_than_any_memory(monkeypatch, pillow_alone, colour, decode):
    if pillow_alone:
        monkeypatch.setattr(codec, "png_decode", None)
    with pytest.raises(UserError, match="a.png: too large an image"), codec.naming("a.png"):
        decode(png_of(65_000, 65_000, colour))


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "an empty file"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "a Git LFS pointer"),
        (b"<!DOCTYPE html>", "a web page"),
        (b"what is this", "no kind of image"),
        (png_of(30, 30, 2)[:40], "damaged image"),
    ],
)
def test_no_image(content, message):
    with pytest.raises(UserError, match=message) as caught, codec.naming("a.png"):
        codec.decode_image(content)
    assert str(caught.value).startswith("a.png: ") and "BytesIO" not in str(caught.value)


@pytest.mark.parametrize("link", ["..", ".", "../.."])
def test_a_circle_of_links(tmp_path, link):
    (tmp_path / "set" / "images").mkdir(parents=True)
    (tmp_path / "set" / "images" / "a.png").write_bytes(b"")
    os.symlink(link, tmp_path / "set" / "images" / "again")
    with pytest.raises(UserError, match="again: a link to a folder that it lies in"):
        tree.Tree(tmp_path / "set", ("images",), "set/images")
    with pytest.raises(UserError, match="again: a link to a folder that it lies in"):
        folder_files.pairs(tmp_path / "set" / "images", None)


def test_links_that_lead_nowhere_and_pipes_are_no_files(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    for place in ("a.png", "elsewhere/b.png"):
        (tmp_path / place).write_bytes(b"x")
    folder = tmp_path / "images"
    folder.mkdir()
    os.symlink("../elsewhere", folder / "more")
    os.symlink("../elsewhere", folder / "and_again")  # twice, but no circle
    os.symlink("../a.png", folder / "a.png")
    os.symlink("gone.png", folder / "dangling.png")
    os.mkfifo(folder / "pipe.png")  # reading it would wait for ever
    found = [path.relative_to(folder).as_posix() for path in tree.below(folder)]
    assert found == ["a.png", "and_again/b.png", "more/b.png"]
    os.symlink("itself", folder / "itself")
    with pytest.raises(UserError, match="itself: cannot be listed"):
        tree.below(folder)


@pytest.mark.parametrize("offset, value, message", [(6, 1, "encrypted"), (8, 77, "compression")])
def test_zips_that_cannot_be_unpacked(tmp_path, offset, value, message):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("images/a.png", b"abc")
    content = bytearray(buffer.getvalue())
    content[content.find(b"PK\x01\x02") + offset + 2] = value
    content[offset] = value
    (tmp_path / "a.zip").write_bytes(content)
    files = tree.Tree(tmp_path, ("images",), "a.zip")
    with pytest.raises(UserError, match=f"a.zip:images/a.png.*{message}"):
        files.read("images/a.png")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("records") / "whole"
    options = {"size": (32, 64), "counts": {"train": 5}}
    source = records.open_split("streets", "train", records_dir=folder, **options)
    return folder, source.folder.relative_to(folder), options, [source[i] for i in range(5)]


def damaged(content: bytes, kind: str) -> bytes:
    middle = len(content.rstrip(b"\0")) // 2
    flipped = content[:middle] + bytes([content[middle] ^ 0x55]) + content[middle + 1 :]
    return {"emptied": b"", "cut": content[:middle], "flipped": flipped}[kind]


@pytest.mark.parametrize("kind", ["emptied", "cut", "flipped"])
@pytest.mark.parametrize("name", ["dataset_info.json", "streets-train.array_record-00000-of-00001"])
def test_damaged_records_are_told_or_read_whole(prepared, tmp_path, name, kind):
    whole, inside, options, wanted = prepared
    shutil.copytree(whole, tmp_path / "copy")
    path = tmp_path / "copy" / inside / name
    path.write_bytes(damaged(path.read_bytes(), kind))
    try:
        source = records.open_split("streets", "train", records_dir=tmp_path / "copy", **options)
        found = [source[i] for i in range(len(source))]
    except UserError as error:
        assert str(tmp_path / "copy") in str(error) and "delete" in str(error)
        assert "\n" not in str(error)
    else:
        assert found == wanted and kind == "flipped"


def test_seventeen_ways_to_cut_an_image():
    whole = codec.encode_image(np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8))
    jpeg = io.BytesIO()
    Image.fromarray(codec.decode_image(whole)).save(jpeg, "JPEG")
    for content in (whole, jpeg.getvalue()):
        for part in range(1, 18):
            with pytest.raises(UserError, match="a.img: damaged"), codec.naming("a.img"):
                codec.decode_image(content[: len(content) * part // 18])
