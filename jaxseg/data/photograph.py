"""The one reader of photographs: training, prediction and everything else see the same pixels.

A photograph is turned as its EXIF data say, transparent pixels become white, and of 16 bits the
upper 8 are kept. Labels are not read by this: see `codec.decode_ids`.

Photographs may have any proportions. They are not squashed to those of the network's crops: they
are scaled until they cover a crop, see `covering`.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageOps

from jaxseg.data import codec, quick_png

_GREY_16 = ("I", "I;16", "I;16B", "I;16L", "I;16N")  # Pillow has no 16-bit colours


class Covering(NamedTuple):
    """A size that images are scaled to cover, in their own proportions: see `fitted`."""

    height: int
    width: int


def read(data: bytes) -> np.ndarray:
    """Reads a photograph of any kind.

    Args:
      data: the file.

    Returns:
      uint8 [H, W, 3] RGB, upright.

    Raises:
      ValueError, OSError: a damaged file, or values of unknown range; see `codec.naming`.
    """
    plain = quick_png.decode(data)
    if plain is not None:
        return plain
    with codec.opened(data) as image:
        return upright(image)


def upright(image: Image.Image) -> np.ndarray:
    """What `read` returns of a file, from an image that Pillow has opened."""
    return _rgb(ImageOps.exif_transpose(image))


def for_records(data: bytes) -> tuple[bytes, np.ndarray]:
    """Reads a photograph, and encodes it so that `codec.decode_image` gives the same pixels.

    Args:
      data: the file.

    Returns:
      bytes (the file's own, or a PNG if it was turned or had transparent pixels or 16-bit greys),
      and what `read` returns.

    Raises:
      ValueError, OSError: see `read`.
    """
    with codec.opened(data) as image:
        turned = image.getexif().get(ExifTags.Base.Orientation, 1) in range(2, 9)
        array = _rgb(ImageOps.exif_transpose(image) if turned else image)
        if turned or _transparent(image) or image.mode in _GREY_16:
            return codec.encode_image(array), array
        return data, array


def size_in(record: Mapping[str, Any], where: str) -> tuple[int, int]:
    """Returns the size of a record's image; UserError with `where` if the image is damaged."""
    with codec.naming(where, "delete that folder to prepare it anew"):
        return codec.size_of(record["image"])


def covering(shape: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
    """Returns the smallest (height, width) in the proportions of `shape` that covers `size`."""
    factor = max(size[0] / shape[0], size[1] / shape[1])
    return max(size[0], round(shape[0] * factor)), max(size[1], round(shape[1] * factor))


def fitted(shape: tuple[int, int], size: tuple[int, int], step: int = 8) -> tuple[int, int]:
    """Returns `covering`, its longer side a multiple of `step`: fewer sizes to compile for."""
    found = covering(shape, size)
    return tuple(
        n if n == least else max(least, step * round(n / step))
        for n, least in zip(found, size, strict=True)
    )


def _transparent(image: Image.Image) -> bool:
    return image.has_transparency_data


def _rgb(image: Image.Image) -> np.ndarray:
    if image.mode == "F":
        raise ValueError("floats, whose range is not known: save it with 8 or 16 bits a channel")
    if image.mode in _GREY_16:
        values = np.asarray(image)
        if values.size and not 0 <= values.min() <= values.max() <= 65535:
            raise ValueError("32 bits a channel: save it with 8 or 16")
        image = Image.fromarray((values >> 8).astype(np.uint8))
    if _transparent(image):
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.asarray(image.convert("RGB"))
