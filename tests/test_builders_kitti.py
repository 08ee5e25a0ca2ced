"""Virtual KITTI of both versions and KITTI in their published layouts, and what goes wrong."""

import re

import numpy as np
import pytest
from kit.raw_files import draw, label_of, open_all, save

from jaxseg.data import codec, labels, records
from jaxseg.data.builders import kitti, virtual_kitti
from jaxseg.errors import UserError

SIZE = (12, 20)
COLOURS = {  # of the published colors.txt, with the classes that they become
    (210, 0, 200): "terrain", (90, 200, 255): "sky", (0, 199, 0): "vegetation",
    (90, 240, 0): "vegetation", (140, 140, 140): "building", (100, 60, 100): "road",
    (250, 100, 255): None, (255, 255, 0): "traffic sign", (200, 200, 0): "traffic light",
    (255, 130, 0): "pole", (80, 80, 80): None, (160, 60, 60): "truck", (255, 127, 80): "car",
    (0, 139, 139): "car", (0, 0, 0): None,
}  # fmt: skip


def painted(seed, colours):
    """An image of random listed colours, and its train ids."""
    listed = list(colours)
    choice = draw(seed, *SIZE, high=len(listed))
    names = [255 if n is None else labels.CITYSCAPES.classes.index(n) for n in colours.values()]
    return np.array(listed, np.uint8)[choice], np.array(names, np.uint8)[choice]


def centimetres(seed):
    depth = draw(seed, *SIZE, high=20000, dtype=np.uint16)
    depth[0, :3] = 65535, 40000, 0
    return depth


def check_depth(record, stored):
    depth = codec.decode_depth(record["depth"])
    assert depth[0, 0] == depth[0, 2] == 0 and depth[0, 1] == 65535 / 256
    np.testing.assert_allclose(depth[1:], stored[1:] / 100, atol=1 / 256)


# --- Virtual KITTI 1.3.1


def make_first(root, worlds=("0001", "0002"), variations=("clone", "fog"), top=""):
    expected = {}
    root = root / "virtual_kitti" / top
    for w, world in enumerate(worlds):
        for v, variation in enumerate(variations):
            # Vehicles have colours of their own in each video, that may mean others in the next.
            cars = {(200, 200, 100 + v): "car", (201, 200, 100 - v): "truck", (9, 9, 9): "car"}
            names = {
                (200, 200, 100 + v): "Car:0",
                (201, 200, 100 - v): "Truck",
                (9, 9, 9): "Van:12",
            }
            fixed = {(210, 0, 200): "terrain", (255, 100, 255): None, (90, 200, 255): "sky"}
            names |= {(210, 0, 200): "Terrain", (255, 100, 255): "GuardRail", (90, 200, 255): "Sky"}
            lines = [f"{name} {' '.join(map(str, colour))}" for colour, name in names.items()]
            folder = root / "vkitti_1.3.1_scenegt"
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / f"{world}_{variation}_scenegt_rgb_encoding.txt"
            path.write_text("\n".join(["Category(:id) r g b", *lines]) + "\n")
            for frame in range(2):
                seed, place = 4 * w + 2 * v + frame, f"{world}/{variation}/{frame:05d}.png"
                image, label = painted(seed, fixed | cars)
                save(folder / place, image)
                save(root / "vkitti_1.3.1_rgb" / place, draw(seed, *SIZE, 3))
                save(root / "vkitti_1.3.1_depthgt" / place, centimetres(seed))
                expected[f"{world}_{variation}_{frame:05d}"] = label, centimetres(seed)
    return expected


