"""PNGs quickly: a reader of files that need nothing but decoding, and a writer of pictures.

The layout is that of the PNG specification (W3C, third edition): chunks of length, kind, content
and CRC-32, and rows that begin with the number of their filter.
"""

import struct
import zlib
from collections.abc import Iterator

import numpy as np

from jaxseg.data import codec

try:
    from imagecodecs import deflate_encode
except ImportError:  # codec.encode_image writes everything
    deflate_encode = None

_UP = 2  # a byte is stored as its difference from the byte above it
# Beside the pixels these say at most how they are meant to be shown, which no reader here heeds.
_PLAIN = {b"IHDR", b"IDAT", b"IEND", b"sRGB", b"gAMA", b"cHRM", b"iCCP", b"sBIT", b"pHYs", b"tIME"}
_TEXT = {b"tEXt", b"zTXt", b"iTXt"}
_TURNING = (b"Raw profile type", b"XML:com.adobe.xmp")  # texts that may say how it is to be turned


def decode(data: bytes) -> np.ndarray | None:
    """The pixels of a PNG of 8-bit RGB that says neither that it is turned nor that parts of it are
    transparent.

    Args:
      data: a file of any kind.

    Returns:
      uint8 [H, W, 3], by libpng; None for any other file, for a damaged one, or without libpng.
    """
    if not data.startswith(codec.SIGNATURE):
        return None
    for kind, content in _chunks(data):
        turning = kind in _TEXT and content.startswith(_TURNING)
        if turning or kind not in _PLAIN | _TEXT:
            return None
    return codec.by_libpng(data, codec.RGB)


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The kind and the first bytes of each chunk."""
    at = len(codec.SIGNATURE)
    while at + 8 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        yield data[at + 4 : at + 8], data[at + 8 : at + 8 + min(length, 20)]
        at += 12 + length


def encode(picture: np.ndarray) -> bytes:
    """Returns the PNG of uint8 [H, W] or uint8 [H, W, 3].

    It takes a fourth of the time of `codec.encode_image`, by libdeflate, and a photograph becomes a
    sixth larger: all rows are stored as differences from the row above.
    """
    if deflate_encode is None:
        return codec.encode_image(picture)
    height, width = picture.shape[:2]
    flat = picture.reshape(height, -1)
    rows = np.empty((height, 1 + flat.shape[1]), np.uint8)
    rows[:, 0] = _UP
    rows[0, 1:] = flat[0]
    np.subtract(flat[1:], flat[:-1], out=rows[1:, 1:])
    colour = codec.RGB if picture.ndim == 3 else codec.GREY
    head = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    parts = {b"IHDR": head, b"IDAT": deflate_encode(rows, level=1), b"IEND": b""}
    return codec.SIGNATURE + b"".join(_chunk(*part) for part in parts.items())


def _chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(content, zlib.crc32(kind))
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)
