"""Images, labels and depth between encoded bytes and arrays, and their resizing.

Pillow reads and writes everything. The two kinds of PNG that training reads most, 8-bit RGB and
grey ids, are decoded by libpng (imagecodecs) where it is installed: the same arrays in half the
time, as Pillow undoes the filters byte by byte. It works without the interpreter's lock, which
pyspng, as fast, does not let go of. Palettes stay with Pillow, for others expand them to colours,
which destroys the ids.
"""

import contextlib
import io
import math
import struct
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from jaxseg.data import impostor
from jaxseg.errors import UserError

try:
    from imagecodecs import png_decode
except ImportError:  # Pillow alone then
    png_decode = None

DEPTH_STEP = 1 / 256  # metres per unit of a stored depth PNG: up to 256 m, 4 mm fine

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY, _RGB = 0, 2  # colour types of a PNG's header
_GREY_MODES = ("L", "P", "I", "I;16", "I;16B")


@contextlib.contextmanager
def naming(what: str, remedy: str = "fetch it again") -> Iterator[None]:
    """Turns what a damaged image raises into one UserError line: `what`, the reason, `remedy`."""
    try:
        yield
    except Image.DecompressionBombError as error:
        raise UserError(
            f"{what}: too large an image ({error}); cut it or make it smaller"
        ) from error
    except MemoryError as error:
        raise UserError(f"{what}: not enough memory for this image; make it smaller") from error
    except (OSError, SyntaxError, ValueError, IndexError, struct.error, zlib.error) as error:
        raise UserError(f"{what}: damaged image ({error}); {remedy}") from error


@contextlib.contextmanager
def _opened(data: bytes) -> Iterator[Image.Image]:
    """The image of a file; what its readers raise, each in its own way, becomes ValueError."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            yield image
    except UnidentifiedImageError as error:  # whose text is the address of a buffer
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
    """Returns the PNG of a photograph uint8 [H, W, 3], a fifth smaller than `encode_png`'s own.

    What its filters leave is noise, in which looking for repeated strings finds none. Without it
    (run lengths only) all bits go into the code, and files are faster to write and to read.
    """
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", compress_level=1, compress_type=zlib.Z_RLE)
    return buffer.getvalue()


def encode_depth(depth: np.ndarray) -> bytes:
    """Returns the 16-bit PNG of metres float [H, W]; 0 (no value) stays 0, 256 m is the most."""
    steps = np.clip(np.round(depth / DEPTH_STEP), 0, 65535)
    steps = np.where((depth > 0) & (steps == 0), 1, steps)
    return encode_png(steps.astype(np.uint16))


def encode_label(label: np.ndarray) -> bytes:
    """Returns the PNG of uint8 train ids [H, W], smaller and slower than `encode_png`'s own."""
    return encode_png(label, 6)


def decode_image(data: bytes) -> np.ndarray:
    """Returns uint8 [H, W, 3] RGB, whatever the mode of the file."""
    array = _by_libpng(data, _RGB)
    if array is not None:
        return array
    with _opened(data) as image:
        return np.asarray(image.convert("RGB"))


def decode_upright(data: bytes) -> tuple[bytes, np.ndarray]:
    """A photograph turned and mirrored as its EXIF orientation asks for.

    Args:
      data: the file.

    Returns:
      the file's bytes, or those of a PNG where it had to be turned, and uint8 [H, W, 3] RGB.
    """
    with _opened(data) as image:
        if image.getexif().get(ExifTags.Base.Orientation, 1) in range(2, 9):
            turned = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
            return encode_png(turned), turned
        return data, np.asarray(image.convert("RGB"))


def size_of(data: bytes, upright: bool = False) -> tuple[int, int]:
    """A file's size, from its header alone.

    Args:
      data: the file, or its beginning.
      upright: whether to turn a JPEG as its EXIF orientation asks for.

    Returns:
      (height, width).
    """
    with _opened(data) as image:
        size = image.height, image.width
        if upright and image.format == "JPEG":
            lying = image.getexif().get(ExifTags.Base.Orientation, 1) in range(5, 9)
            return size[::-1] if lying else size
        return size


def format_of(data: bytes) -> str:
    """Returns 'PNG', 'JPEG' or what else a file is."""
    with _opened(data) as image:
        return image.format or ""


def is_grey(data: bytes) -> bool:
    """Returns whether a file has grey values: neither a palette nor colours."""
    with _opened(data) as image:
        return image.mode in ("1", "L", "LA", "I", "I;16", "I;16B")


def bits(data: bytes) -> int:
    """Returns how many bits a channel of a file has, 32 standing for integers and floats."""
    with _opened(data) as image:
        if image.format == "PNG":  # of which Pillow's mode does not tell for colours
            return _png_header(data)[0]
        return {"1": 1, "I": 32, "F": 32}.get(image.mode, 16 if "16" in image.mode else 8)


