"""Cityscapes' scores against its own evaluation, cityscapesScripts, on made-up label images."""

import json

import numpy as np
import pytest
from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling as official
from cityscapesscripts.helpers.labels import labels as official_labels
from kit.scenes import EVERYTHING, OBJECTS, SCORED, TRAIN, by_cityscapes, scene

from jaxseg.data import labels
from jaxseg.errors import UserError
from jaxseg.evaluation.metrics import cityscapes
from jaxseg.evaluation.metrics import confusion as metrics_confusion


@pytest.fixture(autouse=True)
def numpy_before_2_4(monkeypatch):
    """cityscapesScripts 2.3 still calls np.in1d, which NumPy 2.4 has taken out."""
    if not hasattr(np, "in1d"):
        monkeypatch.setattr(np, "in1d", lambda a, b: np.isin(np.ravel(a), b), raising=False)


def count(scenes, table):
    """(confusion, ignored pixels, instance rows) in the ids of `table`."""
    to_row = np.full(256, 255)
    to_row[list(table.ids)] = np.arange(len(table.ids))
    total, ignored, rows = np.zeros((len(table.ids),) * 2, np.int64), 0, []
    for label, instances, prediction in scenes:
        label, prediction = to_row[label], to_row[prediction]
        assert (prediction < 255).all()
        total += np.asarray(metrics_confusion.confusion(prediction, label, len(table.ids)))
        ignored += int((label == 255).sum())
        rows.append(cityscapes.instance_rows(prediction, instances, table))
    return total, ignored, rows


def same(found, expected):
    """Equal to the last digit; None stands for nan and for missing entries."""
    for key, value in expected.items():
        assert found.get(key) == (None if np.isnan(value) else value), key
    assert set(found) <= set(expected)


CASES = {
    # name: (table, ids in the truth, ids in the prediction, images)
    "train ids": (TRAIN, EVERYTHING, SCORED, 4),
    "no train, no wall, no human": (
        TRAIN,
        tuple(i for i in EVERYTHING if i not in (31, 12, 24, 25)),
        tuple(i for i in SCORED if i not in (31, 12)),
        3,
    ),
    "no objects": (TRAIN, tuple(range(24)), SCORED, 2),
    "only void": (TRAIN, (0, 4, 9), SCORED, 2),
    "all ids": (cityscapes.ALL, EVERYTHING, EVERYTHING, 4),
    "many objects": (TRAIN, (7, 21, *OBJECTS), (7, 21, 24, 25, 26, 27, 28, 31, 32, 33), 12),
}


# With seed 5 even the order in which a denominator is added up shows in the last digit.
@pytest.mark.parametrize("seed", [0, 1, 5])
@pytest.mark.parametrize("case", CASES)
def test_scores_equal_cityscapes_scripts_to_the_last_digit(case, seed, tmp_path):
    table, truth, predictable, images = CASES[case]
    scenes = [scene((seed, i), truth, predictable) for i in range(images)]
    expected = by_cityscapes(tmp_path, scenes)
    total, ignored, rows = count(scenes, table)
    found = cityscapes.scores(total, table, rows, ignored=ignored)

    same(found["iou"], expected["classScores"])
    same(found["iiou"], expected["classInstScores"])
    same(found["category_iou"], expected["categoryScores"])
    same(found["category_iiou"], expected["categoryInstScores"])
    averages = {
        "miou": expected["averageScoreClasses"],
        "miiou": expected["averageScoreInstClasses"],
        "category_miou": expected["averageScoreCategories"],
        "category_miiou": expected["averageScoreInstCategories"],
    }
    same({key: found[key] for key in averages}, averages)
    # MiniCity's tool adds the accuracy: all pixels of the full matrix, void ones too.
    matrix = np.asarray(expected["confMatrix"])
    assert found["pixel_accuracy_all"] == np.trace(matrix) / np.sum(matrix)
    json.dumps(found, allow_nan=False)
    # The 19 classes' own miou is the one that training reports.
    if table is TRAIN and found["miou"] is not None:
        assert found["miou"] == metrics_confusion.mean_iou(total)


def test_the_cases_hold_what_they_are_meant_to():
    label, instances, prediction = scene((0, 9), EVERYTHING, SCORED)
    ids, sizes = np.unique(instances[instances > 1000], return_counts=True)
    assert sizes.min() < 5 and len(ids) > 8  # tiny objects
    assert np.isin(instances, OBJECTS).any()  # groups
    assert (ids % 1000 == 0).any()  # the first number
    assert np.isin(label, (0, 1, 4, 9, 29, 30)).any() and not np.isin(prediction, (29, 30)).any()


