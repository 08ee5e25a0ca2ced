"""Predictors that hardly look, by hand."""

import numpy as np
import pytest

from jaxseg.evaluation import blind


def scene(colour=200, label=1):
    """Upper half of class 0, lower half of `label`; a block of class 2 that is blue."""
    image = np.full((96, 96, 3), colour, np.uint8)
    ids = np.zeros((96, 96), np.uint8)
    ids[48:] = label
    image[60:72, 24:36] = (0, 0, 255)
    ids[60:72, 24:36] = 2
    return image, ids


def test_the_commonest_class_of_each_place_and_colour():
    away = scene()
    away[0][60:72, 24:36], away[1][60:72, 24:36] = 200, 1
    counts = blind.count([scene(), away, away], 3)
    assert counts.places.sum() == 3 * 96 * 96
    found = blind.predict(counts, scene()[0])
    assert (found["position"][:48] == 0).all() and (found["position"][48:] == 1).all()
    assert (found["colour_and_position"] == scene()[1]).all()
    new = blind.predict(counts, scene(colour=10)[0])["colour_and_position"]
    assert (new[60:72, 24:36] == 2).all() and (new[:48] == 0).all()  # a new colour: by its place


def test_scores_by_hand():
    counts = blind.count([(scene()[0], np.where(scene()[1] == 2, 255, scene()[1]))], 3)
    found = blind.scores(counts, [scene()], 3)
    # The block has no labels to learn from: it gets class 0, the commonest, and is wrong.
    half = 48 * 96
    assert found["position"] == pytest.approx((half / (half + 144) + 1 + 0) / 3)
    alone = blind.scores(counts, [scene()], 3, [0])["position"]
    assert alone == pytest.approx(half / (half + 144))
    nothing = (scene()[0], np.full((96, 96), 255, np.uint8))
    assert blind.scores(counts, [nothing], 3) == {"position": None, "colour_and_position": None}


def test_labels_of_another_size():
    counts = blind.count([scene()], 3)
    small = scene()[1][::2, ::2]
    assert blind.scores(counts, [(scene()[0], small)], 3)["colour_and_position"] == 1
