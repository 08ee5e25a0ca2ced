"""The evaluator against NumPy in float64, on one and on two devices, whole and padded batches."""

import io
import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from jaxseg.engine import gather as engine_gather
from jaxseg.errors import UserError
from jaxseg.evaluation import results as evaluation_results
from jaxseg.evaluation import selection
from jaxseg.evaluation.evaluator import make_evaluator
from jaxseg.storage import results as storage_results

CLASSES = ("road", "sky", "car", "bus")


def predict(params, stats, memory, images):
    """Logits at a quarter of the size, from colours alone."""
    small = images[:, ::4, ::4].astype(jnp.float32) / 255
    return small @ params["gen"]["seg"]["kernel"] + stats["bias"]


def model():
    draw = np.random.default_rng(1)
    kernel = draw.normal(size=(3, 4)).astype(np.float32) * 3
    kernel[:, 3] = -50  # "bus" is never predicted
    return {"gen": {"seg": {"kernel": kernel}}}, {"bias": np.zeros(4, np.float32)}, {}


def images_and_labels(count=5):
    draw = np.random.default_rng(2)
    image = draw.integers(0, 256, (count, 17, 33, 3)).astype(np.uint8)
    label = draw.choice([0, 1, 2, 255], (count, 9, 21)).astype(np.uint8)
    return image, label


def batches(image, label, size):
    for start in range(0, len(image), size):
        part, truth = image[start : start + size], label[start : start + size]
        missing = size - len(part)
        yield {
            "image": np.concatenate([part, np.zeros((missing, *part.shape[1:]), np.uint8)]),
            # Labels of the padding are deliberately real ids: `valid` alone has to keep them out.
            "label": np.concatenate([truth, np.zeros((missing, *truth.shape[1:]), np.uint8)]),
            "valid": np.arange(size) < len(part),
            "id": [f"image{start + i}" for i in range(size)],
        }


def by_hand(image, label):
    """Confusion, entropies and predictions in float64, interpolated line by line."""
    params, stats, _ = model()
    kernel = params["gen"]["seg"]["kernel"].astype(np.float64)
    confusion, entropies, predictions = np.zeros((4, 4), np.int64), [], []
    for pixels, truth in zip(image, label, strict=True):
        logits = pixels[::4, ::4] / 255.0 @ kernel
        h, w = logits.shape[:2]
        rows, columns = (np.linspace(0, n - 1, m) for n, m in ((h, 9), (w, 21)))
        full = np.empty((9, 21, 4))
        for k in range(4):
            across = np.stack([np.interp(columns, np.arange(w), row) for row in logits[..., k]])
            full[..., k] = np.stack([np.interp(rows, np.arange(h), c) for c in across.T], 1)
        probability = np.exp(full - full.max(-1, keepdims=True))
        probability /= probability.sum(-1, keepdims=True)
        entropies.append(-(probability * np.log(probability + 1e-300)).sum(-1) / np.log(4))
        predictions.append(full.argmax(-1))
        for t, p in zip(truth.ravel(), predictions[-1].ravel(), strict=True):
            if t != 255:
                confusion[t, p] += 1
    return confusion, np.stack(entropies), np.stack(predictions)


def run(devices, size, pictures=0, maps=None, ranked=None, extremes=0):
    evaluator = make_evaluator(
        predict, 4, jax.local_devices()[:devices], pictures=pictures, extremes=extremes
    )
    return evaluator(*model(), batches(*images_and_labels(), size), CLASSES, maps, ranked)


