"""UrbanSyn, Synscapes, ACDC, Dark Zurich, BDD100K, Mapillary, IDD, SHIFT and WildDash 2 in their
published layouts, unpacked and in zips.
"""

import zipfile

import numpy as np
import pytest
from kit.raw_files import SIZE, draw, label_of, open_all, save
from PIL import Image

from jaxseg.data import codec, labels, raw_files
from jaxseg.errors import UserError

CITY = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
CITY = dict(zip(CITY, range(19), strict=True))
TRAIN = {i: i for i in range(19)}
# Written down again from the publishers' lists of names: name of the tag -> Cityscapes' name.
SHIFT = "unlabelled building fence other pedestrian pole roadline road sidewalk vegetation vehicle "
SHIFT += "wall sign sky ground bridge railtrack guardrail light static dynamic water terrain"
SHIFT_TO = {"pedestrian": "person", "roadline": "road", "vehicle": "car", "sign": "traffic sign"}
SHIFT_TO |= {"light": "traffic light"}
MAPILLARY = {  # id: name in Cityscapes' words
    **{13: "road", 24: "road", 41: "road", 2: "sidewalk", 15: "sidewalk", 17: "building"},
    **{6: "wall", 3: "fence", 45: "pole", 47: "pole", 48: "traffic light", 50: "traffic sign"},
    **{30: "vegetation", 29: "terrain", 27: "sky", 19: "person", 20: "rider", 21: "rider"},
    **{22: "rider", 55: "car", 61: "truck", 54: "bus", 58: "train", 57: "motorcycle"},
    **{52: "bicycle"},
}


def of_names(names):
    """{id: train id} of {id: Cityscapes' name}, without other names."""
    classes = labels.CITYSCAPES.classes
    return {i: classes.index(name) for i, name in names.items() if name in classes}


SHIFT_IDS = of_names({i: SHIFT_TO.get(n, n) for i, n in enumerate(SHIFT.split())})
# Of each: split, image's and label's path, id of the record, ids in the file, their train ids.
LAYOUTS = {
    "urbansyn": ("train", "rgb/rgb_0050.png", "ss/ss_0050.png", "0050", 20, TRAIN),
    "synscapes": ("train", "img/rgb/7.png", "img/class/7.png", "7", 34, CITY),
    "acdc": (
        *("train", "rgb_anon/fog/train/GOPR0475/GOPR0475_frame_000041_rgb_anon.png"),
        *("gt/fog/train/GOPR0475/GOPR0475_frame_000041_gt_labelTrainIds.png",),
        *("GOPR0475_frame_000041", 19, TRAIN),
    ),
    "dark_zurich": (
        *("val", "rgb_anon/val/night/GOPR0356/GOPR0356_frame_000321_rgb_anon.png"),
        *("gt/val/night/GOPR0356/GOPR0356_frame_000321_gt_labelTrainIds.png",),
        *("GOPR0356_frame_000321", 19, TRAIN),
    ),
    "bdd100k": (
        *("val", "bdd100k/images/10k/val/7d06fefd-f7be05a6.jpg"),
        *("bdd100k/labels/sem_seg/masks/val/7d06fefd-f7be05a6.png",),
        *("7d06fefd-f7be05a6", 19, TRAIN),
    ),
    "mapillary": (
        *("val", "validation/images/M2kh294N9c.jpg", "validation/labels/M2kh294N9c.png"),
        *("M2kh294N9c", 66, of_names(MAPILLARY)),
    ),
    "idd": (
        *("train", "leftImg8bit/train/119/903127_leftImg8bit.png"),
        *("gtFine/train/119/903127_gtFine_labelcsTrainIds.png", "119_903127", 19, TRAIN),
    ),
    "shift": (
        *("train", "discrete/images/train/front/img/0003-17fb/00000010_img_front.jpg"),
        *("discrete/images/train/front/semseg/0003-17fb/00000010_semseg_front.png",),
        *("0003-17fb_00000010", 23, SHIFT_IDS),
    ),
    "wilddash2": ("train", "images/aa0000.jpg", "labels/aa0000.png", "aa0000", 39, CITY),
}


def make(root, name):
    """Writes one image and its label; returns the ids in the label."""
    _, image, label, _, count, _ = LAYOUTS[name]
    save(root / image, draw(1, *SIZE, 3))
    raw = draw(2, *SIZE, high=count)
    raw[0, :count] = np.arange(count)[: SIZE[1]]
    raw[1, 0] = 255 if name != "shift" else 0
    written = raw
    if name == "mapillary":  # a palette
        written = Image.fromarray(raw).convert("P")
        written.putdata(raw.ravel().tolist())
    if name == "shift":  # the first of four channels
        written = np.stack([raw, draw(3, *SIZE), draw(4, *SIZE), np.full(SIZE, 255, np.uint8)], -1)
    save(root / label, written)
    return raw


LICENCES = {
    "acdc": "for non-commercial use", "bdd100k": "free with its notice for research",
    "dark_zurich": "for non-commercial use", "idd": "for research",
    "mapillary": "CC BY-NC-SA", "shift": "CC BY-NC-SA 4.0", "synscapes": "for research",
    "urbansyn": "CC BY-SA 4.0: commercial use is allowed",
    "wilddash2": "for non-commercial research",
}  # fmt: skip


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", LAYOUTS)
def test_labels_become_train_ids(name, packed, tmp_path, capsys):
    root = tmp_path / "raw" / name
    raw = make(root, name)
    split, image, _, key, _, ids = LAYOUTS[name]
    published = (root / image).read_bytes()
    if packed:
        pack(root, name)
    found = open_all(name, tmp_path, split)
    assert list(found) == [key]
    expected = np.vectorize(lambda value: ids.get(int(value), 255))(raw)
    np.testing.assert_array_equal(label_of(found[key]), expected)
    assert found[key]["image"] == published
    said = capsys.readouterr().out
    assert f"{name}: {LICENCES[name]}" in said and ("published" in said) == (name != "shift")


