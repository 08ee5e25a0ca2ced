"""Criteria that choose a snapshot without target labels: hand values, plain loops in float64."""

import math

import numpy as np
import pytest

from jaxseg.evaluation import selection
from jaxseg.storage import results as storage_results


def by_loops(logits, temperature):
    """Soft neighbourhood density of one image, pixel by pixel."""
    outputs = []
    for pixel in logits:
        weights = [math.exp(x) for x in pixel]
        share = [w / sum(weights) for w in weights]
        length = math.sqrt(sum(p * p for p in share))
        outputs.append([p / length for p in share])
    entropies = []
    for i, own in enumerate(outputs):
        others = [o for j, o in enumerate(outputs) if j != i]
        weights = [math.exp(sum(map(float.__mul__, own, o)) / temperature) for o in others]
        share = [w / sum(weights) for w in weights]
        entropies.append(-sum(p * math.log(p) for p in share))
    return sum(entropies) / len(entropies)


def test_density_equals_plain_loops():
    logits = np.random.default_rng(0).normal(size=(3, 2, 7, 4)) * 2
    density = selection.neighbourhood_density(logits)
    assert density.shape == (3, 2)
    for i in np.ndindex(3, 2):
        expected = by_loops(logits[i].tolist(), 0.05)
        assert density[i] == pytest.approx(expected, abs=1e-12)
    soft = selection.neighbourhood_density(logits, temperature=1.0)
    assert soft[0, 0] == pytest.approx(by_loops(logits[0, 0].tolist(), 1.0), abs=1e-12)
    # Logits as float32 and shifted by a constant are the same outputs.
    shifted = (logits + 50).astype(np.float32)
    np.testing.assert_allclose(selection.neighbourhood_density(shifted), density, atol=1e-4)


def test_density_by_hand():
    certain = 100 * np.eye(3)
    # Everything alike: each of the 5 others is as near as any.
    assert selection.neighbourhood_density(np.zeros((6, 3))) == pytest.approx(math.log(5))
    assert selection.neighbourhood_density(certain[[1] * 6]) == pytest.approx(math.log(5))
    # Two pixels of each of two classes: one neighbour of weight e^20 and two of weight 1.
    heavy = 1 / (1 + 2 * math.exp(-20))
    light = math.exp(-20) * heavy
    expected = -heavy * math.log(heavy) - 2 * light * math.log(light)
    density = selection.neighbourhood_density(certain[[0, 0, 1, 1]])
    assert density == pytest.approx(expected, rel=1e-9)
    # Clusters of three are denser than clusters of two.
    assert selection.neighbourhood_density(certain[[0, 0, 0, 1, 1, 1]]) == pytest.approx(
        math.log(2), abs=1e-6
    )
    assert np.isnan(selection.neighbourhood_density(np.zeros((1, 3))))


@pytest.mark.parametrize("size", [(12, 24), (13, 25), (65, 129), (4, 8), (1, 500), (1000, 2)])
def test_grid_is_even_and_within_the_map(size):
    rows, columns = selection.grid(*size)
    assert 32 <= len(rows) * len(columns) <= 100
    for places, length in ((rows, size[0]), (columns, size[1])):
        assert places.min() >= 0 and places.max() < length
        steps = np.diff(places)
        assert len(steps) == 0 or steps.max() - steps.min() <= 1
        assert abs(places[0] - (length - 1 - places[-1])) <= 1  # as far from either edge
    rows, columns = selection.grid(12, 24)
    assert rows.tolist() == [0, 2, 4, 6, 7, 9, 11] and len(columns) == 14


def test_agreement_by_hand():
    before = {"a": np.uint8([[0, 0, 0, 0], [1, 1, 2, 2]]), "b": np.uint8([[2, 2]])}
    now = {"b": np.uint8([[2, 0]]), "a": np.uint8([[0, 0, 0, 1], [1, 1, 2, 2]])}
    # Pairs: 0-0 3, 0-1 1, 1-1 2, 2-2 3, 2-0 1.
    miou, pixels = selection.agreement(before, now, 4)
    assert miou == pytest.approx((3 / 5 + 2 / 3 + 3 / 4) / 3) and pixels == pytest.approx(0.8)
    assert selection.agreement(now, before, 4)[0] == pytest.approx(miou)
    assert selection.agreement(before, now, 4, scored=(0, 3))[0] == pytest.approx(3 / 5)
    assert selection.agreement(now, now, 4) == (1.0, 1.0)
    assert selection.agreement(before, now, 4, scored=(3,)) == (None, None)
    for other in ({}, {"a": now["a"]}, {**now, "b": np.uint8([[2], [0]])}):
        assert selection.agreement(other, now, 4) == (None, None)


def test_a_large_class_does_not_hide_a_small_one():
    before, now = np.zeros((10, 10), np.uint8), np.zeros((10, 10), np.uint8)
    before[0, 0], now[0, 1] = 1, 1
    miou, pixels = selection.agreement({"a": before}, {"a": now}, 2)
    assert pixels == 0.98 and miou == pytest.approx(0.49)