@pytest.mark.parametrize("devices, size", [(1, 5), (2, 2)])
def test_worst_and_best_images_are_those_of_numpy(devices, size):
    image, label = images_and_labels()
    _, _, predictions = by_hand(image, label)
    scores = []
    for truth, call in zip(label, predictions, strict=True):
        known = truth != 255
        ious = [
            (known & (truth == k) & (call == k)).sum() / union
            for k in range(4)
            if (union := (known & ((truth == k) | (call == k))).sum())
        ]
        scores.append(np.mean(ious))
    order, ranked = np.argsort(scores), []
    result, _ = run(devices, size, ranked=ranked, extremes=1)
    assert [e.id for _, e in ranked] == [f"image{order[0]}", f"image{order[-1]}"]
    np.testing.assert_allclose([s for s, _ in ranked], np.sort(scores)[[0, -1]], rtol=1e-6)
    np.testing.assert_array_equal(ranked[0][1].prediction, predictions[order[0]])
    assert result["confusion"]["pixels"] == by_hand(image, label)[0].tolist()


def test_pictures_may_be_chosen_by_id():
    _, examples = run(2, 2, pictures={"image1", "image4", "elsewhere"})
    _, every = run(1, 5, pictures=9)
    assert [e.id for e in examples] == ["image1", "image4"]
    for example, expected in zip(examples, (every[1], every[4]), strict=True):
        np.testing.assert_array_equal(example.image, expected.image)
        np.testing.assert_array_equal(example.prediction, expected.prediction)


def coarse_by_hand(image):
    """Float64 logits at the pixels for comparing snapshots: every second of 5 x 9."""
    logits = image[:, ::4, ::4] / 255.0 @ model()[0]["gen"]["seg"]["kernel"].astype(np.float64)
    return logits[:, 1::2, 1::2]


@pytest.mark.parametrize(("devices", "size"), [(1, 5), (1, 2), (2, 2), (2, 3)])
def test_equals_numpy_whatever_the_devices_and_the_batch(devices, size):
    result, examples = run(devices, size, pictures=3)
    confusion, entropy, prediction = by_hand(*images_and_labels())
    union = confusion.sum(0) + confusion.sum(1) - np.diag(confusion)
    iou = np.diag(confusion)[:3] / union[:3]
    assert result["images"] == 5
    assert list(result["iou"]) == list(CLASSES) and result["iou"]["bus"] is None
    np.testing.assert_allclose(list(result["iou"].values())[:3], iou, rtol=1e-12)
    assert result["miou"] == pytest.approx(iou.mean(), abs=1e-12)
    accuracy = np.trace(confusion) / confusion.sum()
    assert result["pixel_accuracy"] == pytest.approx(accuracy, abs=1e-12)
    assert result["entropy"] == pytest.approx(entropy.mean(), abs=1e-5)
    assert [e.id for e in examples] == ["image0", "image1", "image2"]
    for i, example in enumerate(examples):
        np.testing.assert_array_equal(example.prediction, prediction[i])
        np.testing.assert_allclose(example.entropy, entropy[i], atol=1e-4)
        np.testing.assert_array_equal(example.image, images_and_labels()[0][i])


@pytest.mark.parametrize(("devices", "size"), [(1, 5), (1, 2), (2, 2), (2, 3)])
def test_what_chooses_a_snapshot_is_the_same_whatever_the_devices_and_the_batch(devices, size):
    maps = {}
    result, _ = run(devices, size, maps=maps)
    coarse = coarse_by_hand(images_and_labels()[0])
    density = selection.neighbourhood_density(coarse.reshape(5, -1, 4))
    assert result["neighbourhood_density"] == pytest.approx(density.mean(), abs=1e-5)
    assert len(maps) == 5
    for expected, found in zip(coarse.argmax(-1), maps.values(), strict=True):
        np.testing.assert_array_equal(found, expected)
        assert found.dtype == np.uint8
    one = {}
    alone, _ = run(1, 5, maps=one)
    # Logits may differ in their last bit where XLA compiles another batch otherwise (jax 0.12).
    expected = pytest.approx(alone["neighbourhood_density"], rel=1e-6)
    assert result["neighbourhood_density"] == expected
    assert list(one) == list(maps)


