"""An own pair: labelled source, unlabelled target, validation, tools' layouts, proportions."""

import importlib
import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from jaxseg.data import codec, photograph, pipeline, records
from jaxseg.data.conversion import folder_files, layouts
from jaxseg.errors import UserError
from jaxseg.experiment import batches, preparation
from jaxseg.report import beside
from jaxseg.run import inspect

SIZE = (12, 20)
CLASSES = "road\nsky\nmoon\n"


def draw(seed, *shape, high=256):
    return np.random.default_rng(seed).integers(0, high, shape).astype(np.uint8)


def save(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = array if isinstance(array, Image.Image) else Image.fromarray(array)
    image.save(path, **options)


def write(path, text=""):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def photographs(folder, *names, size=SIZE):
    for i, name in enumerate(names):
        save(folder / f"{name}.jpg", draw(i, *size, 3))


def masks(folder, *names, size=SIZE, end=".png"):
    for i, name in enumerate(names):
        save(folder / f"{name}{end}", draw(50 + i, *size, high=3))


def opened(root, split="train", side="source", records_dir=None, **options):
    settings = importlib.import_module("configs.advent").get_config("folders")
    settings.data.root = str(root)
    side = settings.data[side]
    return records.open_split(
        "folder", split, raw_dir=root, records_dir=records_dir or root / "records",
        **side.options.to_dict() | options,
    )  # fmt: skip


def ids(source):
    return [source[i]["id"] for i in range(len(source))]


def pair(root):
    """The layout of the preset, its two sides of other proportions and classes."""
    photographs(root / "source/images", *"abcdefghij")
    masks(root / "source/labels", *"abcdefghij")
    photographs(root / "target/images", "p", "q", "r", size=(30, 20))
    photographs(root / "target_val/images", "s", size=(30, 20))
    save(root / "target_val/labels/s.png", np.full((30, 20), 9, np.uint8))
    write(root / "classes.txt", CLASSES)
    write(root / "source/classes.txt", "street\nsky\nlamp\n")
    write(root / "source/class_map.txt", "street -> road\nlamp = moon\n")
    write(root / "target_val/classes.txt", "9 road\n7 lake\n")
    return root


def test_an_own_pair(tmp_path, capsys):
    root = pair(tmp_path)
    train, val = opened(root), opened(root, "val")
    assert len(train) == 9 and len(val) == 1 and train.labelled
    assert train.label_set.classes == ("road", "sky", "moon")
    target, scored = opened(root, side="target"), opened(root, "val", side="target")
    assert ids(target) == ["p", "q", "r"] and not target.labelled
    assert ids(scored) == ["s"] and scored.labelled
    assert scored.label_set.classes == ("road", "lake")
    config = importlib.import_module("configs.advent").get_config("folders")
    config.data.update(dict(root=str(root), records=str(root / "records")))
    config.data.source.size = config.data.target.size = (8, 8)
    reads = ("source_image", "source_label", "target_image")
    preparation.prepare(config, reads)
    inspect.run(config, str(tmp_path / "out"))
    written = json.loads((tmp_path / "out" / "survey.json").read_text())
    assert [part["images"] for part in written["parts"]] == [9, 1, 3, 1]
    assert written["parts"][3]["pixel_share"] == {"road": 1, "sky": 0, "moon": 0}
    said = " ".join(capsys.readouterr().out.split())
    assert "ignored, as not learnt, in target val: lake" in said and "in proportion" in said
    sheet = np.asarray(Image.open(tmp_path / "out" / "target_val.png"))
    assert sheet.shape[1] == 6 + 2 * 326  # the photograph, and with its labels
    assert np.abs(sheet[100:400, 6:326].astype(int) - sheet[100:400, 332:652]).mean() > 5
    # A class that no label can show, and a source without labels.
    write(root / "source/class_map.txt", "street -> road\nlamp -> void\n")
    with pytest.raises(UserError, match="has moon, which labels of .*classes.txt can never show"):
        preparation.prepare(config, reads)
    config.data.source.options.labels = ""
    with pytest.raises(UserError, match="no labels to learn from: .*source.options.labels=FOLDER"):
        preparation.prepare(config, reads)
    config.data.target.options.images = "nowhere/images"
    config.data.records = str(tmp_path / "other")
    with pytest.raises(UserError, match="no folder .*nowhere/images"):
        inspect.run(config, str(tmp_path / "out"))
    assert not (tmp_path / "other").exists()  # nothing was prepared before


@pytest.mark.parametrize(
    "file, made, match",
    [
        ("source/labels/d.png", np.full(SIZE, 5, np.uint8), "d.png: .*5"),
        ("source/labels/d.png", np.zeros((3, 4), np.uint8), r"d.png: label \(3, 4\), image"),
        ("target_val/labels/s.png", np.full((30, 20), 8, np.uint8), "s.png: .*8"),
        ("target_val/classes.txt", "9 lake\n7 sea\n", "cannot be turned into"),
        ("target/images/q.jpg", "no image", "q.jpg: damaged image"),
    ],
)
def test_a_wrong_file_of_either_side_is_told_before_anything_is_prepared(
    file, made, match, tmp_path
):
    root = pair(tmp_path)
    write(root / file, made) if isinstance(made, str) else save(root / file, made)
    config = importlib.import_module("configs.advent").get_config("folders")
    config.data.update(dict(root=str(root), records=str(root / "records")))
    config.data.source.size = config.data.target.size = (8, 8)
    with pytest.raises(UserError, match=match):
        inspect.run(config, str(tmp_path / "out"))
    with pytest.raises(UserError, match=match):
        preparation.prepare(config, ("source_image", "source_label", "target_image"))
    assert not any((root / "records").rglob("*.json"))


def test_labels_for_validation_only(tmp_path):
    photographs(tmp_path / "target/images", *"abcdef")
    masks(tmp_path / "target/labels", "b", "e")
    write(tmp_path / "classes.txt", CLASSES)
    given = dict(side="target", labels="target/labels")
    assert ids(opened(tmp_path, "val", **given)) == ["b", "e"]
    train = opened(tmp_path, **given)
    assert ids(train) == ["a", "c", "d", "f"] and not train.labelled
    with pytest.raises(UserError, match="4 of 6 images have no partner"):
        opened(tmp_path, **given, partly_labelled=False)
    root = tmp_path / "split"
    photographs(root / "target/images/training", "a", "b")
    photographs(root / "target/images/validation", "c")
    masks(root / "target/labels/validation", "c")
    write(root / "classes.txt", CLASSES)
    assert ids(opened(root, **given)) == ["a", "b"]
    assert ids(opened(root, "val", **given)) == ["c"] and opened(root, "val", **given).labelled


def test_learning_the_labels_of_an_own_target(tmp_path):
    """`oracle.py:folders` and `few_labels.py:folders`."""
    root = pair(tmp_path)
    masks(root / "target/labels", "p", "r", size=(30, 20))
    config = importlib.import_module("configs.few_labels").get_config("folders")
    config.data.update(dict(root=str(root), records=str(root / "records")))
    reads = ("source_image", "source_label")
    preparation.prepare(config, reads)
    learnt = batches.open_records(config, config.data.source, "train")
    scored = batches.open_records(config, config.data.target, "val", as_published=True)
    assert ids(learnt) == ["p", "r"] and learnt.label_set.classes == ("road", "sky", "moon")
    assert ids(scored) == ["s"] and beside.role_of(config.to_dict()) == beside.FEW
    config.data.source_share = 1.0
    assert beside.role_of(config.to_dict()) == beside.ORACLE
    adapted = importlib.import_module("configs.advent").get_config("folders")
    adapted.data.root = str(root)
    assert beside.same_task(config.to_dict(), adapted.to_dict())
    # An override of the target's folder is followed.
    config.data.target.options.images = "elsewhere/images"
    with pytest.raises(UserError, match="no folder .*elsewhere/images"):
        preparation.prepare(config, reads)
    config.data.target.options.images = "target/images"
    shutil.rmtree(root / "target_val")
    with pytest.raises(UserError, match="to be learnt, so those to score by need folders .*_val"):
        preparation.prepare(config, reads)
    shutil.rmtree(root / "target/labels")
    with pytest.raises(UserError, match="no folder .*target/labels; .*target holds images"):
        preparation.prepare(config, reads)


def test_prefixes_suffixes_and_patterns(tmp_path):
    for scene in ("x", "y"):
        photographs(tmp_path / scene / "rgb", "rgb_1", "rgb_2")
        masks(tmp_path / scene / "seg", "seg_1_id", "seg_2_id")
        masks(tmp_path / scene / "seg", "seg_1_depth")
    write(tmp_path / "classes.txt", CLASSES)
    given = dict(images="*/rgb/rgb_*.jpg", labels="*/seg/seg_*_id.png")
    source = opened(tmp_path, "all", **given)
    assert ids(source) == ["x__1", "x__2", "y__1", "y__2"]
    expected = draw(51, *SIZE, high=3)
    np.testing.assert_array_equal(codec.decode_ids(source[1]["label"]), expected)
    given = dict(images="x/rgb", labels="x/seg", image_prefix="rgb_", label_prefix="seg_")
    assert ids(opened(tmp_path, "all", **given, label_suffix="_id")) == ["1", "2"]
    with pytest.raises(UserError, match=r"x/seg holds no labels named _\*"):
        opened(tmp_path, "all", **given | dict(label_prefix="_", label_suffix=""))


def roboflow(root):
    for split, names in (("train", ("a_jpg.rf.1", "b_jpg.rf.2")), ("valid", ("c_jpg.rf.3",))):
        photographs(root / split, *names)
        masks(root / split, *names, end="_mask.png")
        write(root / split / "_classes.csv", "Pixel Value, Class\n0, road\n1, sky\n2, moon\n")


def cvat(root):
    photographs(root / "JPEGImages", *"abcd")
    colours = np.array([(128, 64, 128), (70, 130, 180), (0, 0, 0)], np.uint8)
    for i, name in enumerate("abc"):
        save(root / f"SegmentationClass/{name}.png", colours[draw(50 + i, *SIZE, high=3)])
    write(root / "labelmap.txt", "# label:color_rgb:parts:actions\nroad:128,64,128::\n"
          "sky:70,130,180::\nmoon:0,0,0::\n")  # fmt: skip
    write(root / "ImageSets/Segmentation/train.txt", "a\nb\n")
    write(root / "ImageSets/Segmentation/val.txt", "c\n")


def labelme(root):
    photographs(root / "JPEGImages", *"abc")
    masks(root / "SegmentationClassPNG", *"abc")
    write(root / "class_names.txt", CLASSES)


def supervisely(root):
    for name, names in (("train", "ab"), ("val", "c")):
        photographs(root / name / "img", *names)
        for i, each in enumerate(names):
            grey = draw(50 + i, *SIZE, high=3)
            save(root / name / f"masks_machine/{each}.jpg.png", np.dstack([grey] * 3))
            write(root / name / f"ann/{each}.jpg.json", '{"objects": [{"classTitle": "road"}]}')
    write(root / "meta.json", '{"classes": []}')
    names = '{"road": [0, 0, 0], "sky": [1, 1, 1], "moon": [2, 2, 2]}'
    write(root / "obj_class_to_machine_color.json", names)


def ade(root):
    for split, names in (("training", "ab"), ("validation", "c")):
        photographs(root / "images" / split, *names)
        masks(root / "annotations" / split, *names)


def above(root):
    for split, names in (("train", "ab"), ("valid", "c")):
        photographs(root / split / "images", *names)
        masks(root / split / "masks", *names)


RECOGNISED = {
    "Roboflow": roboflow,
    "CVAT": cvat,
    "LabelMe": labelme,
    "Supervisely": supervisely,
    "ADE20K": ade,
    "split above": above,
}


@pytest.mark.parametrize("tool", RECOGNISED)
def test_layouts_of_tools_are_recognised(tmp_path, tool):
    RECOGNISED[tool](tmp_path / "source")
    write(tmp_path / "classes.txt", CLASSES)
    train, val = opened(tmp_path, val_percent=30), opened(tmp_path, "val", val_percent=30)
    assert len(train) == 2 and len(val) == 1 and not set(ids(train)) & set(ids(val))
    assert train.labelled and train.label_set.classes == ("road", "sky", "moon")
    seeds = [51] if tool != "LabelMe" else [50, 51, 52]
    label = codec.decode_ids(train[1]["label"])
    assert any((label == draw(seed, *SIZE, high=3)).all() for seed in seeds)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"train/_annotations.coco.json": '{"images": [], "categories": []}'}, "COCO's outlines"),
        ({"annotations/instances.json": '{"info": {}, "annotations": []}'}, "COCO's outlines"),
        ({"a.json": '{"version": "5", "flags": {}, "shapes": []}'}, "labelme2voc"),
        ({"data.yaml": "nc: 3", "train/labels/a.txt": ""}, "export for YOLO, not masks"),
        ({"train/labels/a.txt": "0 0.1 0.2 0.3 0.4\n"}, "outlines or boxes of YOLO"),
        ({"annotations.xml": "<annotations><version>1.1</version>"}, "CVAT's XML of outlines"),
        ({"Annotations/a.xml": "<annotation><bndbox>"}, "boxes of PASCAL VOC"),
        ({"meta.json": "{}", "ds/img/x": "", "ds/ann/x.json": "{}"}, "'Export as Masks'"),
        ({"SegmentationClass/a.png": ""}, "without JPEGImages; export them with images"),
    ],
)
def test_outlines_are_refused_by_the_name_of_the_tool(tmp_path, files, said):
    for name, text in files.items():
        write(tmp_path / "source" / name, text)
    write(tmp_path / "classes.txt", CLASSES)
    with pytest.raises(UserError, match=said) as caught:
        opened(tmp_path)
    assert str(tmp_path / "source") in str(caught.value) and "\n" not in str(caught.value)
    # Also where they lie in a folder that is called labels.
    photographs(tmp_path / "second/source/images", "a")
    write(tmp_path / "second/source/labels/a.json", '{"shapes": [], "imagePath": ""}')
    with pytest.raises(UserError, match="LabelMe's outlines"):
        opened(tmp_path / "second", classes="cityscapes")


