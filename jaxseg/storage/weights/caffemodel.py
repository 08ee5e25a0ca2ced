"""Reads the tensors of a .caffemodel as NumPy arrays, without Caffe.

The file is one protocol-buffers message, of which only layers, their names and their blobs are
read. The field numbers below are those of Caffe's caffe.proto, for the three generations of layers
in published files. No maintained package reads the format any more (OpenCV dropped its importer
with version 5), and everything else needs Caffe's own compiled definitions.
"""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

# Field numbers: layers in a net, name in a layer, blobs in a layer.
_GENERATIONS = ((100, 1, 7), (2, 4, 6))
_OLDEST = (1, 1, 50)  # the same numbers for a layer nested in one of the second generation
_LEGACY_SHAPE = (1, 2, 3, 4)  # of a blob: num, channels, height, width
_FLOATS, _SHAPE, _DOUBLES = 5, 7, 8
_LONGEST_SHAPE = 400  # bytes: 32 axes of 12 bytes


def read(path: str | Path) -> dict[str, np.ndarray]:
    """Reads all learned tensors.

    Args:
      path: the file.

    Returns:
      {'<layer>.weight', '<layer>.bias' or '<layer>.<index from 2>': array} in Caffe's layouts:
      kernels [K, C / groups, kh, kw], fully connected [K, C]; older files have four axes
      everywhere.

    Raises:
      ValueError: not such a file, or a damaged one.
    """
    tensors = {}
    content = memoryview(Path(path).read_bytes())
    for number, value in _fields(content):
        for layers, name_field, blob_field in _GENERATIONS:
            if number == layers:
                tensors.update(_layer(value, name_field, blob_field))
    return tensors


def _layer(message, name_field, blob_field):
    name, blobs = "", []
    for number, value in _fields(message):
        if number == name_field:
            name = bytes(_message(value)).decode()
        elif number == blob_field:
            blobs.append(_blob(value))
        elif number == _OLDEST[0] and name_field != 1:
            return _layer(value, *_OLDEST[1:])
    leaves = ("weight", "bias", *map(str, range(2, len(blobs))))
    return {f"{name}.{leaf}": blob for leaf, blob in zip(leaves, blobs, strict=False)}


def _blob(message):
    shape, legacy, parts, kind = None, [1, 1, 1, 1], bytearray(), np.dtype("<f4")
    for number, value in _fields(message):
        if number == _SHAPE:
            if not isinstance(value, int) and len(value) > _LONGEST_SHAPE:
                raise ValueError("a blob of impossible shape")
            shape = [size for _, sizes in _fields(value) for size in _integers(sizes)]
        elif number in _LEGACY_SHAPE:
            if not isinstance(value, int):
                raise ValueError("a blob of impossible shape")
            legacy[number - 1] = value
        elif number in (_FLOATS, _DOUBLES):
            parts += _message(value)
            kind = np.dtype("<f4" if number == _FLOATS else "<f8")
    values = np.frombuffer(parts, kind)
    shape = legacy if shape is None else shape
    if math.prod(shape) != values.size:
        raise ValueError(f"a blob of shape {tuple(shape)} with {values.size} values")
    return values.reshape(shape)


def _message(value):
    if isinstance(value, int):
        raise ValueError("a number where a message belongs")
    return value


def _integers(value):
    """The integers of a repeated field, which is packed into one value or stored one by one."""
    if isinstance(value, int):
        return [value]
    position, found = 0, []
    while position < len(value):
        number, position = _integer(value, position)
        found.append(number)
    return found


def _fields(message) -> Iterator[tuple[int, int | memoryview]]:
    """The fields of a message: (field number, integer or bytes)."""
    message, position = _message(message), 0
    while position < len(message):
        tag, position = _integer(message, position)
        number, kind = tag >> 3, tag & 7
        if kind == 0:
            value, position = _integer(message, position)
        else:
            if kind == 2:
                size, position = _integer(message, position)
            else:
                size = {1: 8, 5: 4}.get(kind)
            if size is None or number == 0 or position + size > len(message):
                raise ValueError("not a protocol-buffers message, or cut short")
            value, position = message[position : position + size], position + size
        yield number, value


def _integer(message, position):
    value = shift = 0
    while True:
        if position >= len(message) or shift > 63:
            raise ValueError("a number is cut short")
        byte = message[position]
        value |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return value, position
