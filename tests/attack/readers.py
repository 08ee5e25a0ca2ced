"""Every reader of files that nobody vouches for: a whole file, mutations of it, what came of each.

    python -m attack.readers READER SEED COUNT

reads COUNT mutations and prints how they ended as JSON; the memory of the process is limited, and
whoever starts it limits the time.
"""

import collections
import io
import json
import random
import resource
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from kit import torch_files
from PIL import Image

from jaxseg.data import classfile, codec, photograph
from jaxseg.errors import UserError
from jaxseg.storage.weights import files

MEMORY = 4 * 2**30  # bytes of address space


class Reader(NamedTuple):
    """A whole file, the ending of its name, and what reads a path."""

    content: bytes
    ending: str
    read: Callable[[Path], Any]


def _arrays() -> dict[str, np.ndarray]:
    draw = np.random.default_rng(0)
    names = ("conv1.weight", "bn1.bias", "layer1.0.conv1.weight")
    return {name: draw.normal(size=(5, 3)).astype(np.float32) for name in names}


def _written(ending: str, write: Callable[[Path], Any]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"a{ending}"
        write(path)
        return path.read_bytes()


def _caffemodel() -> bytes:
    def field(number: int, content: bytes) -> bytes:
        assert len(content) < 128
        tag = number << 3 | 2
        head = bytes([tag]) if tag < 128 else bytes([tag & 127 | 128, tag >> 7])
        return head + bytes([len(content)]) + content

    blob = field(7, field(1, bytes([2, 3]))) + field(5, np.arange(6, dtype="<f4").tobytes())
    return b"".join(field(100, field(1, name) + field(7, blob)) for name in (b"conv1", b"fc6"))


def _image(kind: str, mode: str, **options: Any) -> bytes:
    draw = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(draw).convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


def _named(decode: Callable[[bytes], Any]) -> Callable[[Path], Any]:
    def read(path: Path) -> Any:
        with codec.naming(str(path)):
            return decode(path.read_bytes())

    return read


def readers() -> dict[str, Reader]:
    """All of them by name."""
    from safetensors.numpy import save_file

    arrays = _arrays()
    found = {
        f"pth_{container}": Reader(
            _written(
                ".pth",
                lambda path, c=container: torch_files.write_state_dict(path, arrays, c),
            ),
            ".pth",
            files.load,
        )
        for container in torch_files.WRITERS
    }
    classes = b"id,name,r,g,b\n0,road,128,64,128\n1,sky,70,130,180\n"
    return found | {
        "npz": Reader(_written(".npz", lambda p: np.savez(p, **arrays)), ".npz", files.load),
        "npz_packed": Reader(
            _written(".npz", lambda p: np.savez_compressed(p, **arrays)), ".npz", files.load
        ),
        "safetensors": Reader(
            _written(".safetensors", lambda p: save_file(arrays, p)), ".safetensors", files.load
        ),
        "caffemodel": Reader(_caffemodel(), ".caffemodel", files.load),
        "png": Reader(_image("PNG", "RGB"), ".png", _named(codec.decode_image)),
        "png_palette": Reader(_image("PNG", "P"), ".png", _named(codec.decode_ids)),
        "jpeg": Reader(_image("JPEG", "RGB"), ".jpg", _named(photograph.read)),
        "tiff": Reader(_image("TIFF", "RGB"), ".tif", _named(codec.decode_image)),
        "webp": Reader(_image("WEBP", "RGB"), ".webp", _named(codec.decode_image)),
        "classes": Reader(classes, ".txt", lambda path: classfile.by_name(str(path))),
    }


def mutated(content: bytes, draw: random.Random) -> bytes:
    """A file with one to eight things done to it."""
    data = bytearray(content)
    for _ in range(draw.choice((1, 1, 2, 8))):
        at = draw.randrange(len(data)) if data else 0
        size = draw.choice((1, 2, 4, 8, 40))
        kind = draw.randrange(7)
        if kind == 0 and data:
            data[at] ^= 1 << draw.randrange(8)
        elif kind == 1:
            data[at : at + size] = draw.randbytes(size)
        elif kind == 2:  # lengths and counts at their ends
            data[at : at + size] = draw.choice((b"\xff", b"\x00", b"\x7f", b"\x80")) * size
        elif kind == 3:
            del data[at : at + draw.randrange(1, 1 + len(data) // 2 + 1)]
        elif kind == 4:
            data[at:at] = data[at : at + draw.randrange(1, 400)] * draw.choice((1, 2, 50))
        elif kind == 5:
            del data[at:]
        else:
            data[at:at] = draw.randbytes(size)
    return bytes(data)


def attack(name: str, seed: int, count: int) -> dict[str, Any]:
    """Reads `count` mutations; the kinds of ends, and the first that was neither."""
    reader, ends, fault = readers()[name], collections.Counter(), ""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"mutated{reader.ending}"
        path.write_bytes(reader.content)
        reader.read(path)  # whole, it is read
        for number in range(seed, seed + count):
            path.write_bytes(mutated(reader.content, random.Random(number)))
            try:
                reader.read(path)
                ends["read"] += 1
            except UserError as error:
                told = str(path) in str(error) and "\n" not in str(error)
                ends["told" if told else "told badly"] += 1
                fault = fault or ("" if told else f"{number}: {error}")
            except Exception as error:
                ends["fault"] += 1
                fault = fault or f"{number}: {type(error).__name__}: {error}"[:200]
    return {"ends": dict(ends), "fault": fault}


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    print(json.dumps(attack(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