def test_photographs_alone_and_nothing_known(tmp_path):
    photographs(tmp_path / "target", "a", "b")
    assert len(opened(tmp_path, "all", side="target")) == 2
    assert layouts.find(tmp_path / "target").tool == "photographs alone"
    with pytest.raises(UserError, match="no folder .*source/images; .* holds"):
        opened(tmp_path, classes="cityscapes")


def test_proportions_are_kept(tmp_path):
    upright = np.zeros((40, 20, 3), np.uint8)
    upright[10:20, 5:15] = 255  # a square
    save(tmp_path / "target/images/a.png", upright)
    save(tmp_path / "target/images/b.png", np.zeros((20, 90, 3), np.uint8))
    source = opened(tmp_path, "all", side="target", size=(16, 24))
    assert [codec.size_of(source[i]["image"]) for i in range(2)] == [(48, 24), (16, 72)]
    assert source.size is None and source.keeps_proportions
    bright = codec.decode_image(source[0]["image"])[..., 0] > 127
    assert abs(int(bright.any(0).sum()) - 12) <= 1 and abs(int(bright.any(1).sum()) - 12) <= 1
    stream = pipeline.train_stream(source, size=(16, 24), batch=2, seed=0, side="target",
                                   keys=("image",), threads=0)  # fmt: skip
    seen = [next(stream)["target_image"] for _ in range(6)]
    assert all(batch.shape == (2, 16, 24, 3) for batch in seen)
    assert len({batch.tobytes() for batch in seen}) > 1  # crops at other places
    whole = opened(tmp_path, "all", side="target")  # for scores, as the files are
    batches = list(pipeline.eval_batches(whole, size=(16, 24), batch=2, threads=0))
    assert [b["image"].shape for b in batches] == [(1, 48, 24, 3), (1, 16, 72, 3)]
    assert [b["label"].shape for b in batches] == [(1, 40, 20), (1, 20, 90)]
    plain = opened(tmp_path, "all", side="target", size=(16, 24), keep_proportions=False)
    assert [codec.size_of(plain[i]["image"]) for i in range(2)] == [(16, 24)] * 2