@pytest.mark.parametrize("top", ["", "vkitti"])
def test_virtual_kitti_1(tmp_path, capsys, top):
    expected = make_first(tmp_path / "raw", top=top)
    options = {"variations": ("fog", "clone")}
    found = open_all("virtual_kitti", tmp_path, **options)
    assert list(found) == list(expected)
    for name, record in found.items():
        np.testing.assert_array_equal(label_of(record), expected[name][0])
        check_depth(record, expected[name][1])
    held_out = open_all("virtual_kitti", tmp_path, "val", **options)
    rest = open_all("virtual_kitti", tmp_path, "train_rest", **options)
    assert {name[:4] for name in held_out} == {"0002"} and {name[:4] for name in rest} == {"0001"}
    assert sorted({**held_out, **rest}) == sorted(found)
    said = capsys.readouterr().out
    assert "virtual_kitti train holds 8 images, 4252 were published" in said
    assert "virtual_kitti val holds 4 images, 466 were published" in said
    one = open_all("virtual_kitti", tmp_path, variations="fog")
    assert list(one) == [name for name in expected if "fog" in name]
    source = records.open_split("virtual_kitti", "val", records_dir=tmp_path / "records", **options)
    assert set(source.has) == {"image", "label", "depth"} and source.label_set is labels.CITYSCAPES
    assert source.folder.parent.name == "1.3.1-clone_fog-original-val"


def test_virtual_kitti_published_counts():
    assert sum(virtual_kitti.FRAMES.values()) * len(virtual_kitti.VARIATIONS) == 21260
    config = virtual_kitti.config()
    assert config.options["published"] == 21260 and config.name == "1.3.1-all-original-train"
    parts = [virtual_kitti.config(split=split) for split in ("train_rest", "val")]
    assert sum(part.options["published"] for part in parts) == 21260


def test_virtual_kitti_1_what_goes_wrong(tmp_path):
    def message(split="train", **options):
        with pytest.raises(UserError) as caught:
            open_all("virtual_kitti", tmp_path, split, **options)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    clone = {"variations": ("clone",)}
    assert "vkitti_1.3.1_{rgb,depthgt,scenegt}/WORLD/VARIATION/NNNNN.png" in message()
    assert "no version '3'; choose one of 1.3.1, 2" in message(version="3")
    assert "no variation 'snow'; choose from 15-deg-left," in message(variations=("snow",))
    assert "no split 'test'; it has train, train_rest, val" in message("test")
    make_first(tmp_path / "raw", worlds=("0001",))
    assert "holds no images of 15-deg-left, 15-deg-right" in message()
    assert "holds no images of 'val'" in message("val", **clone)
    root = tmp_path / "raw" / "virtual_kitti"
    depth = root / "vkitti_1.3.1_depthgt/0001/clone/00001.png"
    data = depth.read_bytes()
    depth.write_bytes(data[:-40])
    assert "clone/00001.png: damaged image" in message(**clone)
    save(depth, np.ones((3, 4), np.uint16))
    assert "00001.png: depth (3, 4), image (12, 20); the two must have one size" in message(**clone)
    depth.unlink()
    said = "1 of 2 images have no depth, first vkitti_1.3.1_rgb/0001/clone/00001.png"
    assert said in message(**clone)
    depth.write_bytes(data)
    label = root / "vkitti_1.3.1_scenegt/0001/clone/00000.png"
    image = np.full((*SIZE, 3), 210, np.uint8)
    save(label, image)
    assert "00000.png: unknown colour 210 210 210 in 240 pixels; is the option" in message(**clone)
    image[...] = 210, 0, 200
    image[3, 4:6] = 1, 2, 3  # less than 1 %
    save(label, image)
    found = label_of(open_all("virtual_kitti", tmp_path, **clone)["0001_clone_00000"])
    assert (found == 255).sum() == 2 and found[0, 0] == labels.CITYSCAPES.classes.index("terrain")
    text = root / "vkitti_1.3.1_scenegt/0001_clone_scenegt_rgb_encoding.txt"
    again = {**clone, "size": (6, 10)}
    text.write_text("Category(:id) r g b\nCar:0 1 2\n")
    assert "encoding.txt: line 2 is 'Car:0 1 2', wanted a name and three" in message(**again)
    text.write_text("Category(:id) r g b\nCow:0 1 2 3\n")
    assert "encoding.txt: unknown class 'Cow'; known: Terrain, Sky" in message(**again)
    text.write_text("Category(:id) r g b\n")
    assert "encoding.txt: no colours in it" in message(**again)
    text.unlink()
    assert "has no vkitti_1.3.1_scenegt/0001_clone_scenegt_rgb_encoding.txt" in message(**again)


