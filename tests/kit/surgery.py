"""Caffe files and layers, written byte by byte."""

import struct

from jaxseg.models.backbones.fcn_layers import Sizes

ALEXNET = Sizes("alexnet", (4, 6, 4, 6, 4), full=5, full_kernel=6)


VGG = Sizes("vgg16", (2, 3, 3, 4, 4), (2, 2, 3, 3, 3), full=5)


def integer(value):
    parts = []
    while True:
        parts.append(value & 0x7F | (0x80 if value > 0x7F else 0))
        value >>= 7
        if not value:
            return bytes(parts)


def field(number, value):
    """One field of a protocol-buffers message: an integer, or bytes with their length."""
    if isinstance(value, int):
        return integer(number << 3) + integer(value)
    return integer(number << 3 | 2) + integer(len(value)) + value


def blob(array, legacy):
    if legacy:
        axes = (1,) * (4 - array.ndim) + array.shape
        shape = b"".join(field(n, size) for n, size in enumerate(axes, start=1))
    else:
        shape = field(7, field(1, b"".join(map(integer, array.shape))))
    values = array.astype("<f4").tobytes()
    gradients = integer(6 << 3 | 5) + struct.pack("<f", 0)  # not packed
    return shape + field(5, values) + gradients


def layer(generation, name, arrays):
    if generation == 3:
        body = field(1, name) + field(2, b"Convolution") + field(10, 0)
        return field(100, body + b"".join(field(7, blob(a, False)) for a in arrays))
    if generation == 2:
        body = field(2, b"data") + field(4, name) + field(5, 4)
        return field(2, body + b"".join(field(6, blob(a, True)) for a in arrays))
    body = field(1, name) + field(2, b"conv")
    return field(2, field(1, body + b"".join(field(50, blob(a, True)) for a in arrays)))
