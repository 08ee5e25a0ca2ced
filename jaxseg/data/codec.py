"""Encodes, decodes and resizes images, labels and depth.

Pillow reads and writes every format. The two kinds of PNG that training reads most, 8-bit RGB and
8-bit grey, are decoded by libpng (imagecodecs) where it is installed: the same arrays in half the
time, because Pillow undoes the PNG filters byte by byte. imagecodecs releases the interpreter's
lock; pyspng, as fast, does not. Palette PNGs stay with Pillow: other decoders expand them to
colours, which destroys the ids.
"""

import contextlib
import io
import math
import re
import struct
import warnings
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from jaxseg.data import impostor
from jaxseg.errors import UserError

try:
    from imagecodecs import png_decode
except ImportError:  # Pillow decodes everything
    png_decode = None

# Images of 89 to 179 million pixels are read; larger ones are refused, see `naming`.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

DEPTH_STEP = 1 / 256  # metres per unit of a stored depth PNG: range 256 m, resolution 4 mm

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY, RGB = 0, 2  # colour types in a PNG header
_BUFFER = re.compile(r"'?<_io\.BytesIO object at 0x[0-9a-f]+>'?")  # tells a user nothing
_GREY_MODES = ("L", "P", "I", "I;16", "I;16B")


@contextlib.contextmanager
def naming(what: str, remedy: str = "fetch it again") -> Iterator[None]:
    """Turns errors from a damaged image into one UserError line: `what`, reason, `remedy`."""
    try:
        yield
    except Image.DecompressionBombError as error:
        most = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        raise UserError(
            f"{what}: too large an image (more than {most:,} pixels); cut it or make it smaller"
        ) from error
    except MemoryError as error:
        raise UserError(f"{what}: not enough memory for this image; make it smaller") from error
    except (OSError, SyntaxError, ValueError, IndexError, struct.error, zlib.error) as error:
        reason = _BUFFER.sub("the file", str(error))
        raise UserError(f"{what}: damaged image ({reason}); {remedy}") from error


@contextlib.contextmanager
def opened(data: bytes) -> Iterator[Image.Image]:
    """Opens an image with Pillow.

    Raises:
      ValueError, OSError: what the format readers raise, or ValueError for anything else of theirs;
        `naming` turns them into one line.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            yield image
    except UnidentifiedImageError as error:  # its text is only the address of a buffer
        raise ValueError(impostor.told(data) or "no kind of image that can be read") from error
    except (Image.DecompressionBombError, MemoryError, OSError, ValueError):
        raise
    except Exception as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error


def encode_png(array: np.ndarray, compress_level: int = 1) -> bytes:
    """Returns the PNG of uint8 [H, W], uint8 [H, W, 3] or uint16 [H, W]."""
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG", compress_level=compress_level)
    return buffer.getvalue()


def encode_image(image: np.ndarray) -> bytes:
    """Returns the PNG of a photograph uint8 [H, W, 3], a fifth smaller than from `encode_png`.

    A filtered photograph is mostly noise, in which zlib's search for repeated strings finds none.
    With run lengths and Huffman codes only, files are smaller, and faster to write and to read.
    """
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", compress_level=1, compress_type=zlib.Z_RLE)
    return buffer.getvalue()


def encode_depth(depth: np.ndarray) -> bytes:
    """Returns the 16-bit PNG of metres float [H, W]; 0 (no value) stays 0, the limit is 256 m."""
    steps = np.clip(np.round(depth / DEPTH_STEP), 0, 65535)
    steps = np.where((depth > 0) & (steps == 0), 1, steps)
    return encode_png(steps.astype(np.uint16))


def encode_label(label: np.ndarray) -> bytes:
    """Returns the PNG of uint8 train ids [H, W], smaller but slower than `encode_png`."""
    return encode_png(label, 6)


def decode_image(data: bytes) -> np.ndarray:
    """Returns uint8 [H, W, 3] RGB; files of other modes are converted."""
    array = by_libpng(data, RGB)
    if array is not None:
        return array
    with opened(data) as image:
        return np.asarray(image.convert("RGB"))


def size_of(data: bytes, upright: bool = False) -> tuple[int, int]:
    """Reads an image's size from its header alone.

    Args:
      data: the file, or its beginning.
      upright: whether to apply a JPEG's EXIF orientation.

    Returns:
      (height, width).
    """
    with opened(data) as image:
        size = image.height, image.width
        if upright and image.format == "JPEG":
            lying = image.getexif().get(ExifTags.Base.Orientation, 1) in range(5, 9)
            return size[::-1] if lying else size
        return size


def format_of(data: bytes) -> str:
    """Returns the format of an image file, such as 'PNG' or 'JPEG'."""
    with opened(data) as image:
        return image.format or ""


def is_grey(data: bytes) -> bool:
    """Returns whether a file has grey values: neither a palette nor colours."""
    with opened(data) as image:
        return image.mode in ("1", "L", "LA", "I", "I;16", "I;16B")


def palette(data: bytes) -> np.ndarray | None:
    """Returns a palette file's colours, uint8 [N, 3]; None for other files."""
    with opened(data) as image:
        if image.mode != "P":
            return None
        return np.asarray(image.getpalette("RGB"), np.uint8).reshape(-1, 3)


