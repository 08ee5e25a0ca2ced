"""Builders on tiny data sets in the published layouts, with the pitfalls of the published files."""

import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from kit.raw_files import SIZE, draw, label_of, make_cityscapes, open_all, save, zip_up
from PIL import Image

from jaxseg.data import codec, labels, pipeline, raw_files, records
from jaxseg.errors import UserError

CAMVID = Path(__file__).parents[1].parent / "shared" / "data" / "camvid"


def png16(array):
    """A 16-bit PNG of several channels, its rows filtered in turn by all five filters."""
    height, width, channels = array.shape
    rows = array.astype(">u2").tobytes()
    stride, pixel = width * channels * 2, channels * 2
    above, out = np.zeros(stride + pixel, np.int32), []
    for y in range(height):
        row = np.frombuffer(rows[y * stride : (y + 1) * stride], np.uint8).astype(np.int32)
        row = np.concatenate([np.zeros(pixel, np.int32), row])
        left, up, corner = row[:-pixel], above[pixel:], above[:-pixel]
        distances = np.abs([up - corner, left - corner, left + up - 2 * corner])
        paeth = np.choose(distances.argmin(0), [left, up, corner])
        predicted = [0, left, up, (left + up) // 2, paeth][y % 5]
        out.append(bytes([y % 5]) + ((row[pixel:] - predicted) % 256).astype(np.uint8).tobytes())
        above = row

    def chunk(kind, data):
        crc = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)

    header = struct.pack(">IIBBBBB", width, height, 16, {2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"".join(out)))
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b"")


# --- GTA5


