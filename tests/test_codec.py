"""The libpng decoder against Pillow's, which it replaces where it is installed."""

import io

import numpy as np
import pytest
from PIL import ExifTags, Image, PngImagePlugin

from jaxseg.data import codec, photograph, quick_png
from jaxseg.errors import UserError

needs_libpng = pytest.mark.skipif(codec.png_decode is None, reason="imagecodecs is not installed")


def draw(*shape):
    return np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)


def png(image, **options):
    buffer = io.BytesIO()
    image.save(buffer, "PNG", **options)
    return buffer.getvalue()


FILES = {
    "RGB": png(Image.fromarray(draw(9, 14, 3))),
    "RGB, one colour transparent": png(Image.fromarray(draw(9, 14, 3)), transparency=(1, 2, 3)),
    "RGBA": png(Image.fromarray(draw(9, 14, 4))),
    "grey": png(Image.fromarray(draw(9, 14))),
    "grey, one value transparent": png(Image.fromarray(draw(9, 14)), transparency=7),
    "grey and opacity": png(Image.fromarray(draw(9, 14, 2), "LA")),
    "palette": png(Image.fromarray(draw(9, 14, 3)).quantize(40)),
    "16 bits": png(Image.fromarray(draw(9, 14).astype(np.uint16) * 200)),
    "1 bit": png(Image.fromarray(draw(9, 14) > 99)),
}


@needs_libpng
@pytest.mark.parametrize("decode", [codec.decode_image, codec.decode_ids])
@pytest.mark.parametrize("kind", FILES)
def test_both_decoders_agree(monkeypatch, decode, kind):
    def found():
        try:
            array = decode(FILES[kind])
        except ValueError as error:  # colours are no ids
            return str(error)
        return array.dtype, array.shape, array.tobytes()

    ours = found()
    monkeypatch.setattr(codec, "png_decode", None)
    assert ours == found()


@needs_libpng
def test_libpng_decodes_what_training_reads(monkeypatch):
    image, label = draw(9, 14, 3), draw(9, 14)
    monkeypatch.setattr(Image, "open", None)
    np.testing.assert_array_equal(codec.decode_image(png(Image.fromarray(image))), image)
    np.testing.assert_array_equal(codec.decode_ids(png(Image.fromarray(label))), label)


@needs_libpng
@pytest.mark.parametrize("length", [0, 10, 25, 60, -30])
def test_a_damaged_file_is_told_of_alike(monkeypatch, length):
    def message():
        with pytest.raises(UserError) as caught, codec.naming("x.png"):
            codec.decode_image(FILES["RGB"][:length])
        return str(caught.value).partition("<_io")[0]

    ours = message()
    monkeypatch.setattr(codec, "png_decode", None)
    assert ours == message() and ours.startswith("x.png: damaged image (")


def test_a_photograph_is_kept_exactly_and_in_fewer_bytes():
    smooth = Image.fromarray(draw(6, 8, 3)).resize((160, 120), Image.Resampling.BICUBIC)
    noise = np.random.default_rng(1).normal(0, 1, (120, 160, 3))
    image = np.clip(np.asarray(smooth) + noise, 0, 255).astype(np.uint8)
    data = codec.encode_image(image)
    np.testing.assert_array_equal(codec.decode_image(data), image)
    assert len(data) < len(codec.encode_png(image))


def turned(place):
    """A PNG that says in one of three places that it lies on its side."""
    exif, more = Image.Exif(), PngImagePlugin.PngInfo()
    exif[ExifTags.Base.Orientation] = 6
    if place == "a text":
        block = exif.tobytes().hex()
        more.add_text("Raw profile type exif", f"\nexif\n{len(block) // 2:8}\n{block}\n", zip=True)
    if place == "XMP":
        tag = '<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
        more.add_itxt("XML:com.adobe.xmp", tag)
    given = {"exif": exif} if place == "a chunk" else {}
    return png(Image.fromarray(draw(9, 14, 3)), pnginfo=more, **given)


@needs_libpng
def test_the_quick_reader_leaves_to_pillow_what_needs_more(monkeypatch):
    """Of the files here it reads only the plain one, and one with a harmless text."""
    told = PngImagePlugin.PngInfo()
    told.add_text("Software", "a screen")
    files = {
        **FILES,
        "with a text": png(Image.fromarray(draw(9, 14, 3)), pnginfo=told),
        **{f"turned by {place}": turned(place) for place in ("a chunk", "a text", "XMP")},
    }
    read = {name for name, data in files.items() if quick_png.decode(data) is not None}
    assert read == {"RGB", "with a text"}
    ours = {name: photograph.read(data) for name, data in files.items()}
    assert ours["turned by XMP"].shape == ours["turned by a text"].shape == (14, 9, 3)
    monkeypatch.setattr(codec, "png_decode", None)
    for name, data in files.items():
        np.testing.assert_array_equal(photograph.read(data), ours[name], name)
    for length in (0, 7, 10, 25, 60):
        assert quick_png.decode(files["RGB"][:length]) is None


@pytest.mark.parametrize("shape", [(9, 14, 3), (9, 14), (1, 1, 3), (300, 1)])
def test_the_quick_writer_keeps_every_pixel(monkeypatch, shape):
    image = draw(*shape)
    by_libdeflate = quick_png.encode(image)
    monkeypatch.setattr(quick_png, "deflate_encode", None)
    for data in (by_libdeflate, quick_png.encode(image)):
        with Image.open(io.BytesIO(data)) as opened:
            opened.verify()  # the checksums
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(data))), image)