# --- Virtual KITTI 2


def make_second(root, archives=True):
    expected, tops = {}, ("rgb", "depth", "classSegmentation")
    for world in ("01", "02"):
        for camera in (0, 1):
            for frame in range(2):
                image, label = painted(int(world) + frame, COLOURS)
                stored = centimetres(frame)
                for top, array, name in zip(
                    tops, (draw(frame, *SIZE, 3), stored, image),
                    (f"rgb_{frame:05d}.jpg", f"depth_{frame:05d}.png", f"classgt_{frame:05d}.png"),
                    strict=True,
                ):  # fmt: skip
                    archive = f"vkitti_2.0.3_{top}" if archives else ""
                    folder = root / "virtual_kitti" / archive / f"Scene{world}" / "rain"
                    save(folder / "frames" / top / f"Camera_{camera}" / name, array)
                if not camera:
                    expected[f"00{world}_rain_{frame:05d}"] = label, stored
    return expected


@pytest.mark.parametrize("archives", [False, True])
def test_virtual_kitti_2(tmp_path, archives):
    expected = make_second(tmp_path / "raw", archives)
    options = {"version": "2", "variations": ("rain",)}
    found = open_all("virtual_kitti", tmp_path, **options)
    assert list(found) == list(expected)
    for name, record in found.items():
        np.testing.assert_array_equal(label_of(record), expected[name][0])
        check_depth(record, expected[name][1])
    assert len(open_all("virtual_kitti", tmp_path, "val", **options)) == 2
    table = labels.remap(labels.CITYSCAPES, labels.VIRTUAL_KITTI)
    classes = set(np.unique(table[label_of(found["0001_rain_00000"])]).tolist())
    assert classes == {*range(10), 255}
    with pytest.raises(UserError, match="holds none of the published files.*vkitti_1.3.1_"):
        open_all("virtual_kitti", tmp_path)
    for path in (tmp_path / "raw").rglob("classgt_00001.png"):
        path.unlink()
    with pytest.raises(UserError, match="2 of 4 images have no label, first Scene01/rain/frames/"):
        open_all("virtual_kitti", tmp_path, size=(6, 10), **options)


# --- KITTI


CALIBRATION = (
    "calib_time: 09-Jan-2012 13:57:47\n"
    "P_rect_02: 721.5 0 609.5 {} 0 721.5 172.8 0.2 0 0 1 0.003\n"
    "P_rect_03: 721.5 0 609.5 -339.5 0 721.5 172.8 2.1 0 0 1 0.003\n"
)


def make_kitti(root, numbers=(0, 4, 5, 11), stereo=True):
    root, expected = root / "kitti", {}
    for i, number in enumerate(numbers):
        size = (SIZE[0] + i % 2, SIZE[1])  # they differ
        name = f"{number:06d}_10.png"
        semantics = root / "data_semantics" / "training"
        save(semantics / "image_2" / name, draw(number, *size, 3))
        raw = draw(number + 1, *size, high=34)
        save(semantics / "semantic" / name, raw)
        save(semantics / "instance" / name, draw(1, *size, high=9000, dtype=np.uint16))
        save(root / "data_semantics" / "testing" / "image_2" / name, draw(number + 7, *size, 3))
        disparity = draw(number + 2, *size, high=30000, dtype=np.uint16)
        disparity[0, :2] = 0, 1
        expected[f"{number:06d}"] = raw, disparity
        if stereo:
            flow = root / "data_scene_flow" / "training"
            save(flow / "disp_occ_0" / name, disparity)
            save(flow / "disp_noc_0" / name, disparity * 0)
            save(flow / "image_2" / name, draw(number, *size, 3))
            save(flow / "image_2" / f"{number:06d}_11.png", draw(8, *size, 3))
            folder = root / "data_scene_flow_calib" / "training" / "calib_cam_to_cam"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{number:06d}.txt").write_text(CALIBRATION.format(44.5))
    return expected


