"""Id maps, palettes and the tables between label sets."""

import numpy as np
import pytest

from jaxseg.data import classfile, labels
from jaxseg.errors import UserError


def test_cityscapes_ids_palette_and_order():
    published = (
        "7:0,8:1,11:2,12:3,13:4,17:5,19:6,20:7,21:8,22:9,23:10,24:11,25:12,26:13,27:14,28:15,"
        "31:16,32:17,33:18"
    )
    pairs = (pair.split(":") for pair in published.split(","))
    assert labels.CITYSCAPES.ids == {int(raw): int(train) for raw, train in pairs}
    colours = dict(zip(labels.CITYSCAPES.classes, labels.CITYSCAPES.palette, strict=True))
    assert colours["road"] == (128, 64, 128)
    assert colours["traffic light"] == (250, 170, 30)
    assert colours["sky"] == (70, 130, 180)
    assert colours["bicycle"] == (119, 11, 32)
    assert len(set(colours.values())) == 19


def test_synthia16_equals_the_published_map():
    published = "3:0,4:1,2:2,21:3,5:4,7:5,15:6,9:7,6:8,1:9,10:10,17:11,8:12,19:13,12:14,11:15"
    pairs = (pair.split(":") for pair in published.split(","))
    assert labels.SYNTHIA16.ids == {int(raw): int(train) for raw, train in pairs}
    assert len(labels.SYNTHIA16.classes) == 16


def test_synthia13_leaves_out_wall_fence_and_pole():
    left_out = set(labels.SYNTHIA16.classes) - set(labels.SYNTHIA13.classes)
    assert left_out == {"wall", "fence", "pole"}


def test_crosscity13_has_the_classes_of_synthia13_under_the_ids_of_cityscapes():
    published = "7:0,8:1,11:2,19:3,20:4,21:5,23:6,24:7,25:8,26:9,28:10,32:11,33:12"
    pairs = (pair.split(":") for pair in published.split(","))
    assert labels.CROSSCITY13.ids == {int(raw): int(train) for raw, train in pairs}
    assert labels.CROSSCITY13.classes == labels.SYNTHIA13.classes
    assert classfile.by_name("crosscity13") is labels.CROSSCITY13
    same = labels.remap(labels.SYNTHIA13, labels.CROSSCITY13)
    np.testing.assert_array_equal(same[:13], np.arange(13))


def test_virtual_kitti_has_the_ten_classes_it_shares_with_kitti():
    found = classfile.by_name("virtual_kitti")
    published = "road, building, pole, traffic light, traffic sign, vegetation, terrain, sky, car"
    assert found.classes == (*published.split(", "), "truck")
    ids = {7: 0, 11: 1, 17: 2, 19: 3, 20: 4, 21: 5, 22: 6, 23: 7, 26: 8, 27: 9}
    assert found.ids == ids
    assert len(labels.VIRTUAL_KITTI_NAMES) == 15
    assert set(filter(None, labels.VIRTUAL_KITTI_NAMES.values())) == set(found.classes)


SUBSETS = [labels.SYNTHIA16, labels.SYNTHIA13, labels.CROSSCITY13, labels.VIRTUAL_KITTI]


@pytest.mark.parametrize("label_set", SUBSETS)
def test_subsets_keep_names_and_colours(label_set):
    table = labels.remap(labels.CITYSCAPES, label_set)
    for train, name in enumerate(labels.CITYSCAPES.classes):
        if name in label_set.classes:
            assert label_set.classes[table[train]] == name
            assert label_set.palette[table[train]] == labels.CITYSCAPES.palette[train]
        else:
            assert table[train] == 255
    back = labels.remap(label_set, labels.CITYSCAPES)
    kept = table != 255
    np.testing.assert_array_equal(back[table[kept]], np.flatnonzero(kept))


def test_remap_to_itself_is_the_identity_on_classes():
    table = labels.remap(labels.CITYSCAPES, labels.CITYSCAPES)
    np.testing.assert_array_equal(table[:19], np.arange(19))
    assert (table[19:] == 255).all()


def test_own_classes_agree_whatever_their_case_unless_that_is_ambiguous():
    def own(*names):
        return labels.LabelSet("own", names, ((0, 0, 0),) * len(names), {})

    table = labels.remap(own("Traffic-Light", "ROAD", "moon"), labels.CITYSCAPES)
    assert table[:3].tolist() == [6, 0, 255]
    table = labels.remap(own("car", "Road"), own("Car", "CAR", "road"))
    assert table[:2].tolist() == [255, 2]
    with pytest.raises(UserError, match=r"\(moon\) has a name of the other .*class_map.txt"):
        labels.remap(own("moon"), labels.CAMVID)
    with pytest.raises(UserError, match="cannot be turned"):  # whose classes are coarser
        labels.remap(labels.CAMVID, labels.CITYSCAPES)


def test_cityscapes_to_camvid_reaches_all_eleven_classes():
    table = labels.remap(labels.CITYSCAPES, labels.CAMVID)
    assert set(table[:19].tolist()) == set(range(11))
    assert (table[19:] == 255).all()

    def called(name):
        return labels.CAMVID.classes[table[labels.CITYSCAPES.classes.index(name)]]

    assert called("wall") == "Building"
    assert called("terrain") == "Tree"
    assert called("train") == "Car"
    assert called("traffic light") == called("traffic sign") == "SignSymbol"
    assert called("rider") == called("motorcycle") == called("bicycle") == "Bicyclist"
    assert called("person") == "Pedestrian"


def test_coarse_classes_cannot_be_split():
    with pytest.raises(UserError, match="camvid"):
        labels.remap(labels.CAMVID, labels.CITYSCAPES)


def test_by_name():
    assert classfile.by_name("camvid") is labels.CAMVID
    with pytest.raises(UserError, match="synthia13"):
        classfile.by_name("camvit")


def test_lookup_ignores_what_lies_outside_the_table():
    table = labels.id_table({7: 0})
    found = labels.lookup(table, np.array([[7, -1, 256], [263, 6, 255]]))
    np.testing.assert_array_equal(found, [[0, 255, 255], [255, 255, 255]])
    assert found.dtype == np.uint8


def test_unknown_values_are_counted_and_the_known_ones_told():
    raw = np.array([[0, 1, 255], [9, 9, 300]])
    labels.refuse_unknown(raw, (0, 1, 9, 300))
    said = r"value 9 in 2 pixels \(and 1 more such values\); known are 0-2, 4, 255$"
    with pytest.raises(UserError, match=said):
        labels.refuse_unknown(raw, (0, 1, 2, 4))
    with pytest.raises(UserError, match=r"value 300 in 1 pixels; known"):
        labels.refuse_unknown(raw.astype(np.uint16), range(10))


def test_colorize():
    painted = labels.colorize(np.array([[0, 255], [18, -1]]), labels.CITYSCAPES)
    np.testing.assert_array_equal(
        painted, [[[128, 64, 128], [0, 0, 0]], [[119, 11, 32], [0, 0, 0]]]
    )
    assert painted.dtype == np.uint8