def test_classes_are_those_of_cityscapes_scripts():
    for label in official_labels:
        if label.id < 0:
            continue
        assert (
            cityscapes.ALL.names[label.id] == label.name
            and cityscapes.ALL.ids[label.id] == label.id
        )
        assert cityscapes.ALL.categories[label.id] == label.category
        assert cityscapes.ALL.scored[label.id] == (not label.ignoreInEval)
        size = official.args.avgClassSize[label.name] if label.hasInstances else 0
        assert cityscapes.ALL.sizes[label.id] == size
    assert TRAIN.ids == tuple(labels.CITYSCAPES.ids) and all(TRAIN.scored)


def test_iiou_by_hand():
    # Two cars, of 4 pixels (3 right, 1 called truck) and of 1 (wrong: road); one road pixel called
    # car. The cars weigh size / 4 and size / 1 a pixel.
    instances = np.array([[26001, 26001, 26001, 26001], [26002, 7, 7, 26]])
    prediction = np.array([[13, 13, 13, 14], [0, 13, 0, 13]])
    rows = cityscapes.instance_rows(prediction, instances, TRAIN)
    np.testing.assert_array_equal(rows, [[13, 4, 3, 4], [13, 1, 0, 0]])
    label = np.array([[13, 13, 13, 13], [13, 0, 0, 13]])
    confusion = metrics_confusion.confusion(prediction, label, 19)
    found = cityscapes.scores(confusion, TRAIN, [rows])
    size = 12794.0202738185
    assert found["iiou"]["car"] == pytest.approx(
        (0.75 * size) / (0.75 * size + 1 + 0.25 * size + size)
    )
    assert found["category_iiou"]["vehicle"] == pytest.approx(size / (size + 1 + size))
    assert found["iiou"]["truck"] == 0.0  # one false positive, no truck
    assert found["iiou"]["person"] is None and found["category_iiou"]["human"] is None
    assert found["category_iou"] == {
        **{c: None for c in ("construction", "object", "nature", "sky", "human")},
        "flat": pytest.approx(1 / 3),
        "vehicle": pytest.approx(5 / 7),
    }


def test_scores_of_a_subset_and_of_other_classes():
    matrix = np.random.default_rng(0).integers(0, 99, (19, 19))
    chosen = (0, 1, 11, 13)
    found = cityscapes.scores(matrix, TRAIN, [], scored=chosen)
    assert list(found["iou"]) == ["road", "sidewalk", "person", "car"]
    assert list(found["iiou"]) == ["person", "car"]
    assert found["miou"] == metrics_confusion.mean_iou(matrix, chosen)
    assert found["pixel_accuracy"] == metrics_confusion.pixel_accuracy(matrix, chosen)
    assert len(found["category_iou"]) == 7
    small = cityscapes.scores(np.array([[3, 1], [0, 4]]), names=("sky", "tree"), ignored=2)
    assert small == {
        "miou": pytest.approx((3 / 4 + 4 / 5) / 2),
        "iou": {"sky": 0.75, "tree": 0.8},
        "mean_class_accuracy": pytest.approx(7 / 8),
        "class_accuracy": {"sky": 0.75, "tree": 1.0},
        "frequency_weighted_iou": pytest.approx(0.5 * 0.75 + 0.5 * 0.8),
        "pixel_accuracy": 7 / 8,
        "pixel_accuracy_all": 0.7,
    }


def test_results_txt_has_minicitys_five_lines():
    found = {"miou": 0.6069831962012341, "miiou": None, "category_miou": 0.5}
    assert cityscapes.results_txt({**found, "pixel_accuracy_all": 0.8056700706481934}) == (
        "IoU Class: 0.6069831962012341\niIoU Class: nan\nIoU Category: 0.5\niIoU Category: nan\n"
        "Accuracy: 0.8056700706481934"
    )


def test_what_is_not_cityscapes_is_named():
    with pytest.raises(UserError, match="'Sky' is no class of Cityscapes"):
        cityscapes.classes(labels.CAMVID.classes)
    with pytest.raises(UserError, match=r"map of a\.png is \(1, 2\), the prediction \(1, 3\)"):
        cityscapes.instance_rows(np.zeros((1, 3), int), np.zeros((1, 2), int), TRAIN, name="a.png")
    for number, identity in ((7003, 7), (65000, 65)):
        with pytest.raises(UserError, match=f"holds {number}, but id {identity} is no class with"):
            cityscapes.instance_rows(np.zeros((1, 1), int), np.array([[number]]), TRAIN)
