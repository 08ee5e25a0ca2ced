"""Rare-class sampling against the probabilities of the paper's data sets."""

import numpy as np
import pytest

from jaxseg.data import sampling
from jaxseg.errors import UserError

# Labelled pixels of Cityscapes' training split, by class.
CITYSCAPES = np.array(
    [2036416525, 336090793, 1260636120, 36199498, 48454166, 67789506, 11477088, 30448193,
     879783988, 63949536, 221979646, 67326424, 7463162, 386328286, 14772328, 12990290, 12863955,
     5449152, 22861233]
)  # fmt: skip
SHARES = [0, .0003, 0, .0646, .0518, .0365, .1011, .0717, 0, .0391, .0022, .0368, .1087, .0001,
          .0952, .0984, .0986, .1127, .0823]  # fmt: skip


def test_probabilities_of_cityscapes():
    np.testing.assert_allclose(sampling.probabilities(CITYSCAPES, 0.01), SHARES, atol=5.1e-5)


# Of UrbanSyn; how often its rare classes are drawn, three decimals rounded from four.
URBANSYN = np.array(
    [5001354656, 1079972918, 5274134801, 21898227, 55879004, 232220489, 28489154, 108940067,
     1248500389, 207515294, 1213976766, 204671642, 29909008, 647765381, 93012208, 96830112,
     23504467, 19330018, 20764575]
)  # fmt: skip
RARE = {3: .106, 4: .085, 6: .102, 7: .061, 12: .101, 14: .067, 15: .066, 16: .105, 17: .108,
        18: .107}  # fmt: skip


def test_probabilities_of_urbansyn():
    found = sampling.probabilities(URBANSYN, 0.01)
    np.testing.assert_allclose(found[list(RARE)], list(RARE.values()), atol=5.6e-4)


def test_a_low_temperature_overflows_nowhere():
    with np.errstate(over="raise", invalid="raise"):
        found = sampling.probabilities(np.array([10, 0, 90]), 1e-5)
    np.testing.assert_array_equal(found, [1, 0, 0])


def test_hot_and_absent():
    pixels = np.array([10, 0, 90])
    np.testing.assert_allclose(sampling.probabilities(pixels, 1e9), [0.5, 0, 0.5], atol=1e-6)
    for temperature in (0, -1, float("nan")):
        with pytest.raises(UserError, match="above 0"):
            sampling.probabilities(pixels, temperature)
    with pytest.raises(UserError, match="none of the pixels"):
        sampling.probabilities(np.zeros(3), 1.0)


def test_images_are_drawn_by_their_classes():
    counts = np.array([[100, 0, 4], [90, 30, 0], [80, 2, 0], [100, 25, 0]])
    rare = sampling.rare_classes(counts, 0.5, minimum=20)
    assert list(rare.classes) == [0, 1, 2]
    assert [list(images) for images in rare.images] == [[0, 1, 2, 3], [1, 3], [0]]
    rng = np.random.default_rng(0)
    drawn = np.array([sampling.draw(rare, rng) for _ in range(4000)])
    for place, c in enumerate(rare.classes):
        share = (drawn[:, 0] == c).mean()
        assert abs(share - rare.probabilities[place]) < 0.03
        assert set(drawn[drawn[:, 0] == c, 1]) == set(rare.images[place])
    lines = sampling.table(rare, counts, ("road", "car", "pole"))
    assert lines[1].split()[0] == "pole" and "4" in lines[-1].split()