@pytest.mark.parametrize("shape", [(360, 480), (3000, 4000), (4000, 3000), (160, 224), (17, 1)])
def test_sizes_that_cover(shape):
    size = (160, 224)
    height, width = photograph.covering(shape, size)
    assert height >= size[0] and width >= size[1] and (height == size[0] or width == size[1])
    assert photograph.covering((height, width), size) == (height, width)
    assert abs(height / width / (shape[0] / shape[1]) - 1) < 0.01
    fitted = photograph.fitted(shape, size)
    assert any(n == least for n, least in zip(fitted, size, strict=True))
    for n, exact, least in zip(fitted, (height, width), size, strict=True):
        assert n >= least and abs(n - exact) <= 4 and (n == least or n % 8 == 0)


def test_names_that_are_not_utf_8(tmp_path):
    name = os.fsdecode(b"caf\xe9")
    try:
        photographs(tmp_path / "source/images", name, "b")
    except OSError:
        pytest.skip("the file system takes UTF-8 only")
    masks(tmp_path / "source/labels", name, "b")
    write(tmp_path / "classes.txt", CLASSES)
    source = opened(tmp_path, "all")
    assert sorted(ids(source)) == ["b", "caf\\xe9"]
    assert len(opened(tmp_path, "val", val_percent=50)) == 1
    (tmp_path / "source/labels" / f"{name}.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"caf\\xe9.png") as caught:
        opened(tmp_path, "all")
    str(caught.value).encode()
    assert folder_files.shown(name) == "caf\\xe9"


# --- labels that hold less, or other things, than they seem to


def test_masks_of_0_and_255(tmp_path):
    photographs(tmp_path / "source/images", "a", "b")
    for i, name in enumerate("ab"):
        save(tmp_path / f"source/labels/{name}.png", draw(i, *SIZE, high=2) * 255)
    write(tmp_path / "classes.txt", "ground\nroad\n")
    said = (
        "source/labels/a.png and the files beside it hold the values 0 and 255 only.*ground alone"
    )
    with pytest.raises(UserError, match=said):
        opened(tmp_path, "all")
    assert opened(tmp_path, "all", label_values="index").labelled  # if it is meant so
    write(tmp_path / "classes.txt", "0 0 0 ground\n255 255 255 road\n")
    source = opened(tmp_path, "all")  # grey files by colour, as all colours are grey
    np.testing.assert_array_equal(codec.decode_ids(source[1]["label"]), draw(1, *SIZE, high=2))


def test_palettes_that_differ_between_files(tmp_path):
    photographs(tmp_path / "source/images", "a", "b")
    palette = [10, 20, 30, 200, 0, 0, 0, 0, 200]
    for name, moved in (("a", palette), ("b", palette[3:] + palette[:3])):
        image = Image.fromarray(draw(1, *SIZE, high=3), "P")
        image.putpalette(moved)
        save(tmp_path / f"source/labels/{name}.png", image)
    write(tmp_path / "classes.txt", CLASSES)
    with pytest.raises(UserError, match=r"labels/.\.png: palette index \d is the colour .* beside"):
        opened(tmp_path, "all")
    assert opened(tmp_path, "all", label_values="index").labelled
    write(tmp_path / "classes.txt", "10 20 30 road\n200 0 0 sky\n0 0 200 moon\n")
    source = opened(tmp_path, "all")
    a, b = (codec.decode_ids(source[i]["label"]) for i in range(2))
    np.testing.assert_array_equal(a, draw(1, *SIZE, high=3))
    np.testing.assert_array_equal(b, (a + 1) % 3)


def test_palettes_that_differ_between_splits(tmp_path):
    palette = [10, 20, 30, 200, 0, 0, 0, 0, 200]
    folders = {"source": palette, "source_val": [*palette, 1, 2, 3]}

    def make():
        for folder, colours in folders.items():
            photographs(tmp_path / folder / "images", "a", "b")
            image = Image.fromarray(draw(1, *SIZE, high=3), "P")
            image.putpalette(colours)
            save(tmp_path / folder / "labels/a.png", image)
            save(tmp_path / folder / "labels/b.png", draw(1, *SIZE, high=3))  # grey: no palette

    make()
    write(tmp_path / "classes.txt", CLASSES)
    for split in ("train", "val"):  # what does not occur in the labels may differ
        assert len(opened(tmp_path, split)) == 2
    folders["source_val"] = palette[3:] + palette[:3]
    make()
    for split, other in (("train", "source_val"), ("val", "source")):  # whichever is made first
        said = rf"{other}/labels/a.png: palette index \d is .* in the labels of {split}: list"
        with pytest.raises(UserError, match=said):
            opened(tmp_path, split, records_dir=tmp_path / "new")
    assert opened(tmp_path, "val", label_values="index").labelled
    write(tmp_path / "source_val/classes.txt", "sky\nmoon\nroad\n")  # other indices for the same
    assert len(opened(tmp_path, "train")) == len(opened(tmp_path, "val")) == 2


def test_folders_with_a_year_are_splits(tmp_path):
    for split, names in (("train2017", "abc"), ("val2017", "de")):
        photographs(tmp_path / f"source/images/{split}", *names)
        masks(tmp_path / f"source/annotations/{split}", *names)
    write(tmp_path / "classes.txt", CLASSES)
    assert ids(opened(tmp_path)) == [*"abc"] and ids(opened(tmp_path, "val")) == [*"de"]


def test_transparent_and_16_bit_photographs_become_records(tmp_path):
    clear = np.dstack([draw(0, *SIZE, 3), np.zeros(SIZE, np.uint8)])
    save(tmp_path / "target/images/a.png", clear)
    save(tmp_path / "target/images/b.png", draw(1, *SIZE).astype(np.uint16) * 256 + 99)
    source = opened(tmp_path, "all", side="target")
    assert (codec.decode_image(source[0]["image"]) == 255).all()
    np.testing.assert_array_equal(
        codec.decode_image(source[1]["image"]), np.dstack([draw(1, *SIZE)] * 3)
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("street -> road\nstreet -> sky\n", "line 2: 'street' is mapped twice"),
        ("street road\n", "line 1: 'street road' is not 'own name -> name'"),
        ("strasse -> road\n", "no class 'strasse' in .*has street, sky, lamp"),
        ("street -> raod\n", "'street' -> 'raod', but .*classes.txt has road, sky, moon"),
        ("street -> void\nsky -> void\nlamp -> ignore\n", "maps every class"),
    ],
)
def test_maps_of_classes_that_make_no_sense(tmp_path, text, said):
    write(pair(tmp_path) / "source/class_map.txt", text)
    with pytest.raises(UserError, match=said) as caught:
        opened(tmp_path)
    assert "class_map.txt" in str(caught.value) and "\n" not in str(caught.value)
