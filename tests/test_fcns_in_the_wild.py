"""FCNs in the Wild: three steps against a float64 NumPy transcription, and its settings."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from kit.small import run

from jaxseg.errors import UserError
from jaxseg.methods import fcns_in_the_wild
from jaxseg.models.network import Network

C, F, K = 3, 2, 3  # channels, features, classes
WEIGHTS = {"adversarial_weight": 0.3, "constraint_weight": 2.0}
RATE = 0.2


def segmenter():
    def init(key, images):
        keys = jax.random.split(key, 2)
        return {
            "backbone": jax.random.normal(keys[0], (C, F)),
            "head": 3 * jax.random.normal(keys[1], (F, K)),
        }, {}

    def apply(params, stats, images, train, key=None):
        features = images @ params["backbone"]
        return {"features": features, "main": features @ params["head"]}, stats

    return Network(init, apply)


def classifier():
    def init(key, features):
        assert features.shape[-1] == F
        return {"kernel": jax.random.normal(key, (F, 1))}, {}

    def apply(params, stats, features, train, key=None):
        return {"score": features @ params["kernel"]}, stats

    return Network(init, apply)


def make(**settings):
    return fcns_in_the_wild.make(
        segmenter(),
        classifier(),
        num_classes=K,
        segmentation_weights={"main": 1.0},
        **{**WEIGHTS, "remembered": 4, **settings},
    )


def batches(steps):
    rng = np.random.default_rng(3)
    for _ in range(steps):
        label = rng.choice([0, 1, 2, 255], (2, 3, 4), p=[0.7, 0.1, 0.1, 0.1])
        yield {
            "source_image": rng.normal(size=(2, 3, 4, C)).astype(np.float32),
            "source_label": label.astype(np.int32),
            "target_image": rng.normal(0.5, 1.5, size=(2, 3, 4, C)).astype(np.float32),
        }


# --- the transcription ---


def softplus(x):
    return np.logaddexp(0, x)


def domain_loss(params, batch, flip):
    scores = [
        batch[f"{name}_image"].astype(float) @ params["backbone"] @ params["kernel"]
        for name in ("source", "target")
    ]
    if flip:
        scores = [-s for s in scores]
    return 0.5 * softplus(scores[0]).mean() + 0.5 * softplus(-scores[1]).mean()


def softmax(params, images):
    logits = images.astype(float) @ params["backbone"] @ params["head"]
    e = np.exp(logits - logits.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def sizes(shares):
    """10th and 90th percentile of each class's size over the images that contain it."""
    found = []
    for k in range(K):
        held = [s[k] for s in shares if s[k] > 0]
        found.append(np.percentile(held, [10, 90]) if held else (0, 1))
    return np.array(found).T


def gen_loss(params, batch, shares, confusion, held):
    p, label = softmax(params, batch["source_image"]), batch["source_label"]
    valid = label != 255
    chosen = np.take_along_axis(p, np.where(valid, label, 0)[..., None], -1)[..., 0]
    total = -np.log(chosen[valid]).mean()
    confused = domain_loss(params, batch, flip=True)
    if confusion == "both":
        confused = 0.5 * (confused + domain_loss(params, batch, flip=False))
    total += WEIGHTS["adversarial_weight"] * confused
    (lower, upper), mean = sizes(shares), softmax(params, batch["target_image"]).mean((1, 2))
    outside = np.maximum(lower - mean, 0) + np.maximum(mean - upper, 0)
    outside = np.where(held, outside, mean) * np.where(lower > 0.1, 0.1, 1.0)
    return total + WEIGHTS["constraint_weight"] * outside.sum(-1).mean()


def held_classes(params, batch, shares):
    winners = softmax(params, batch["target_image"]).argmax(-1)
    won = np.stack([(winners == k).mean((1, 2)) for k in range(K)], -1)
    return won > 0.1 * sizes(shares)[0]


