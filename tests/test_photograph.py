"""Photographs of every kind: training's records and prediction hold the same pixels."""

import io

import numpy as np
import pytest
from PIL import ExifTags, Image

from jaxseg.data import codec, photograph
from jaxseg.errors import UserError
from jaxseg.run import images


def draw(*shape):
    return np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)


def saved(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


COLOURS, GREY, OPACITY = draw(9, 14, 3), draw(9, 14), np.where(draw(9, 14) > 99, 255, 0)
CLEAR = np.where(OPACITY[..., None] == 255, COLOURS, 255)  # on white
PALETTE = Image.fromarray(COLOURS).quantize(40)
SIDEWAYS = Image.Exif()
SIDEWAYS[ExifTags.Base.Orientation] = 6
RGBA = Image.fromarray(np.dstack([COLOURS, OPACITY]).astype(np.uint8))
CASES = {
    "RGB": (saved(Image.fromarray(COLOURS)), COLOURS),
    "grey": (saved(Image.fromarray(GREY)), np.dstack([GREY] * 3)),
    "transparent": (saved(RGBA), CLEAR),
    "transparent WebP": (saved(RGBA, "WEBP", lossless=True), CLEAR),
    "half transparent": (
        saved(Image.fromarray(np.full((1, 1, 4), (100, 0, 200, 51), np.uint8))),
        np.full((1, 1, 3), (224, 204, 244)),  # a fifth of the colour and four fifths of white
    ),
    "a transparent colour": (
        saved(Image.fromarray(COLOURS), transparency=tuple(COLOURS[2, 3].tolist())),
        np.where((COLOURS == COLOURS[2, 3]).all(-1, keepdims=True), 255, COLOURS),
    ),
    "palette": (saved(PALETTE), np.asarray(PALETTE.convert("RGB"))),
    "a transparent index": (
        saved(PALETTE, transparency=5),
        np.where((np.asarray(PALETTE) == 5)[..., None], 255, np.asarray(PALETTE.convert("RGB"))),
    ),
    "16 bits, PNG": (
        saved(Image.fromarray(GREY.astype(np.uint16) * 256 + 77)),
        np.dstack([GREY] * 3),
    ),
    "16 bits, TIFF": (
        saved(Image.fromarray(GREY.astype(np.uint16) * 256 + 200), "TIFF"),
        np.dstack([GREY] * 3),
    ),
    "sideways": (saved(Image.fromarray(COLOURS), exif=SIDEWAYS), np.rot90(COLOURS, -1)),
}


@pytest.mark.parametrize("kind", CASES)
def test_training_and_prediction_see_the_same_pixels(tmp_path, kind):
    data, expected = CASES[kind]
    np.testing.assert_array_equal(photograph.read(data), expected)
    stored, array = photograph.for_records(data)
    np.testing.assert_array_equal(array, expected)
    np.testing.assert_array_equal(codec.decode_image(stored), expected)
    assert (stored == data) == (kind in ("RGB", "grey", "palette"))
    path = tmp_path / "photo"
    path.write_bytes(data)
    np.testing.assert_array_equal(images.read(path), expected)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (saved(Image.fromarray(GREY.astype(np.float32)), "TIFF"), "floats, whose range is not"),
        (saved(Image.fromarray(GREY.astype(np.int32) * 2**20), "TIFF"), "32 bits a channel: save"),
        (b"BM" + bytes(99), "x: damaged image"),
        (saved(RGBA)[:90], "x: damaged image"),
        (saved(RGBA, "TIFF", compression="tiff_lzw")[:-40], "x: damaged image"),
    ],
)
def test_what_cannot_be_read_is_one_line(data, said):
    for reader in (photograph.read, photograph.for_records):
        with pytest.raises(UserError, match=said) as caught, codec.naming("x"):
            reader(data)
        assert "BytesIO" not in str(caught.value) and "\n" not in str(caught.value)


def test_the_address_of_a_buffer_is_not_told():
    with pytest.raises(UserError) as caught, codec.naming("x"):
        raise OSError("cannot identify image file <_io.BytesIO object at 0x7f21c8>")
    assert str(caught.value).startswith("x: damaged image (cannot identify image file the file);")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_images_that_are_too_large_are_told_and_large_ones_are_read(monkeypatch):
    data = saved(Image.fromarray(COLOURS))  # 126 pixels
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 63)
    assert photograph.read(data).shape == (9, 14, 3)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert photograph.read(data).shape == (9, 14, 3)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 62)
    for reader in (photograph.read, codec.decode_image, codec.size_of):
        with pytest.raises(UserError, match=r"big.png: too large an image .more than 124 pixels"):
            with codec.naming("big.png"):
                reader(data)
