"""A user's own folders: partners, splits, sizes, orientation, changes."""

import os

import numpy as np
import pytest
from PIL import ExifTags, Image

from jaxseg.data import codec, labels, pipeline, raw_files, records
from jaxseg.data.conversion import folder_files
from jaxseg.errors import UserError

SIZE = (12, 20)


def draw(seed, *shape, high=256):
    return np.random.default_rng(seed).integers(0, high, shape).astype(np.uint8)


def save(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)


def make(root, names, folder="", above="{kind}"):
    """Images and labels of three classes, and the class file."""
    for i, name in enumerate(names):
        places = [root / above.format(kind=kind) / folder for kind in ("images", "labels")]
        save(places[0] / f"{name}.jpg", draw(i, *SIZE, 3))
        save(places[1] / f"{name}.png", draw(50 + i, *SIZE, high=3))
    (root / "classes.txt").write_text("road\nsky\nmoon\n")


def open_mine(tmp_path, split="train", **options):
    settings = {"images": "mine/images", "labels": "mine/labels"}
    settings["classes"] = str(tmp_path / "mine" / "classes.txt")
    return records.open_split(
        "folder", split, records_dir=tmp_path / "records", raw_dir=tmp_path, **settings | options
    )


def ids(source):
    return [source[i]["id"] for i in range(len(source))]


NAMES = [f"{town}/{i:03d}" for town in ("ulm", "bern") for i in range(10)]


def test_nested_folders_and_a_share_for_validation(tmp_path):
    make(tmp_path / "mine", NAMES)
    source = open_mine(tmp_path, "all")
    assert ids(source) == sorted(name.replace("/", "__") for name in NAMES)
    assert source.labelled and source.label_set.classes == ("road", "sky", "moon")
    for i in range(len(source)):
        number = NAMES.index(source[i]["id"].replace("__", "/"))
        label = codec.decode_ids(source[i]["label"])
        np.testing.assert_array_equal(label, draw(50 + number, *SIZE, high=3))
        path = tmp_path / "mine" / "images" / f"{NAMES[number]}.jpg"
        assert source[i]["image"] == path.read_bytes()
    train, val = (open_mine(tmp_path, split, val_percent=25) for split in ("train", "val"))
    assert len(val) == 5 and sorted(ids(train) + ids(val)) == ids(source)
    other = open_mine(tmp_path, "val", val_percent=25, split_seed=1)
    assert set(ids(other)) != set(ids(val))
    (batch,) = pipeline.eval_batches(val, size=(6, 10), batch=5)
    assert batch["label"].shape == (5, *SIZE)


def test_the_share_hardly_depends_on_what_is_added_later():
    files = [folder_files.Files(f"{i:04d}", "") for i in range(400)]
    before = {f.id for f in folder_files.share(files[:300], "val", 10, 0)}
    after = {f.id for f in folder_files.share(files, "val", 10, 0)}
    assert len(before) == 30 and len(after) == 40 and len(before & after) >= 20
    again = folder_files.share(files[299::-1], "val", 10, 0)
    assert {f.id for f in again} == before


@pytest.mark.parametrize("layout", ["{kind}/{split}", "{split}/{kind}", "subfolders"])
def test_splits_by_folder(tmp_path, layout):
    above = "{kind}/{split}" if layout == "subfolders" else layout
    for split, names in (("train", ["a", "b"]), ("val", ["c"]), ("night", ["d"])):
        make(tmp_path / "mine", names, above=above.replace("{split}", split))
    paths = {}
    if layout != "subfolders":
        paths = {kind: "mine/" + layout.replace("{kind}", kind) for kind in ("images", "labels")}
    for split, names in (("train", ["a", "b"]), ("val", ["c"]), ("night", ["d"])):
        assert ids(open_mine(tmp_path, split, **paths)) == names
    with pytest.raises(UserError, match="no folder .*test.* holds .*night.*--config.data.root"):
        open_mine(tmp_path, "test", **paths)


