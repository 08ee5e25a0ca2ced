"""What self-training shows: the teacher's labels and confidence, mixed and masked images."""

import jax
import numpy as np
import optax
import pytest
from kit.small import K, quick_run, three_channels

from jaxseg.engine.method import CLASSES, IMAGE, PROBABILITY
from jaxseg.errors import UserError
from jaxseg.evaluation.evaluator import Example
from jaxseg.methods import cbst, dacs
from jaxseg.methods.parts import masked
from jaxseg.methods.parts.appearance import StrongView
from jaxseg.methods.parts.masked import Masking
from jaxseg.report import paint_views
from jaxseg.storage.checkpoints import checkpoint

SIZE = (8, 10)
LEVELS = {"main": 1.0}
OFF = dict(jitter=0.0, blur_probability=0.0)
MASKING = Masking(1.0, block=4, ratio=0.5, view=StrongView(0.0, 0.0, 0.0), hidden=(1.0, 2.0, 3.0))


def batches(steps):
    rng = np.random.default_rng(5)
    for _ in range(steps):
        label = rng.integers(0, K, (2, *SIZE)).astype(np.int32)
        images = [rng.integers(0, 256, (2, *SIZE, 3)).astype(np.float32) for _ in (0, 1)]
        yield {"source_image": images[0], "source_label": label, "target_image": images[1]}


def lifted(of_teacher=False):
    method = dacs.make(
        three_channels(), num_classes=K, segmentation_weights=LEVELS, threshold=0.4,
        of_teacher=of_teacher, margins=(0.0, 0.25), **OFF,
    )  # fmt: skip
    return masked.masked(method, three_channels(), LEVELS, MASKING)


def look(method, state, batch):
    """The maps of all views for the first images of a batch."""
    target, label = batch["target_image"][0], batch["source_label"][0]
    unused = np.zeros(SIZE, np.uint8)
    example = Example("t", target, unused, unused, unused)
    sample = {"id": "s", "image": batch["source_image"][0], "label": label}
    viewer = paint_views.make_viewer(method, jax.local_devices()[0])
    (seen,) = viewer(state.params, state.stats, state.memory, [example], [sample])
    return seen


def test_a_network_that_pools_the_image_is_shown_too():
    """Its BatchNorm has no statistics of one pooled image; the image twice has its own."""
    plain, seen = three_channels(), []

    def pooling(params, stats, images, train, *args, **kwargs):
        seen.append((len(images), train))
        if train and len(images) == 1:
            raise UserError("BatchNorm has no statistics of one value per channel")
        return plain.apply(params, stats, images, train, *args, **kwargs)

    looks = []
    for net in (plain, plain._replace(apply=pooling)):
        method = dacs.make(net, num_classes=K, segmentation_weights=LEVELS, threshold=0.4, **OFF)
        (batch,) = batches(1)
        _, end, _ = quick_run(method, {"gen": optax.sgd(1e-4)}, [batch])
        looks.append(look(method, end, batch))
    assert (1, True) in seen and (2, True) in seen
    for name in ("pseudo", "confidence", "mixed_label"):
        one, two = (found.maps[name] for found in looks)
        np.testing.assert_allclose(one, two, atol=1e-6)


def test_what_is_shown(tmp_path):
    method, data = lifted(), list(batches(2))
    start, end, _ = quick_run(method, {"gen": optax.sgd(1e-4)}, data)
    seen = look(method, end, data[0])
    kinds = {name: view.kind for name, view in seen.views.items()}
    assert kinds == {
        "pseudo": CLASSES, "confidence": PROBABILITY, "other": CLASSES, "mixed": IMAGE,
        "mixed_label": CLASSES, "masked": IMAGE,
    }  # fmt: skip
    target, source = data[0]["target_image"][0], data[0]["source_image"][0]
    label = data[0]["source_label"][0]

    kernel = np.asarray(end.memory["teacher"]["params"]["main_head"]["kernel"], np.float64)
    logits = target.reshape(4, 2, 5, 2, 3).mean((1, 3)) @ kernel
    assert (seen.maps["other"] == logits.argmax(-1)).all()  # the teacher's own prediction
    sure, pseudo = seen.maps["confidence"], seen.maps["pseudo"]
    p = np.exp(logits[0, 0]) / np.exp(logits[0, 0]).sum()  # corners are not interpolated
    assert sure[0, 0] == pytest.approx(p.max(), rel=1e-5) and pseudo[0, 0] == p.argmax()
    assert (pseudo[6:] == 255).all() and (pseudo[:6] < K).all() and (sure >= 1 / K).all()

    mixed, mixed_label = seen.maps["mixed"], seen.maps["mixed_label"]
    pasted = (mixed == source).all(-1)
    assert ((mixed == target).all(-1) == ~pasted).all()
    assert len(set(label[pasted])) == 2  # half of three classes, rounded upwards
    assert (mixed_label[pasted] == label[pasted]).all()
    assert (mixed_label[~pasted] == pseudo[~pasted]).all()
    hidden = (seen.maps["masked"] == MASKING.hidden).all(-1)
    assert 0 < hidden.mean() < 1 and (seen.maps["masked"][~hidden] == target[~hidden]).all()

    again = look(method, end, data[0])
    assert all((again.maps[name] == seen.maps[name]).all() for name in seen.maps)
    # Before the first step the teacher is the student.
    first = look(method, start, data[0])
    kernel = np.asarray(start.params["gen"]["segmenter"]["main_head"]["kernel"], np.float64)
    logits = target.reshape(4, 2, 5, 2, 3).mean((1, 3)) @ kernel
    assert (first.maps["other"] == logits.argmax(-1)).all()
    assert lifted(True).views["other"].title == "the student's prediction"


def test_cbst_shows_what_it_keeps():
    method = cbst.make(three_channels(), num_classes=K, segmentation_weights=LEVELS, portion=0.3)
    data = list(batches(1))
    _, end, metrics = quick_run(method, {"gen": optax.sgd(1e-4)}, data)
    seen = look(method, end, data[0])
    assert set(seen.maps) == {"pseudo", "confidence", "other"}
    kept = seen.maps["pseudo"] < 255
    assert 0 < kept.mean() < 1 and metrics["pseudo/kept"] > 0


def test_a_resumed_teacher_goes_on_bit_for_bit(tmp_path):
    """Two steps, a checkpoint, two more: the same as four steps at once."""
    method, data = lifted(), list(batches(4))
    txs = {"gen": optax.sgd(1e-4, momentum=0.9)}
    _, whole, _ = quick_run(method, txs, data)
    _, half, _ = quick_run(method, txs, data[:2])
    with checkpoint.open_manager(tmp_path / "checkpoints") as manager:
        checkpoint.save(manager, half, {"name": "toy"}, None)
        manager.wait_until_finished()
        restored = checkpoint.restore_state(manager, half)
    assert restored.memory["teacher"]["updates"] == 2
    _, end, _ = quick_run(method, txs, data[2:], state=restored)
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(end), strict=True):
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()