def make_gta5(root):
    """Five images: labels as palette, grey, RGB, RGBA, and a palette one of another size."""
    ids = {}
    for number in range(1, 6):
        save(root / "images" / f"{number:05d}.png", draw(number, *SIZE, 3))
        shape = SIZE if number != 5 else (SIZE[0] // 2, SIZE[1] // 2)
        raw = draw(10 + number, *shape, high=35)
        ids[f"{number:05d}"] = raw
        if number in (1, 5):
            label = Image.fromarray(raw)
            label.putpalette(draw(99, 768).tobytes())
        elif number == 2:
            label = Image.fromarray(raw)
        else:
            train = labels.lookup(labels.id_table(labels.CITYSCAPES.ids), raw)
            colours = labels.colorize(train, labels.CITYSCAPES)
            colours[raw == 0] = (1, 2, 3)  # a colour of no class
            label = Image.fromarray(colours).convert("RGBA" if number == 4 else "RGB")
        save(root / "labels" / f"{number:05d}.png", label)
    return ids


def expected_ids(raw):
    table = np.full(256, 255, np.uint8)
    for train, published in enumerate(
        (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
    ):
        table[published] = train
    return table[raw]


@pytest.mark.parametrize("packed", [False, True])
def test_gta5(tmp_path, packed, capsys):
    root = tmp_path / "raw" / "gta5"
    ids = make_gta5(root)
    image = (root / "images" / "00003.png").read_bytes()
    if packed:
        zip_up(root, root / "01_images.zip", ("images/00001", "images/00002"))
        zip_up(root, root / "02_images.zip", "images")
        zip_up(root, root / "01_labels.zip", "labels")
    found = open_all("gta5", tmp_path)
    assert list(found) == ["00001", "00002", "00003", "00004", "00005"]
    assert found["00003"]["image"] == image
    for name in ("00001", "00002", "00003", "00004"):
        np.testing.assert_array_equal(label_of(found[name]), expected_ids(ids[name]))
    doubled = expected_ids(ids["00005"]).repeat(2, 0).repeat(2, 1)
    np.testing.assert_array_equal(label_of(found["00005"]), doubled)
    said = capsys.readouterr().out
    assert "00005.png: label (6, 10), image (12, 20): resized" in said
    assert "holds 5 images, 24966 were published" in said


def test_stored_at_a_size(tmp_path):
    root = tmp_path / "raw" / "gta5"
    ids = make_gta5(root)
    source = Image.open(root / "images" / "00001.png")
    found = open_all("gta5", tmp_path, size=(6, 10))
    expected = np.asarray(source.resize((10, 6), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(codec.decode_image(found["00001"]["image"]), expected)
    expected = np.asarray(
        Image.fromarray(expected_ids(ids["00001"])).resize((10, 6), Image.Resampling.NEAREST)
    )
    np.testing.assert_array_equal(label_of(found["00001"]), expected)
    # The odd label goes straight from its own size to the stored one, not by way of the image's.
    np.testing.assert_array_equal(label_of(found["00005"]), expected_ids(ids["00005"]))
    # Another size is another preparation.
    assert codec.decode_image(open_all("gta5", tmp_path)["00001"]["image"]).shape == (*SIZE, 3)


# --- SYNTHIA


@pytest.mark.parametrize("channels", [2, 3, 4])
@pytest.mark.parametrize("depth_folder", ["Depth/Depth", "Depth"])
def test_synthia(tmp_path, channels, depth_folder):
    root = tmp_path / "raw" / "synthia" / "RAND_CITYSCAPES"  # as the archive unpacks
    raw, centimetres = {}, {}
    for number in range(2):
        name = f"{number:07d}"
        save(root / "RGB" / f"{name}.png", draw(number, *SIZE, 3))
        array = draw(5 + number, *SIZE, channels, high=65536, dtype=np.uint16)
        raw[name] = array[..., 0] = draw(7 + number, *SIZE, high=23)
        path = root / "GT" / "LABELS" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png16(array))
        save(root / "GT" / "COLOR" / f"{name}.png", draw(9, *SIZE, 3))  # must not be taken
        depth = draw(11 + number, *SIZE, 3, high=20000, dtype=np.uint16)
        depth[0, :3, 0] = 0, 65535, 60000
        centimetres[name] = depth[..., 0]
        path = root / depth_folder / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png16(depth))
    found = open_all("synthia", tmp_path)
    table = {3: 0, 4: 1, 2: 2, 21: 3, 5: 4, 7: 5, 15: 6, 9: 7, 6: 8, 16: 9, 1: 10, 10: 11, 17: 12}
    table |= {8: 13, 18: 14, 19: 15, 20: 16, 12: 17, 11: 18}
    for name, record in found.items():
        expected = np.vectorize(lambda value: table.get(int(value), 255))(raw[name])
        np.testing.assert_array_equal(label_of(record), expected)
        depth = codec.decode_depth(record["depth"])
        assert depth.dtype == np.float32
        assert depth[0, 0] == depth[0, 1] == 0 and abs(depth[0, 2] - 256) < 0.01
        near = centimetres[name] < 25000
        np.testing.assert_allclose(depth[near], centimetres[name][near] / 100, atol=1 / 256)


# --- Cityscapes


@pytest.mark.parametrize("packed", [False, True])
def test_cityscapes(tmp_path, packed):
    root = tmp_path / "raw" / "cityscapes"
    raw = make_cityscapes(root)
    if packed:
        zip_up(root, root / "leftImg8bit_trainvaltest.zip", "leftImg8bit")
        zip_up(root, root / "gtFine_trainvaltest.zip", "gtFine")
    for split, number in (("train", 3), ("val", 2)):
        found = open_all("cityscapes", tmp_path, split)
        assert len(found) == number
        for name, record in found.items():
            np.testing.assert_array_equal(label_of(record), expected_ids(raw[split, name]))
    (record,) = open_all("cityscapes", tmp_path, "test").values()
    assert record.keys() == {"id", "image"}  # withheld


# --- CamVid


def make_camvid(root, splits=("train", "val")):
    raw = {}
    for split in splits:
        for i in range(2):
            save(root / split / f"{split}{i}.png", draw(i, *SIZE, 3))
            raw[f"{split}{i}"] = draw(4 + i, *SIZE, high=12)
            save(root / f"{split}annot" / f"{split}{i}.png", raw[f"{split}{i}"])
    return raw


def test_camvid(tmp_path):
    raw = make_camvid(tmp_path / "raw" / "camvid")
    for name, record in open_all("camvid", tmp_path, "val").items():
        expected = np.where(raw[name] == 11, 255, raw[name])
        np.testing.assert_array_equal(label_of(record), expected)
    with pytest.raises(UserError, match="holds no images of test; expected DIR/camvid/"):
        open_all("camvid", tmp_path, "test")
    with pytest.raises(UserError, match="camvid has no split 'all'; it has train, val, test"):
        open_all("camvid", tmp_path, "all")


def test_only_the_wanted_split_is_needed_and_prepared(tmp_path):
    make_camvid(tmp_path / "raw" / "camvid", splits=("val",))
    assert len(open_all("camvid", tmp_path, "val", size=(6, 10))) == 2
    (folder,) = [p for p in (tmp_path / "records" / "camvid").iterdir() if p.is_dir()]
    assert folder.name == "6x10-val"
    with pytest.raises(UserError, match="holds no images of train"):
        open_all("camvid", tmp_path, "train")


def test_checking_says_the_same_and_prepares_nothing(tmp_path):
    places = {"records_dir": tmp_path / "records", "raw_dir": tmp_path / "raw"}
    make_camvid(tmp_path / "raw" / "camvid", splits=("val",))
    make_gta5(tmp_path / "raw" / "gta5")
    raw_files.check("camvid", "val", **places)
    raw_files.check("gta5", "train", **places)
    (tmp_path / "raw" / "gta5" / "images" / "00004.png").unlink()
    wrong = (
        ("camvid", "train"), ("camvid", "all"), ("gta5", "train"), ("gta5", "val"),
        ("synthia", "train"), ("cityscapes", "val"), ("kittens", "train"),
    )  # fmt: skip
    said = []
    for check in (raw_files.check, records.open_split):
        for name, split in wrong:
            with pytest.raises(UserError) as caught:
                check(name, split, **places)
            said.append(str(caught.value))
        assert check is records.open_split or not (tmp_path / "records").exists()
    assert said[: len(wrong)] == said[len(wrong) :]
    records.open_split("camvid", "val", **places)
    shutil.rmtree(tmp_path / "raw")
    raw_files.check("camvid", "val", **places)  # what is prepared needs no published files
    with pytest.raises(UserError, match="no folder"):
        raw_files.check("camvid", "val", size=(6, 10), **places)


@pytest.mark.skipif(not CAMVID.exists(), reason="needs the real CamVid")
def test_real_camvid(tmp_path):
    raw = CAMVID.parent
    source = records.open_split("camvid", "val", records_dir=tmp_path, raw_dir=raw, size=(90, 120))
    assert len(source) == 101
    batches = list(pipeline.eval_batches(source, size=None, batch=40))
    seen = np.concatenate([batch["label"][batch["valid"]] for batch in batches])
    shares = np.bincount(seen.ravel(), minlength=256) / seen.size
    assert set(np.flatnonzero(shares)) <= {*range(11), 255}
    assert shares[3] > 0.15 and shares[1] > 0.1  # road and building are what streets are made of


# --- what users get wrong


def test_missing_and_half_unpacked(tmp_path):
    def message(name):
        with pytest.raises(UserError) as caught:
            open_all(name, tmp_path)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    said = message("gta5")
    assert "raw/gta5" in said and "{images,labels}/NNNNN.png" in said
    assert "--config.data.root=DIR" in said
    assert "no folder" in message("synthia") and "no folder" in message("cityscapes")
    (tmp_path / "raw" / "synthia").mkdir(parents=True)
    assert "holds none of the published files" in message("synthia")
    root = tmp_path / "raw" / "gta5"
    make_gta5(root)
    (root / "labels" / "00002.png").unlink()
    assert "1 of 5 images have no label, first images/00002.png" in message("gta5")
    root = tmp_path / "raw" / "cityscapes"
    make_cityscapes(root)
    zip_up(root, root / "gtFine_trainvaltest.zip", "gtFine")
    data = (root / "gtFine_trainvaltest.zip").read_bytes()
    (root / "gtFine_trainvaltest.zip").write_bytes(data[: len(data) // 2])
    assert "gtFine_trainvaltest.zip: not a complete zip" in message("cityscapes")


@pytest.mark.parametrize("kind", ["images", "labels"])
@pytest.mark.parametrize("packed", [False, True])
def test_a_damaged_file_is_named_and_leaves_nothing_behind(tmp_path, kind, packed):
    root = tmp_path / "raw" / "gta5"
    make_gta5(root)
    path = root / kind / "00004.png"
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    if packed:
        zip_up(root, root / f"01_{kind}.zip", kind)
    with pytest.raises(UserError, match=f"{kind}/00004.png: damaged image"):
        open_all("gta5", tmp_path)
    if not packed:
        path.write_bytes(data)  # fetched again
        assert len(open_all("gta5", tmp_path)) == 5


@pytest.mark.parametrize("name", ["camvid", "cityscapes"])
def test_an_unknown_label_value_is_named_with_its_file(tmp_path, name):
    make = {"camvid": make_camvid, "cityscapes": make_cityscapes}[name]
    make(tmp_path / "raw" / name)
    pattern = {"camvid": "valannot/val1.png", "cityscapes": "*000001_000019_gtFine_labelIds.png"}
    (path,) = [p for p in (tmp_path / "raw").rglob(pattern[name]) if "/val" in str(p)]
    raw = np.asarray(Image.open(path)).copy()
    raw[0, :7], raw[1, :2] = 77, 78
    save(path, raw)
    span = {"camvid": "0-11, 255", "cityscapes": "0-33, 255"}[name]
    said = rf"{path.name}: unknown label value 77 in 7 pixels \(and 1 more such values\); known"
    with pytest.raises(UserError, match=f"{said} are {span}$"):
        open_all(name, tmp_path, "val")


def test_a_label_of_another_size_is_refused_where_none_is_known(tmp_path):
    root = tmp_path / "raw" / "camvid"
    make_camvid(root)
    save(root / "trainannot" / "train1.png", draw(0, 3, 4, high=11))
    with pytest.raises(UserError, match=r"train1.png: label \(3, 4\), image \(12, 20\)"):
        open_all("camvid", tmp_path)