def test_unlabelled_images_train_but_do_not_teach(tmp_path):
    make(tmp_path / "mine", NAMES)
    source = open_mine(tmp_path, labels="", classes="")
    assert not source.labelled and len(source) == 18 and source.label_set.classes == ()
    stream = pipeline.train_stream(
        source, size=(6, 8), batch=2, seed=0, side="target", keys=("image",)
    )
    assert next(stream)["target_image"].shape == (2, 6, 8, 3)
    stream.close()
    stream = pipeline.train_stream(source, size=(6, 8), batch=2, seed=0, threads=0)
    with pytest.raises(UserError, match="has no label"):
        next(stream)
    table = labels.remap(source.label_set, labels.CITYSCAPES)
    batches = list(pipeline.eval_batches(source, size=(6, 8), batch=9, table=table))
    assert all((batch["label"] == 255).all() for batch in batches)


def test_suffixes_and_a_built_in_set(tmp_path):
    for i in range(3):
        save(tmp_path / "mine" / "images" / f"{i}_rgb.png", draw(i, *SIZE, 3))
        save(tmp_path / "mine" / "labels" / f"{i}_L.png", draw(i, *SIZE, high=19))
        save(tmp_path / "mine" / "labels" / f"{i}_instances.png", draw(i, *SIZE))
    source = open_mine(
        tmp_path, "all", classes="cityscapes", label_values="index", image_suffix="_rgb",
        label_suffix="_L",
    )  # fmt: skip
    assert ids(source) == ["0", "1", "2"]
    assert source.label_set == labels.CITYSCAPES
    label = codec.decode_ids(source[2]["label"])
    np.testing.assert_array_equal(label, draw(2, *SIZE, high=19))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photographs_are_turned_as_the_camera_noted(tmp_path, orientation):
    upright = np.zeros((16, 24, 3), np.uint8)
    upright[:8, :8] = 250  # one bright corner and one dim one tell all eight apart
    upright[:8, 16:] = 120
    turns = {  # from upright to as stored
        **{1: lambda a: a, 2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1]},
        **{4: lambda a: a[::-1], 5: lambda a: a.swapaxes(0, 1)},
        **{6: lambda a: np.rot90(a), 7: lambda a: a[::-1, ::-1].swapaxes(0, 1)},
        8: lambda a: np.rot90(a, -1),
    }
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    stored = np.ascontiguousarray(turns[orientation](upright))
    save(tmp_path / "mine" / "images" / "a.jpg", stored, exif=exif, quality=95, subsampling=0)
    save(tmp_path / "mine" / "labels" / "a.png", (upright[..., 0] > 60).astype(np.uint8))
    (tmp_path / "mine" / "classes.txt").write_text("dark\nbright\n")
    source = open_mine(tmp_path, "all")
    image = codec.decode_image(source[0]["image"]).astype(int)
    assert np.abs(image - upright).max() < 40
    assert codec.size_of(source[0]["image"]) == (16, 24)
    np.testing.assert_array_equal(codec.decode_ids(source[0]["label"]), upright[..., 0] > 60)
    if orientation == 6:  # a label drawn on the photograph as it is stored
        save(tmp_path / "mine" / "labels" / "a.png", np.zeros((24, 16), np.uint8))
        with pytest.raises(UserError, match=r"a.png: label \(24, 16\), image \(16, 24\)"):
            open_mine(tmp_path, "all")


def test_changed_files_are_prepared_anew_and_others_are_not(tmp_path, capsys):
    make(tmp_path / "mine", ["a", "b"])

    def prepared():
        source = open_mine(tmp_path, "all")
        return codec.decode_ids(source[1]["label"]), "prepared" in capsys.readouterr().out

    before, first = prepared()
    assert first and not prepared()[1]
    save(tmp_path / "mine" / "labels" / "b.png", draw(9, *SIZE, high=3))
    os.utime(tmp_path / "mine" / "labels" / "b.png", (1, 1))
    after, again = prepared()
    assert again and (before != after).any()
    (tmp_path / "mine" / "classes.txt").write_text("road\nvoid\nmoon\n")
    after, again = prepared()
    assert again and set(np.unique(after)) == {0, 1, 255}