def test_kitti(tmp_path, capsys):
    expected = make_kitti(tmp_path / "raw")
    found = open_all("kitti", tmp_path, "val", depth="disparity")
    assert list(found) == list(expected)
    table = labels.id_table(labels.CITYSCAPES.ids)
    for name, record in found.items():
        raw, disparity = expected[name]
        np.testing.assert_array_equal(label_of(record), table[raw])
        depth = codec.decode_depth(record["depth"])
        assert depth[0, 0] == 0 and depth[0, 1] == 65535 / 256  # not measured; far away
        metres = 384.0 / (np.maximum(disparity, 1) / 256)
        near = (disparity > 0) & (metres < 255)
        np.testing.assert_allclose(depth[near], metres[near], atol=1 / 256)
    assert "kitti val holds 4 images, 200 were published" in capsys.readouterr().out
    assert list(open_all("kitti", tmp_path, "val_rest")) == ["000000", "000005"]
    assert list(open_all("kitti", tmp_path, "train_rest")) == ["000004", "000011"]
    for depth in ("", "disparity"):  # the same records: there is no depth of the unlabelled
        for record in open_all("kitti", tmp_path, "train", depth=depth).values():
            assert record.keys() == {"id", "image"}
    folders = {p.name for p in (tmp_path / "records" / "kitti").iterdir() if p.is_dir()}
    assert folders == {
        "original-val-disparity", "original-val_rest", "original-train_rest", "original-train",
    }  # fmt: skip
    assert sum(kitti._COUNTS[split] for split in ("train_rest", "val_rest")) == 200


def test_kitti_what_goes_wrong(tmp_path):
    def message(split="val", **options):
        with pytest.raises(UserError) as caught:
            open_all("kitti", tmp_path, split, **options)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    stereo = {"depth": "disparity"}
    assert re.search("no folder .*kitti; expected DIR/kitti/training/.image_2,semantic", message())
    assert "no depth 'laser'; choose 'disparity', or '' for none" in message(depth="laser")
    assert "it has train, val, train_rest, val_rest" in message("test")
    make_kitti(tmp_path / "raw", numbers=(1, 2), stereo=False)
    assert "holds no training/disp_occ_0 (data_scene_flow.zip), which the" in message(**stereo)
    assert "holds no images of val_rest" in message("val_rest")
    root = tmp_path / "raw" / "kitti"
    disparity = root / "training/disp_occ_0/000001_10.png"
    save(disparity, np.ones((12, 20), np.uint16))
    said = "holds no training/calib_cam_to_cam (data_scene_flow_calib.zip), which the option"
    assert said in message(**stereo)
    camera = root / "training/calib_cam_to_cam/000001.txt"
    camera.parent.mkdir()
    camera.write_text(CALIBRATION.format("none"))
    assert "1 of 2 images have no depth, first training/image_2/000002_10.png" in message(**stereo)
    save(root / "training/disp_occ_0/000002_10.png", np.ones((13, 20), np.uint16))
    (camera.parent / "000002.txt").write_text(CALIBRATION.format(44.5))
    assert "000001.txt: no P_rect_02 and P_rect_03 of 12 numbers" in message(**stereo)
    camera.write_text(CALIBRATION.format(-400))
    assert "000001.txt: focal length * baseline is -60.5" in message(**stereo)
    camera.write_bytes(b"\xff\xfe")
    assert "000001.txt: no P_rect_02" in message(**stereo)