def test_two_processes_bring_their_images_together(monkeypatch):
    """Each has its own batches of half the images; the second process's last batch is empty."""
    image, label = images_and_labels()
    names = np.array([f"image{i}" for i in range(5)])

    def share(index):
        for batch, wanted in (((0, 1, 2, 3), True), ((4, 4, 4, 4), index == 0)):
            mine = list(batch[index::2])
            valid = np.array([wanted, wanted and batch[0] != 4])
            yield {"image": image[mine], "label": label[mine], "valid": valid, "id": names[mine]}

    def evaluated(gather):
        monkeypatch.setattr(engine_gather.multihost_utils, "process_allgather", gather)
        evaluator, maps = make_evaluator(predict, 4, jax.local_devices()[:1]), [{}, {}]
        return [evaluator(*model(), share(i), CLASSES, maps[i])[0] for i in (0, 1)], maps

    one = {}
    alone, _ = run(1, 5, maps=one)
    # First what each one sends is written down, then both are told what both have sent.
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    sent = []
    evaluated(lambda array: sent.append(array) or np.stack([array, 0 * array]))
    half = len(sent) // 2
    answers = iter(2 * [np.stack(pair) for pair in zip(sent[:half], sent[half:], strict=True)])
    results, maps = evaluated(lambda array: next(answers))
    assert results[0] == results[1] == {**alone, "entropy": pytest.approx(alone["entropy"])}
    for each in maps:
        assert each.keys() == one.keys()
        for name, found in each.items():
            np.testing.assert_array_equal(found, one[name])


def test_logits_of_full_size_are_looked_at_as_sparsely():
    """A protocol that returns logits for every pixel: every eighth is compared."""

    def full(params, stats, memory, images):
        return images.astype(jnp.float32) / 255 @ params["gen"]["seg"]["kernel"]

    maps, (image, label) = {}, images_and_labels()
    evaluator = make_evaluator(full, 4)
    result, _ = evaluator(*model(), batches(image, label, 2), CLASSES, maps)
    logits = image[:, 4::8, 4::8] / 255.0 @ model()[0]["gen"]["seg"]["kernel"].astype(np.float64)
    assert logits.shape == (5, 2, 4, 4)
    for expected, found in zip(logits.argmax(-1), maps.values(), strict=True):
        np.testing.assert_array_equal(found, expected)
    density = selection.neighbourhood_density(logits.reshape(5, 8, 4)).mean()
    assert result["neighbourhood_density"] == pytest.approx(density, abs=1e-5)


@pytest.mark.parametrize("devices", [1, 2])
def test_images_of_several_sizes(devices):
    """As with `eval.full_resolution`: images of all sizes count equally."""
    draw = np.random.default_rng(3)
    other = draw.integers(0, 256, (2, 25, 49, 3)).astype(np.uint8)
    truth = draw.choice([0, 1, 2, 255], (2, 25, 49)).astype(np.uint8)
    evaluator = make_evaluator(predict, 4, jax.local_devices()[:devices], pictures=9)
    small, large, both = {}, {}, {}
    a, _ = evaluator(*model(), batches(*images_and_labels(), 2), CLASSES, small)
    names = iter(["wide0", "wide1"])
    renamed = ({**b, "id": [next(names) for _ in b["id"]]} for b in batches(other, truth, 1))
    kept = list(renamed)
    b, _ = evaluator(*model(), iter(kept), CLASSES, large)
    stream = itertools.chain(batches(*images_and_labels(), 2), kept)
    result, examples = evaluator(*model(), stream, CLASSES, both)
    assert result["images"] == 7 and len(examples) == 7
    for key in ("entropy", "neighbourhood_density"):
        assert result[key] == pytest.approx((5 * a[key] + 2 * b[key]) / 7)
    assert [e.prediction.shape for e in examples] == [(9, 21)] * 5 + [(25, 49)] * 2
    assert both.keys() == small.keys() | large.keys() and len(both) == 7
    for name, found in both.items():
        np.testing.assert_array_equal(found, (small | large)[name])
    assert {m.shape for m in both.values()} == {(2, 4), (3, 6)}
    assert selection.agreement(both, both, 4) == (1.0, 1.0)