def test_partners_that_are_missing(tmp_path):
    make(tmp_path / "mine", ["a", "x/b"])
    (tmp_path / "mine/labels/x/b.png").unlink()
    with pytest.raises(UserError, match=r"1 of 2 images have no partner, first .*images/x/b.jpg:"):
        open_mine(tmp_path, "all")
    save(tmp_path / "mine/labels/x/b.png", draw(0, *SIZE, high=3))
    save(tmp_path / "mine/labels/c.png", draw(0, *SIZE, high=3))
    said = r"1 of 3 labels have no partner, first .*labels/c.png: there is no .*images/c\.\*"
    with pytest.raises(UserError, match=said):
        raw_files.check("folder", "all", raw_dir=tmp_path, images="mine/images",
                          labels="mine/labels", classes="cityscapes")  # fmt: skip
    save(tmp_path / "mine/images/c.png", draw(0, *SIZE, 3))
    save(tmp_path / "mine/images/.hidden.png", draw(0, *SIZE, 3))
    assert len(open_mine(tmp_path, "all")) == 3
    save(tmp_path / "mine/images/c.jpeg", draw(0, *SIZE, 3))
    with pytest.raises(UserError, match="c.jpeg and .*c.png have one name; keep one of them"):
        open_mine(tmp_path, "all")


def test_files_that_are_refused_are_named(tmp_path):
    def message(**options):
        with pytest.raises(UserError) as caught:
            open_mine(tmp_path, "all", **options)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    make(tmp_path / "mine", ["a", "b"])
    label, image = tmp_path / "mine/labels/b.png", tmp_path / "mine/images/b.jpg"
    save(label, draw(1, 3, 4, high=3))
    assert f"{label}: label (3, 4), image (12, 20); the two must have one size" in message()
    wrong = draw(1, *SIZE, high=3)
    wrong[0, :6] = 200
    save(label, wrong)
    assert f"{label}: unknown label value 200 in 6 pixels; known are 0-2, 255" in message()
    save(label, draw(1, *SIZE, 3))
    assert f"{label}: holds colours, not indices" in message()
    save(label, wrong.astype(np.uint16))
    assert f"{label}: 16 bits a channel" in message()
    save(label, draw(1, *SIZE, high=3))
    label.write_bytes(label.read_bytes()[:60])
    assert f"{label}: damaged image" in message()
    save(label, draw(1, *SIZE, high=3))
    image.unlink()
    save(image.with_suffix(".tif"), draw(1, *SIZE).astype(np.float32))
    assert f"{image.with_suffix('.tif')}: damaged image (floats, whose range" in message()


def test_settings_that_make_no_sense(tmp_path):
    make(tmp_path / "mine", ["a", "b"])
    for options, said in (
        ({"images": ""}, "needs the option images"),
        ({"images": "mine/imags"}, "no folder .*imags; .* holds images, labels"),
        ({"images": "mine/images/{split}"}, "stands in one of .* only"),
        ({"classes": ""}, "has labels but no option classes"),
        ({"classes": "citiscapes"}, "no label set is called 'citiscapes'"),
        ({"label_values": "rgb"}, "no label_values='rgb'; choose one of auto, index, colour"),
        ({"split": "test"}, "no split 'test'; it has train, val, all"),
        ({"val_percent": 100}, "val_percent=100 must be"),
        ({"val_percent": 0, "split": "val"}, "no images are left for val of 2"),
        ({"masks": "x"}, "folder has no option 'masks'; it takes class_map, classes, image_prefix"),
    ):
        with pytest.raises(UserError, match=said):
            open_mine(tmp_path, **{"split": "train"} | options)
    (tmp_path / "mine" / "empty").mkdir()
    with pytest.raises(UserError, match="empty holds no images"):
        open_mine(tmp_path, images="mine/empty")