def decode_ids(data: bytes) -> np.ndarray:
    """Returns a label file's ids, integers [H, W]: palette indices or greys, never colours."""
    array = _by_libpng(data, _GREY)
    if array is not None:
        return array
    with _opened(data) as image:
        if image.mode == "1":
            return np.asarray(image).astype(np.uint8)
        if image.mode not in _GREY_MODES:
            raise ValueError(f"a label in mode {image.mode}, wanted palette or grey")
        if image.format == "PNG":
            depth, colour = _png_header(data)
            if colour == 0 and depth < 8:  # what Pillow has spread to 0..255, 4 bits in steps of 17
                return np.asarray(image) // (255 // (2**depth - 1))
        return np.asarray(image)


def _png_header(data: bytes) -> tuple[int, int]:
    """Bits a channel and colour type, of the header chunk, which always comes first."""
    return data[24], data[25]


def _by_libpng(data: bytes, colour: int) -> np.ndarray | None:
    """A PNG of one colour type and 8 bits a channel; None: any other file, Pillow sees to it.

    Damaged ones are Pillow's as well, so that messages are the same with and without libpng.
    """
    if png_decode is None or not data.startswith(_SIGNATURE) or data[24:26] != bytes((8, colour)):
        return None
    width, height = struct.unpack(">II", data[16:24])
    if width * height > 2 * (Image.MAX_IMAGE_PIXELS or math.inf):
        return None  # Pillow refuses it before it reserves memory
    try:
        array = png_decode(data)
    except Exception:  # of whatever kind: Pillow comes upon it too and says what it is
        return None
    # A colour that stands for transparent (tRNS) has become a channel.
    return array if array.shape[2:] == ((3,) if colour == _RGB else ()) else None


def decode_any(data: bytes) -> np.ndarray:
    """Returns palette indices or grey values [H, W], or a colour file's channels [H, W, C]."""
    with _opened(data) as image:
        return decode_ids(data) if image.mode in ("1", *_GREY_MODES) else np.asarray(image)


def decode_index(data: bytes) -> np.ndarray | None:
    """A label file's ids, whether it has a channel for opacity or repeats them for three colours.

    Args:
      data: the file.

    Returns:
      integers [H, W]; None if there are colours.
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
    """Returns the 16-bit PNG of integers [H, W], 1000 * id + number as Cityscapes has them.

    Raises:
      ValueError: a value that 16 bits do not hold.
    """
    if instances.min() < 0 or instances.max() > 65535:
        raise ValueError(f"instances {instances.min()} to {instances.max()}, wanted 0 to 65535")
    return encode_png(instances.astype(np.uint16), 6)


def decode_instances(data: bytes) -> np.ndarray:
    """Returns int32 [H, W] from what `encode_instances` wrote."""
    return decode_ids(data).astype(np.int32)


def decode_first_channel_16(data: bytes) -> np.ndarray:
    """The first channel of a PNG of 8 or 16 bits and any number of channels, all bits kept.

    Pillow has no 16-bit colour modes: it keeps the upper byte of each value, and small class ids
    vanish. The lower byte is had by decoding again as if the bytes stood in the other order.

    Args:
      data: the file.

    Returns:
      integers [H, W].
    """
    depth, colour = _png_header(data)
    if depth != 16 or colour not in (2, 4, 6):
        array = decode_any(data)
        return array if array.ndim == 2 else array[..., 0]
    if colour == 4:  # two channels of two bytes filter like four of one
        header = data[12:24] + bytes((8, 6)) + data[26:29]
        data = data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:]
        array = decode_any(data).astype(np.uint16)
        return array[..., 0] * 256 + array[..., 1]
    upper = decode_any(data)[..., 0].astype(np.uint16)
    with _opened(data) as image:
        image.tile = [tile._replace(args=f"{image.mode};16L") for tile in image.tile]
        lower = np.asarray(image)[..., 0]
    return upper * 256 + lower


def resize_image(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Returns uint8 [H, W, 3] resized to (H, W): Pillow's antialiased bicubic, as in references."""
    if image.shape[:2] == tuple(size):
        return image
    return np.asarray(Image.fromarray(image).resize((size[1], size[0]), Image.Resampling.BICUBIC))


def resize_nearest(array: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Returns [H, W] of the same type resized to (H, W) by the nearest pixel centre's value."""
    if array.shape == tuple(size):
        return array
    rows = ((np.arange(size[0]) + 0.5) * array.shape[0] / size[0]).astype(np.intp)
    columns = ((np.arange(size[1]) + 0.5) * array.shape[1] / size[1]).astype(np.intp)
    return array[rows].take(columns, axis=1)  # a quarter of the time of pairs of indices