def differentiate(function, params, names):
    """Central differences in float64."""
    gradients = {}
    for name in names:
        gradients[name] = np.zeros_like(params[name])
        for i in np.ndindex(params[name].shape):
            values = []
            for sign in (1, -1):
                moved = {k: v.copy() for k, v in params.items()}
                moved[name][i] += sign * 1e-5
                values.append(function(moved))
            gradients[name][i] = (values[0] - values[1]) / 2e-5
    return gradients


def transcribed(start, data, confusion):
    params = {k: np.asarray(v, float) for k, v in start.params["gen"]["segmenter"].items()}
    params["kernel"] = np.asarray(start.params["disc"]["features"]["kernel"], float)
    shares, seen = [], set()
    for batch in data:
        # The classifier moves first, the network against the classifier as it has become.
        gradient = differentiate(partial(domain_loss, batch=batch, flip=False), params, ["kernel"])
        params["kernel"] -= RATE * gradient["kernel"]
        for label in batch["source_label"]:
            counts = np.bincount(label[label != 255], minlength=K)
            shares = [*shares, counts / counts.sum()][-4:]
        held = held_classes(params, batch, shares)
        seen |= set(held.ravel().tolist())
        names = ["backbone", "head"]
        loss = partial(gen_loss, batch=batch, shares=shares, confusion=confusion, held=held)
        gradient = differentiate(loss, params, names)
        for name in names:
            params[name] -= RATE * gradient[name]
    assert seen == {True, False}, "the data should have both kinds of classes"
    return params


@pytest.mark.parametrize("devices", [1, 2])
@pytest.mark.parametrize("confusion", fcns_in_the_wild.CONFUSIONS)
def test_three_steps_are_the_transcription(confusion, devices):
    data = list(batches(3))
    txs = {player: optax.sgd(RATE) for player in ("gen", "disc")}
    start, end, metrics = run(make(confusion=confusion), txs, data, devices=devices)
    expected = transcribed(start, data, confusion)
    found = {**end.params["gen"]["segmenter"], **end.params["disc"]["features"]}
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=2e-4, atol=2e-5, err_msg=name)
    assert int(end.memory["sizes"]["seen"]) == 6
    assert {"adversarial/features", "target/sizes", "accuracy/features"} <= set(metrics)


def test_the_warm_up_remembers_sizes_and_moves_nothing_else():
    method = make()
    txs = {player: optax.sgd(RATE) for player in ("gen", "disc")}
    start, end, metrics = run(method._replace(losses=method.warmup), txs, list(batches(1)))
    assert int(end.memory["sizes"]["seen"]) == 2
    assert set(metrics) == {"segmentation/main", "loss/gen"}
    kernels = [s.params["disc"]["features"]["kernel"] for s in (start, end)]
    np.testing.assert_array_equal(*kernels)


def test_the_constraints_can_be_left_out():
    txs = {player: optax.sgd(RATE) for player in ("gen", "disc")}
    _, _, metrics = run(make(constraint_weight=0.0), txs, list(batches(1)))
    assert "target/sizes" not in metrics and np.isfinite(float(metrics["loss/gen"]))


@pytest.mark.parametrize(
    "settings, match",
    [
        ({"confusion": "none"}, "confusion='none'; choose one of"),
        ({"percentiles": (90, 10)}, "two rising numbers"),
        ({"statistics": "none"}, "statistics='none'"),
    ],
)
def test_wrong_settings_are_refused(settings, match):
    with pytest.raises(UserError, match=match):
        make(**settings)


def test_predict_is_the_main_level():
    method = make()
    params, stats, memory = method.init(jax.random.PRNGKey(0), next(batches(1)))
    images = jnp.ones((1, 2, 2, C))
    net = params["gen"]["segmenter"]
    logits = method.predict(params, stats, memory, images)
    np.testing.assert_allclose(logits, images @ net["backbone"] @ net["head"], rtol=1e-5)