def test_rank_correlation_by_hand():
    assert selection.rank_correlation([(1, 10), (2, 20), (3, 25)]) == 1
    assert selection.rank_correlation([(1, 3), (5, 2), (9, -7), (11, -8)]) == -1
    # No ties: 1 - 6 sum(d^2) / (n (n^2 - 1)) with d = 0, 1, -1, 0.
    pairs = [(1, 1), (2, 3), (3, 2), (4, 9)]
    assert selection.rank_correlation(pairs) == pytest.approx(1 - 6 * 2 / 60)
    # Ties: ranks 0, 1.5, 1.5, 3 against 0, 1, 2, 3: 4.5 / sqrt(4.5 * 5).
    pairs = [(1, 1), (2, 2), (2, 3), (7, 4)]
    assert selection.rank_correlation(pairs) == pytest.approx(4.5 / math.sqrt(4.5 * 5))
    assert selection.rank_correlation([(1, 2), (3, 4)]) is None
    assert selection.rank_correlation([(1, 2), (1, 3), (1, 4)]) is None


EVALUATIONS = [
    {"step": 10, "miou": 0.9, "entropy": 0.0},  # before the end of the warm-up
    {"step": 20, "miou": 0.30, "entropy": 0.4, "source_miou": 0.7, "agreement": None},
    {"step": 30, "miou": 0.40, "entropy": 0.3, "source_miou": 0.6, "agreement": 0.5},
    {"step": 40, "miou": 0.50, "entropy": 0.2, "source_miou": 0.7, "agreement": 0.8},
    {"step": 50, "miou": 0.45, "entropy": 0.1, "source_miou": 0.5, "agreement": 0.7},
]


def test_what_each_criterion_would_have_chosen():
    comparison = selection.compare(EVALUATIONS, since=20)
    criteria = comparison["criteria"]
    assert comparison["since"] == 20 and comparison["evaluations"] == 4
    assert list(criteria) == ["source_miou", "entropy", "agreement", "step", "miou"]
    assert criteria["source_miou"]["step"] == 40  # the later of two equals
    assert criteria["entropy"] == {
        "step": 50,
        "value": 0.1,
        "miou": 0.45,
        "below_best": pytest.approx(0.05),
        "rank_correlation": pytest.approx(0.8),  # low entropy orders as labels do, but for one pair
        "evaluations": 4,
    }
    assert criteria["agreement"]["step"] == 40 and criteria["agreement"]["evaluations"] == 3
    assert criteria["agreement"]["rank_correlation"] == 1.0
    assert criteria["step"]["step"] == 50 and criteria["miou"]["step"] == 40
    assert criteria["miou"]["below_best"] == 0.0
    # The whole run without a warm-up; two evaluations are too few to correlate.
    assert selection.compare(EVALUATIONS)["criteria"]["miou"]["step"] == 10
    few = selection.compare(EVALUATIONS[:3], since=20)["criteria"]
    assert few["entropy"]["step"] == 30 and few["entropy"]["rank_correlation"] is None
    assert few["agreement"]["evaluations"] == 1


def test_without_target_labels_there_is_still_a_choice():
    unlabelled = [{**e, "miou": None} for e in EVALUATIONS]
    criteria = selection.compare(unlabelled, since=20)["criteria"]
    assert criteria["entropy"]["step"] == 50 and "miou" not in criteria
    for name in ("miou", "below_best", "rank_correlation"):
        assert criteria["entropy"][name] is None
    assert selection.compare([], 3) == {"since": 3, "evaluations": 0, "criteria": {}}


def test_predictions_are_kept_for_a_few_snapshots(tmp_path):
    maps = {"00ff": np.uint8([[1, 2], [3, 4]]), "0a": np.uint8([[7]])}
    for step in (10, 20, 30, 40):
        storage_results.save_maps(tmp_path / "m", step, {**maps, "0a": np.uint8([[step]])}, keep=3)
    names = sorted(path.name for path in (tmp_path / "m").iterdir())
    assert names == ["00000020.npz", "00000030.npz", "00000040.npz"]
    loaded = storage_results.load_maps(tmp_path / "m", 30)
    assert list(loaded) == ["00ff", "0a"] and loaded["0a"].tolist() == [[30]]
    np.testing.assert_array_equal(loaded["00ff"], maps["00ff"])
    assert loaded["00ff"].dtype == np.uint8
    # A run that goes on from step 30 leaves nothing of what came after.
    storage_results.save_maps(tmp_path / "m", 35, maps, keep=3)
    assert storage_results.load_maps(tmp_path / "m", 40) == {}
    assert len(list((tmp_path / "m").iterdir())) == 3
    # Damaged or of another step: as if there were none.
    path = tmp_path / "m" / "00000035.npz"
    path.rename(tmp_path / "m" / "00000036.npz")
    assert storage_results.load_maps(tmp_path / "m", 36) == {}
    path.write_bytes(b"PK\x03\x04 cut off")
    assert storage_results.load_maps(tmp_path / "m", 35) == {}


def test_texts():
    assert selection.correlation_text(None) == "–" and selection.correlation_text(0.8333) == "+0.83"
    titles = [selection.title(c) for c, _ in selection.choices(selection.compare(EVALUATIONS, 20))]
    assert "mean entropy (lowest)" in titles and titles[-1] == "target labels"
