"""Cross-City and MiniCity in their published layouts, and what users get wrong with them."""

import numpy as np
import pytest
from kit.raw_files import draw, save
from kit.raw_minicity import SIZE, make_minicity

from jaxseg.data import codec, labels, records
from jaxseg.data.builders import crosscity
from jaxseg.errors import UserError


def open_all(name, tmp_path, split, **options):
    source = records.open_split(
        name, split, records_dir=tmp_path / "records", raw_dir=tmp_path / "raw", **options
    )
    return source, {source[i]["id"]: source[i] for i in range(len(source))}


# --- Cross-City


def make_city(root, city="Rome", names=("pano_00001_0_0", "pano_00002_1_180")):
    raw = {}
    for i, name in enumerate(names):
        suffix = ".jpg" if i else ".png"  # both are published
        save(root / city / "Images" / "Test" / f"{name}{suffix}", draw(i, *SIZE, 3))
        raw[name] = draw(5 + i, *SIZE, high=34)
        raw[name][0, 0] = 255
        folder = root / city / "Labels" / "Test"
        save(folder / f"{name}_eval.png", raw[name])
        save(folder / f"{name}_city.png", draw(9, *SIZE, high=19))
        save(folder / f"{name}_bgr.png", draw(9, *SIZE, 3))
        save(root / city / "Images" / "Train" / f"{name[:-1]}x.jpg", draw(3 + i, 6, 9, 3))
    return raw


IDS = {7: 0, 8: 1, 11: 2, 19: 6, 20: 7, 21: 8, 23: 10, 24: 11, 25: 12, 26: 13, 28: 15, 32: 17}
IDS |= {33: 18}


@pytest.mark.parametrize("above", ["", "NTHU_Datasets"])
def test_cross_city(tmp_path, above, capsys):
    root = tmp_path / "raw" / "crosscity" / above
    raw = make_city(root)
    make_city(root, "Tokyo", ("pano_00009_0_0",))
    source, found = open_all("crosscity", tmp_path, "val", city="Rome")
    assert source.labelled and source.label_set is labels.CITYSCAPES and source.size is None
    assert list(found) == list(raw)
    table = labels.remap(source.label_set, labels.CROSSCITY13)
    published = "7:0,8:1,11:2,19:3,20:4,21:5,23:6,24:7,25:8,26:9,28:10,32:11,33:12"
    thirteen = dict(map(int, pair.split(":")) for pair in published.split(","))
    for name, record in found.items():
        label = codec.decode_ids(record["label"])
        expected = np.vectorize(lambda value: IDS.get(int(value), 255))(raw[name])
        np.testing.assert_array_equal(label, expected)
        expected = np.vectorize(lambda value: thirteen.get(int(value), 255))(raw[name])
        np.testing.assert_array_equal(table[label], expected)
    assert "holds 2 images, 100 were published" in capsys.readouterr().out

    source, found = open_all("crosscity", tmp_path, "train", city="Rome")
    assert not source.labelled and len(found) == 2
    assert all(record.keys() == {"id", "image"} for record in found.values())
    path = root / "Rome" / "Images" / "Train" / "pano_00001_0_x.jpg"
    assert found["pano_00001_0_x"]["image"] == path.read_bytes()
    assert len(open_all("crosscity", tmp_path, "val", city="Tokyo")[1]) == 1


def test_cross_city_labels_of_another_kind_are_refused(tmp_path):
    root = tmp_path / "raw" / "crosscity"
    raw = make_city(root)
    folder = root / "Rome" / "Labels" / "Test"
    for name in raw:  # an index repeated in three channels is still an index
        save(folder / f"{name}_eval.png", np.stack([raw[name]] * 3, -1))
    label = open_all("crosscity", tmp_path, "val", city="Rome")[1]["pano_00001_0_0"]["label"]
    assert set(np.unique(codec.decode_ids(label))) <= {*IDS.values(), 255}
    for name in raw:
        save(folder / f"{name}_eval.png", draw(0, *SIZE, high=13))
    with pytest.raises(UserError, match=r"of Rome hold \[0, 1, .*train ids; expected the ids of"):
        open_all("crosscity", tmp_path, "val", city="Rome", size=(6, 10))
    save(folder / "pano_00002_1_180_eval.png", draw(0, *SIZE, high=60))
    with pytest.raises(UserError, match="_180_eval.png: unknown label value .* 0-33, 255"):
        open_all("crosscity", tmp_path, "val", city="Rome", size=(6, 10))
    save(folder / "pano_00002_1_180_eval.png", draw(0, *SIZE, 3))
    with pytest.raises(UserError, match="_180_eval.png: holds colours; expected the ids"):
        open_all("crosscity", tmp_path, "val", city="Rome", size=(6, 10))


def test_cross_city_files_that_are_missing(tmp_path):
    with pytest.raises(UserError, match="no city ''; set the option city to one of Rio, Rome, Ta"):
        open_all("crosscity", tmp_path, "val")
    with pytest.raises(UserError, match="no folder .*crosscity.*Labels/Test/NAME_eval.png"):
        open_all("crosscity", tmp_path, "val", city="Rio")
    root = tmp_path / "raw" / "crosscity"
    make_city(root)
    with pytest.raises(UserError, match="holds none of the published files"):
        open_all("crosscity", tmp_path, "val", city="Rio")
    folder = root / "Rome" / "Labels" / "Test"
    (folder / "pano_00001_0_0_eval.png").unlink()
    with pytest.raises(UserError, match="1 of 2 images have no label, first Rome/Images/Test/pano"):
        open_all("crosscity", tmp_path, "val", city="Rome")
    (folder / "pano_00002_1_180_eval.png").unlink()
    with pytest.raises(UserError, match=r"no \*_eval.png in Rome/Labels/Test \(4 other PNGs, firs"):
        open_all("crosscity", tmp_path, "val", city="Rome")
    assert set(crosscity.CITIES) == {"Rio", "Rome", "Taipei", "Tokyo"}


# --- MiniCity


def test_minicity(tmp_path, capsys):
    raw = make_minicity(tmp_path / "raw" / "minicity")
    for split, published in (("train", 200), ("val", 100)):
        source, found = open_all("minicity", tmp_path, split)
        assert source.label_set is labels.CITYSCAPES
        assert [(split, name) for name in found] == [key for key in raw if key[0] == split]
        for name, record in found.items():
            expected = labels.id_table(labels.CITYSCAPES.ids)[raw[split, name]]
            np.testing.assert_array_equal(codec.decode_ids(record["label"]), expected)
        said = capsys.readouterr().out
        assert f"minicity {split} holds 2 images, {published} were published" in said
    source, found = open_all("minicity", tmp_path, "test")
    assert not source.labelled and set(found) == {"0", "1", "10"}
    np.testing.assert_array_equal(codec.decode_image(found["10"]["image"]), draw(30, *SIZE, 3))
    with pytest.raises(UserError, match="no split 'all'; it has train, val, test"):
        open_all("minicity", tmp_path, "all")
    (tmp_path / "raw/minicity/gtFine/val/ulm_000001_000003_gtFine_labelIds.png").unlink()
    with pytest.raises(UserError, match="1 of 2 images have no label, first leftImg8bit/val/ulm_"):
        open_all("minicity", tmp_path, "val", size=(6, 10))
