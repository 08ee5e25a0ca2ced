"""The evaluator against NumPy in float64, on one and on two devices, whole and padded batches."""

import io
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from jaxseg import evaluate
from jaxseg.errors import UserError

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


def run(devices, size, pictures=0):
    evaluator = evaluate.make_evaluator(
        predict, 4, jax.local_devices()[:devices], pictures=pictures
    )
    return evaluator(*model(), batches(*images_and_labels(), size), CLASSES)


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


def test_subset_protocol_scores_only_its_classes():
    evaluator = evaluate.make_evaluator(predict, 4, scored=(0, 2))
    result, _ = evaluator(*model(), batches(*images_and_labels(), 2), CLASSES)
    full, _ = run(1, 5)
    assert list(result["iou"]) == ["road", "car"]
    assert result["miou"] == pytest.approx((full["iou"]["road"] + full["iou"]["car"]) / 2)


def test_percent():
    assert evaluate.percent(0.12345) == "12.35 %" and evaluate.percent(None) == "–"
    assert evaluate.percent(1.0, 1, "") == "100.0"


def test_results_file_and_table(tmp_path):
    result = {"step": 30, "split": "val", **run(1, 5)[0]}
    evaluate.write_results(tmp_path / "run" / "results.json", result)
    assert json.loads((tmp_path / "run" / "results.json").read_text()) == result
    text = io.StringIO()
    evaluate.print_table(result, CLASSES, Console(file=text, width=100))
    lines = text.getvalue().splitlines()
    assert "val step 30, 5 images" in lines[0]
    road = next(line for line in lines if "road" in line)
    assert f"{100 * result['iou']['road']:.1f}" in road
    assert " – " in next(line for line in lines if "bus" in line)
    assert f"{100 * result['miou']:.1f}" in next(line for line in lines if "mean IoU" in line)


def test_user_errors():
    evaluator = evaluate.make_evaluator(predict, 4)
    image, label = images_and_labels()
    with pytest.raises(UserError, match="no image to evaluate"):
        evaluator(*model(), iter(()), CLASSES)
    with pytest.raises(UserError, match="3 class names"):
        evaluator(*model(), batches(image, label, 2), CLASSES[:3])
    label[3, 0, 0] = 7
    with pytest.raises(UserError, match="image3 holds class id 7"):
        evaluator(*model(), batches(image, label, 2), CLASSES)
