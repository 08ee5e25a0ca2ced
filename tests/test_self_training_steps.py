"""Three steps of DACS and DAFormer on a network with BatchNorm and features, against a float64
transcription: the teacher's parameters are averaged, its statistics are those of its batches; the
distance to the first features is that of a network in evaluation mode.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from kit.small import K, on_one_device, quick_run

from jaxseg.methods import dacs, daformer
from jaxseg.methods.parts import appearance, self_training
from jaxseg.methods.parts.self_training import Mixture
from jaxseg.models.network import Network
from jaxseg.resize import resize_matrix

WIDTH, MOMENTUM, EPSILON = 4, 0.1, 1e-5
RATE, THRESHOLD, DECAY, WEIGHT, THINGS = 1e-2, 0.5, 0.9, 0.5, (0, 2)


def segmenter():
    """2x2 means, BatchNorm without scale and bias, a linear map to features, one to logits."""

    def init(key, images):
        del images
        first, second = jax.random.split(key)
        params = {
            "backbone": {"kernel": jax.random.normal(first, (3, WIDTH))},
            "main_head": {"kernel": jax.random.normal(second, (WIDTH, K))},
        }
        return params, {"mean": jnp.full(3, 20.0), "var": jnp.full(3, 900.0)}

    def apply(params, stats, images, train, key=None):
        n, h, w, c = images.shape
        x = images.reshape(n, h // 2, 2, w // 2, 2, c).mean((2, 4))
        used = {"mean": x.mean((0, 1, 2)), "var": x.var((0, 1, 2))} if train else stats
        if train:
            stats = jax.tree.map(lambda old, new: old + MOMENTUM * (new - old), stats, used)
        features = (x - used["mean"]) / jnp.sqrt(used["var"] + EPSILON)
        features = features @ params["backbone"]["kernel"]
        return {"main": features @ params["main_head"]["kernel"], "features": features}, stats

    return Network(init, apply)


class Twin:
    """The same in float64, with its gradients written out."""

    def __init__(self, params, stats):
        self.kernels = [np.float64(params[name]["kernel"]) for name in ("backbone", "main_head")]
        self.stats = {name: np.float64(value) for name, value in stats.items()}

    def normal(self, images, stats=None):
        """Normalised 2x2 means, by the batch's statistics (which are noted) or by those given."""
        n, h, w, c = images.shape
        x = np.float64(images).reshape(n, h // 2, 2, w // 2, 2, c).mean((2, 4))
        used = stats or {"mean": x.mean((0, 1, 2)), "var": x.var((0, 1, 2))}
        if stats is None:
            self.stats = {k: old + MOMENTUM * (used[k] - old) for k, old in self.stats.items()}
        return (x - used["mean"]) / np.sqrt(used["var"] + EPSILON)

    def probabilities(self, x, size):
        logits = x @ self.kernels[0] @ self.kernels[1]
        rows, columns = (resize_matrix(n, m) for n, m in zip(x.shape[1:3], size, strict=True))
        logits = np.einsum("Hh,Ww,nhwc->nHWc", rows, columns, logits)
        p = np.exp(logits - logits.max(-1, keepdims=True))
        return p / p.sum(-1, keepdims=True), rows, columns

    def learn(self, x, labels, weights, over_all):
        """(gradients of both kernels, loss) of the weighted cross-entropy."""
        p, rows, columns = self.probabilities(x, labels.shape[1:])
        valid = labels != 255
        hot = np.eye(K)[np.where(valid, labels, 0)]
        weights = np.where(valid, weights, 0) / (valid.size if over_all else valid.sum())
        loss = -(weights * np.log((p * hot).sum(-1))).sum()
        slope = np.einsum("Hh,Ww,nHWc->nhwc", rows, columns, (p - hot) * weights[..., None])
        backbone, head = self.kernels
        to_head = np.einsum("nhwf,nhwk->fk", x @ backbone, slope)
        return [np.einsum("nhwc,nhwf->cf", x, slope @ head.T), to_head], loss

    def distance(self, x, first, labels):
        """(gradient for the backbone, mean distance) of things' features to `first`."""
        n, h, w = x.shape[:3]
        blocks = labels.reshape(n, h, 2, w, 2)
        seen = np.stack([(blocks == c).mean((2, 4)) for c in THINGS]).max(0) >= 0.75
        apart = x @ self.kernels[0] - first
        length = np.sqrt(np.square(apart).sum(-1))
        slope = np.where(seen, 1 / length, 0)[..., None] * apart / seen.sum()
        return np.einsum("nhwc,nhwf->cf", x, slope), (length * seen).sum() / seen.sum()


def batches(steps, n=2, size=(8, 10)):
    """Labels in which some 2x2 blocks show one class, and the first two rows none."""
    rng = np.random.default_rng(5)
    for _ in range(steps):
        label = rng.integers(0, K, (n, size[0] // 2, size[1] // 2)).astype(np.int32)
        label = np.kron(label, np.ones((2, 2), np.int32))
        label[:, ::3, ::2] = rng.integers(0, K, label[:, ::3, ::2].shape)
        label[:, :2] = 255
        images = [rng.normal(60 * i, 40, (n, *size, 3)).astype(np.float32) for i in (0, 1)]
        yield {"source_image": images[0], "source_label": label, "target_image": images[1]}


@pytest.mark.parametrize("name, over_all", [("dacs", False), ("daformer", True)])
def test_three_steps_with_batch_statistics_and_features(name, over_all):
    shared = dict(num_classes=K, segmentation_weights={"main": 1.0}, threshold=THRESHOLD)
    shared |= dict(jitter=0.0, blur_probability=0.0, decay=DECAY, margins=(0.0, 0.25))
    far = name == "daformer"
    if far:
        shared |= dict(feature_distance=WEIGHT, things=THINGS)
    module = {"dacs": dacs, "daformer": daformer}[name]
    method = module.make(segmenter(), over_all=over_all, **shared)
    data = list(batches(3))
    start, end, metrics = quick_run(method, {"gen": optax.sgd(RATE)}, data)

    start_of = start.params["gen"]["segmenter"], start.stats["segmenter"]
    student, teacher, first = (Twin(*start_of) for _ in range(3))
    mixture = Mixture(appearance.StrongView(0.0, 0.0, 0.0), of_batch=far, ignored=far)
    draw = on_one_device(lambda k, y: self_training.mask_of_classes(k, y, K, mixture))
    for step, batch in enumerate(data):
        source, labels, target = (batch[key] for key in self_training.READS)
        count = step + 1 if far else max(step, 1)
        decay = min(1 - 1 / count, DECAY)
        both = zip(teacher.kernels, student.kernels, strict=True)
        teacher.kernels = [decay * old + (1 - decay) * new for old, new in both]
        x = student.normal(source)
        gradients, loss = student.learn(x, labels, np.ones(labels.shape), over_all)
        if far:
            own = first.normal(source, first.stats) @ first.kernels[0]
            slope, apart = student.distance(x, own, labels)
            gradients[0] = gradients[0] + WEIGHT * slope
        p = teacher.probabilities(teacher.normal(target), labels.shape[1:])[0]
        weights = np.full(labels.shape, (p.max(-1) >= THRESHOLD).mean())
        assert 0 < weights[0, 0, 0] < 1
        weights[:, 6:] = 0
        key = jax.random.fold_in(jax.random.fold_in(start.key, step), 0)
        mix_key = jax.random.split(jax.random.fold_in(key, 0), 3)[1]
        mask = np.asarray(draw(jax.random.split(mix_key)[0], labels))
        mixed = student.normal(np.where(mask[..., None], source, target))
        labels, weights = np.where(mask, labels, p.argmax(-1)), np.where(mask, 1.0, weights)
        more, second = student.learn(mixed, labels, weights, over_all)
        student.kernels = [
            kernel - RATE * (one + other)
            for kernel, one, other in zip(student.kernels, gradients, more, strict=True)
        ]
    found = end.memory["teacher"]
    for twin, params, stats in (
        (student, end.params["gen"]["segmenter"], end.stats["segmenter"]),
        (teacher, found["params"], found["stats"]),
    ):
        for kernel, group in zip(twin.kernels, ("backbone", "main_head"), strict=True):
            np.testing.assert_allclose(params[group]["kernel"], kernel, rtol=1e-4, atol=1e-5)
        for leaf, value in twin.stats.items():
            np.testing.assert_allclose(stats[leaf], value, rtol=1e-5)
    np.testing.assert_allclose(metrics["segmentation/main"], loss, rtol=1e-4)
    np.testing.assert_allclose(metrics["mixed/main"], second, rtol=1e-4)
    if far:
        np.testing.assert_allclose(metrics["feature_distance"], apart, rtol=1e-4)