def test_further_sets_of_classes_are_counted_from_the_same_predictions():
    evaluator = make_evaluator(predict, 4, also={"two": (0, 2), "one": (1,), "no": (3,)})
    result, _ = evaluator(*model(), batches(*images_and_labels(), 2), CLASSES)
    full, _ = run(1, 5)
    iou = full["iou"]
    assert result["miou_two"] == pytest.approx((iou["road"] + iou["car"]) / 2)
    assert result["miou_one"] == iou["sky"] and result["miou_no"] is None
    assert {k: v for k, v in result.items() if not k.startswith("miou_")} == {
        **full,
        "entropy": pytest.approx(full["entropy"]),
        "neighbourhood_density": pytest.approx(full["neighbourhood_density"], rel=1e-6),
    }
    text = io.StringIO()
    evaluation_results.print_table(result, CLASSES, Console(file=text, width=100))
    lines = text.getvalue().splitlines()
    assert f" {100 * result['miou_two']:.1f} " in next(x for x in lines if "mean IoU, two" in x)
    assert " – " in next(line for line in lines if "mean IoU, no" in line)


def test_subset_protocol_scores_only_its_classes():
    evaluator = make_evaluator(predict, 4, scored=(0, 2))
    result, _ = evaluator(*model(), batches(*images_and_labels(), 2), CLASSES)
    full, _ = run(1, 5)
    assert list(result["iou"]) == ["road", "car"]
    assert result["miou"] == pytest.approx((full["iou"]["road"] + full["iou"]["car"]) / 2)


def test_percent():
    assert (
        evaluation_results.percent(0.12345) == "12.35 %" and evaluation_results.percent(None) == "–"
    )
    assert evaluation_results.percent(1.0, 1, "") == "100.0"


def test_results_file_and_table(tmp_path):
    result = {"step": 30, "split": "val", **run(1, 5)[0]}
    storage_results.write_json(tmp_path / "run" / "results.json", result)
    assert json.loads((tmp_path / "run" / "results.json").read_text()) == result
    storage_results.write(tmp_path / "run", result)
    without = {key: value for key, value in result.items() if key != "confusion"}
    assert json.loads((tmp_path / "run" / "results.json").read_text()) == without
    rows = (tmp_path / "run/confusion.csv").read_text().splitlines()
    assert rows[0] == ",road,sky,car,bus"
    counts = result["confusion"]["pixels"]
    assert rows[3] == "car," + ",".join(map(str, counts[2])) and len(rows) == 5
    text = io.StringIO()
    evaluation_results.print_table(result, CLASSES, Console(file=text, width=100))
    lines = text.getvalue().splitlines()
    assert lines[0].strip() == "val, step 30, 5 images"
    road = next(line for line in lines if "road" in line)
    assert f"{100 * result['iou']['road']:.1f}" in road
    assert " – " in next(line for line in lines if "bus" in line)
    assert f"{100 * result['miou']:.1f}" in next(line for line in lines if "mean IoU" in line)
    assert sum("mean IoU" in line for line in lines) == 1
    text = io.StringIO()
    evaluation_results.print_table(result, CLASSES, Console(file=text), name="model_6.npz")
    assert text.getvalue().startswith("val, model_6.npz, 5 images")
    text = io.StringIO()
    evaluation_results.print_table(run(1, 5)[0], CLASSES, Console(file=text))
    assert text.getvalue().startswith("5 images")


def test_user_errors():
    evaluator = make_evaluator(predict, 4)
    image, label = images_and_labels()
    with pytest.raises(UserError, match="no image to evaluate"):
        evaluator(*model(), iter(()), CLASSES)
    with pytest.raises(UserError, match="3 class names"):
        evaluator(*model(), batches(image, label, 2), CLASSES[:3])
    label[3, 0, 0] = 7
    with pytest.raises(UserError, match="image3 holds class id 7"):
        evaluator(*model(), batches(image, label, 2), CLASSES)