def pack(root, name):
    """Everything in one zip below a folder of its own; SHIFT's are where the folders would be."""
    files = sorted(p for p in root.rglob("*.*") if p.is_file())
    for path in files:
        archive, member = root / "all.zip", f"above/{path.relative_to(root).as_posix()}"
        if name == "shift":
            archive = path.parents[1].with_suffix(".zip")
            member = path.relative_to(path.parents[1]).as_posix()
        with zipfile.ZipFile(archive, "a") as file:
            file.write(path, member)
        path.unlink()


def test_conditions_and_times(tmp_path):
    root = tmp_path / "raw" / "acdc"
    for condition in ("fog", "night"):
        for split in ("train", "train_ref", "test"):
            ref = "_ref" if split.endswith("_ref") else ""
            stem = f"{condition}/{split}/GOPR1/{condition}_{split}"
            save(root / f"rgb_anon/{stem}_rgb{ref}_anon.png", draw(1, *SIZE, 3))
            if split == "train":
                save(root / f"gt/{stem}_gt_labelTrainIds.png", draw(2, *SIZE, high=19))
    assert list(open_all("acdc", tmp_path)) == ["fog_train", "night_train"]
    assert list(open_all("acdc", tmp_path, condition="night")) == ["night_train"]
    for split in ("train_ref", "test"):
        found = open_all("acdc", tmp_path, split)
        assert list(found) == [f"fog_{split}", f"night_{split}"]
        assert all("label" not in record for record in found.values())
    with pytest.raises(UserError, match="acdc has no condition 'sun'; choose one of fog, night"):
        open_all("acdc", tmp_path, condition="sun")
    with pytest.raises(UserError, match="holds no images of train in rain; expected DIR/acdc/rgb"):
        open_all("acdc", tmp_path, condition="rain")

    root = tmp_path / "raw" / "dark_zurich"
    for time in ("day", "night"):
        save(root / f"rgb_anon/train/{time}/GOPR2/{time}_rgb_anon.png", draw(1, *SIZE, 3))
    assert list(open_all("dark_zurich", tmp_path)) == ["night"]
    assert list(open_all("dark_zurich", tmp_path, time="day")) == ["day"]
    with pytest.raises(UserError, match="holds no images in rgb_anon/train/twilight"):
        open_all("dark_zurich", tmp_path, time="twilight")
    with pytest.raises(UserError, match="no time 'dusk'; choose one of night, twilight, day"):
        open_all("dark_zurich", tmp_path, time="dusk")


def test_other_layouts_of_the_same_files(tmp_path):
    """Mapillary 2.0's folder of the older labels; ACDC without folders of conditions."""
    raw = make(tmp_path / "raw" / "mapillary", "mapillary")
    folder = tmp_path / "raw" / "mapillary" / "validation"
    (folder / "labels").rename(folder / "v1")
    (folder / "v1.2").mkdir()
    (folder / "v1").rename(folder / "v1.2" / "labels")
    (record,) = open_all("mapillary", tmp_path, "val").values()
    assert label_of(record)[0, 13] == 0 == TRAIN[raw[0, 13] - 13]

    make(tmp_path / "raw" / "acdc", "acdc")
    for kind in ("rgb_anon", "gt"):
        above = tmp_path / "raw" / "acdc" / kind
        (above / "fog" / "train").rename(above / "train")
    assert len(open_all("acdc", tmp_path)) == 1


def test_held_out_images(tmp_path):
    root = tmp_path / "raw" / "wilddash2"
    for i in range(12):
        save(root / f"images/ab{i:04}.jpg", draw(i, *SIZE, 3))
        save(root / f"labels/ab{i:04}.png", draw(i, *SIZE, high=34))
    assert list(open_all("wilddash2", tmp_path, "val")) == ["ab0009"]
    assert len(open_all("wilddash2", tmp_path, "train_rest")) == 11

    root = tmp_path / "raw" / "urbansyn"
    for number in (49, 50):
        save(root / f"rgb/rgb_{number:04}.png", draw(number, *SIZE, 3))
        save(root / f"ss/ss_{number:04}.png", draw(number, *SIZE, high=20))
    assert list(open_all("urbansyn", tmp_path, "val")) == ["0050"]
    assert list(open_all("urbansyn", tmp_path, "train_rest")) == ["0049"]


@pytest.mark.parametrize("name", LAYOUTS)
def test_what_is_missing_or_wrong_is_told_in_one_line(name, tmp_path):
    split, image, label, *_ = LAYOUTS[name]
    root = tmp_path / "raw" / name
    with pytest.raises(UserError, match=f"no folder .*; expected DIR/{name}/"):
        open_all(name, tmp_path, split)
    make(root, name)
    if name not in ("shift", "wilddash2"):  # colours, or an id that the data set does not have
        save(root / label, draw(3, *SIZE, 3))
        with pytest.raises(UserError, match=rf"{label}: holds colours; expected ids"):
            open_all(name, tmp_path, split)
    save(root / label, np.full(SIZE, 77, np.uint8))
    with pytest.raises(UserError, match=rf"{label}: unknown label value 77 in 240 pixels"):
        open_all(name, tmp_path, split)
    (root / label).unlink()
    with pytest.raises(UserError, match="1 of 1 images have no label|no drawn labels of train"):
        raw_files.check(name, split, records_dir=tmp_path / "records", raw_dir=tmp_path / "raw")
    assert codec.decode_image((root / image).read_bytes()).shape == (*SIZE, 3)