def bits(data: bytes) -> int:
    """Returns the bits per channel; 32 for files of integers or floats."""
    with opened(data) as image:
        if image.format == "PNG":  # Pillow's mode does not show 16 bits for colours
            return _png_header(data)[0]
        return {"1": 1, "I": 32, "F": 32}.get(image.mode, 16 if "16" in image.mode else 8)


def decode_ids(data: bytes) -> np.ndarray:
    """Returns a label file's ids, integers [H, W]: palette indices or grey values."""
    array = by_libpng(data, GREY)
    if array is not None:
        return array
    with opened(data) as image:
        if image.mode == "1":
            return np.asarray(image).astype(np.uint8)
        if image.mode not in _GREY_MODES:
            raise ValueError(f"a label in mode {image.mode}, expected palette or grey")
        if image.format == "PNG":
            depth, colour = _png_header(data)
            if colour == 0 and depth < 8:  # Pillow has scaled to 0..255, 4 bits in steps of 17
                return np.asarray(image) // (255 // (2**depth - 1))
        return np.asarray(image)


def _png_header(data: bytes) -> tuple[int, int]:
    """Returns bits per channel and colour type from the header chunk, which comes first."""
    return data[24], data[25]


def by_libpng(data: bytes, colour: int) -> np.ndarray | None:
    """Decodes a PNG of this colour type with 8 bits per channel; None = leave it to Pillow.

    Damaged files are left to Pillow too, so that messages are the same with and without libpng.
    """
    if png_decode is None or not data.startswith(SIGNATURE) or data[24:26] != bytes((8, colour)):
        return None
    width, height = struct.unpack(">II", data[16:24])
    if width * height > 2 * (Image.MAX_IMAGE_PIXELS or math.inf):
        return None  # too large: Pillow refuses it before it reserves memory
    try:
        array = png_decode(data)
    except Exception:  # of any type: Pillow meets the same damage and reports it
        return None
    # With a transparent colour (tRNS chunk), libpng adds a channel: leave that to Pillow.
    return array if array.shape[2:] == ((3,) if colour == RGB else ()) else None


def decode_any(data: bytes) -> np.ndarray:
    """Returns palette indices or grey values [H, W], or a colour file's channels [H, W, C]."""
    with opened(data) as image:
        return decode_ids(data) if image.mode in ("1", *_GREY_MODES) else np.asarray(image)


def decode_index(data: bytes) -> np.ndarray | None:
    """Returns a label file's ids, also if it has an alpha channel or three equal channels.

    Args:
      data: the file.

    Returns:
      integers [H, W]; None if the channels differ (colours).
    """
    array = decode_any(data)
    if array.ndim == 2:
        return array
    grey = array.shape[2] == 2 or (array[..., :3] == array[..., :1]).all()
    return array[..., 0] if grey else None


def decode_depth(data: bytes) -> np.ndarray:
    """Returns float32 [H, W] metres from what `encode_depth` wrote."""
    return decode_ids(data).astype(np.float32) * np.float32(DEPTH_STEP)


def encode_instances(instances: np.ndarray) -> bytes:
    """Returns the 16-bit PNG of integers [H, W], in Cityscapes 1000 * id + object number.

    Raises:
      ValueError: a value outside 0 to 65535.
    """
    if instances.min() < 0 or instances.max() > 65535:
        raise ValueError(f"instances {instances.min()} to {instances.max()}, wanted 0 to 65535")
    return encode_png(instances.astype(np.uint16), 6)


def decode_instances(data: bytes) -> np.ndarray:
    """Returns int32 [H, W] from what `encode_instances` wrote."""
    return decode_ids(data).astype(np.int32)


def decode_first_channel_16(data: bytes) -> np.ndarray:
    """Returns the first channel of a PNG with 8 or 16 bits per channel, without losing bits.

    Pillow has no 16-bit colour modes: it keeps the upper byte of each value, and small class ids
    are lost. Decoding a second time with the byte order swapped gives the lower byte.

    Args:
      data: the file.

    Returns:
      integers [H, W].
    """
    depth, colour = _png_header(data)
    if depth != 16 or colour not in (2, 4, 6):
        array = decode_any(data)
        return array if array.ndim == 2 else array[..., 0]
    if colour == 4:  # PNG filters treat two 16-bit channels like four 8-bit ones
        header = data[12:24] + bytes((8, 6)) + data[26:29]
        data = data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:]
        array = decode_any(data).astype(np.uint16)
        return array[..., 0] * 256 + array[..., 1]
    upper = decode_any(data)[..., 0].astype(np.uint16)
    with opened(data) as image:
        image.tile = [tile._replace(args=f"{image.mode};16L") for tile in image.tile]
        lower = np.asarray(image)[..., 0]
    return upper * 256 + lower


def resize_image(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Returns uint8 [H, W, 3] resized to (H, W) by Pillow's antialiased bicubic filter."""
    if image.shape[:2] == tuple(size):
        return image
    return np.asarray(Image.fromarray(image).resize((size[1], size[0]), Image.Resampling.BICUBIC))


def resize_nearest(array: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Returns [H, W] of the same type, resized to (H, W) by nearest neighbour (pixel centres)."""
    if array.shape == tuple(size):
        return array
    rows = ((np.arange(size[0]) + 0.5) * array.shape[0] / size[0]).astype(np.intp)
    columns = ((np.arange(size[1]) + 0.5) * array.shape[1] / size[1]).astype(np.intp)
    return array[rows].take(columns, axis=1)  # four times as fast as array[rows[:, None], columns]
