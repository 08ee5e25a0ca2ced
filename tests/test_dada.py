"""DADA: steps against a float64 NumPy transcription, the discriminator's input, settings."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from kit.gio_ada import SIZE, TOLERANCE, K, batches, differentiate, segmenter, unit
from kit.small import run

from jaxseg.errors import UserError
from jaxseg.methods import dada
from jaxseg.models.network import Network

RATE, WEIGHT, LAM, SCALE, NEAR = 0.1, 0.6, 0.8, 5.0, 2.0
TXS = {player: optax.sgd(RATE) for player in ("gen", "disc")}


def discriminator():
    """Linear; its statistics count the maps it has been trained on, as spectral norm's move."""

    def init(key, maps):
        assert maps.shape[-1] == K
        return {"kernel": jax.random.normal(key, (K, 1))}, {"looks": jnp.zeros(())}

    def apply(params, stats, maps, train, key=None):
        after = {"looks": stats["looks"] + 1} if train else stats
        return {"score": maps @ params["kernel"]}, after

    return Network(init, apply)


def make(**settings):
    defaults = dict(
        num_classes=K,
        segmentation_weights={"main": 1.0},
        adversarial_weights={"main": WEIGHT},
        lam_depth=LAM,
        depth_near=NEAR,
        depth_scale=SCALE,
    )
    return dada.make(segmenter(), discriminator(), **{**defaults, **settings})


# --- the transcription ---


def softplus(x):
    return np.logaddexp(0, x)


def outputs(params, images):
    x = images.astype(float) / 127.5 - 1
    logits = x @ params["main"]
    e = np.exp(logits - logits.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True), x @ params["depth"]


def maps(params, images):
    p, depth = outputs(params, images)
    return -p * np.log(p) / np.log(K) * depth


def gen_loss(params, batch, threshold):
    p, depth = outputs(params, batch["source_image"])
    label, metres = batch["source_label"], batch["source_depth"].astype(float)
    valid, there = label != 255, metres > 0
    chosen = np.take_along_axis(p, np.where(valid, label, 0)[..., None], -1)[..., 0]
    total = -np.log(chosen[valid]).mean()
    error = depth_error(params, batch)
    far = (error**2 + threshold**2) / (2 * threshold)
    total += LAM * np.where(error <= threshold, error, far)[there].mean()
    of_target = maps(params, batch["target_image"]) @ params["kernel"]
    return total + WEIGHT * softplus(of_target).mean()  # to be taken for the source


def depth_error(params, batch):
    """|prediction - SCALE near / metres|, 0 where there is no depth."""
    _, depth = outputs(params, batch["source_image"])
    metres = batch["source_depth"].astype(float)
    there = metres > 0
    target = SCALE * NEAR / np.maximum(np.where(there, metres, 1.0), NEAR)
    return np.where(there, np.abs(depth[..., 0] - target), 0)


def disc_loss(params, batch):
    of_source, of_target = (maps(params, batch[f"{x}_image"]) @ params["kernel"]
                            for x in ("source", "target"))  # fmt: skip
    return 0.5 * softplus(of_source).mean() + 0.5 * softplus(-of_target).mean()


def transcribed(start, data):
    params = {**start.params["gen"]["segmenter"], **start.params["disc"]["main"]}
    params = {k: np.asarray(v, float) for k, v in params.items()}
    for batch in data:
        threshold = 0.2 * depth_error(params, batch).max()  # a constant of the step
        gen = partial(gen_loss, batch=batch, threshold=threshold)
        slopes = differentiate(gen, params, ["main", "depth"])  # both at the old parameters
        slopes |= differentiate(partial(disc_loss, batch=batch), params, ["kernel"])
        params = {k: v - RATE * slopes[k] for k, v in params.items()}
    return params


@pytest.mark.parametrize("devices", [1, 2])
def test_three_steps_are_the_transcription(devices):
    data = list(batches(3))
    start, end, metrics = run(make(), TXS, data, devices=devices)
    found = {**end.params["gen"]["segmenter"], **end.params["disc"]["main"]}
    for name, value in transcribed(start, data).items():
        np.testing.assert_allclose(found[name], value, **TOLERANCE, err_msg=name)
    assert set(metrics) == {"segmentation/main", "depth", "adversarial/main", "accuracy/main",
                            "loss/gen", "loss/disc"}  # fmt: skip
    # Only in its own turn, twice a step.
    assert float(end.stats["main"]["looks"]) == 6


def test_the_adversary_moves_the_depth_too():
    """Without the losses on the source's depth there is still a gradient: the product has two
    factors."""
    (batch,) = batches(1)
    batch["source_depth"] = np.zeros_like(batch["source_depth"])
    for weight in (WEIGHT, 0.0):
        start, end, metrics = run(make(adversarial_weights={"main": weight}), TXS, [batch])
        before, after = (s.params["gen"]["segmenter"]["depth"] for s in (start, end))
        assert np.array_equal(before, after) == (weight == 0)
        assert float(metrics["depth"]) == 0


def test_depth_is_evaluated_in_metres():
    method, (batch,) = make(depth_far=50.0), batches(1)
    params, stats, memory = method.init(jax.random.PRNGKey(0), batch)
    metres = method.views["depth"].function(params, stats, memory, batch["target_image"])
    raw = np.asarray(unit(batch["target_image"]) @ params["gen"]["segmenter"]["depth"])[..., 0]
    expected = np.clip(SCALE * NEAR / np.maximum(raw, 1e-9), NEAR, 50.0)
    np.testing.assert_allclose(metres, expected, rtol=1e-4)
    assert metres.shape == (2, *SIZE)
    assert "source_depth" in method.reads and set(method.views) == {"depth"}


@pytest.mark.parametrize(
    "settings, match",
    [({"lam_depth": 0.0}, "without depth this is advent"), ({"depth_scale": 0.0}, "depth_scale=0")],
)
def test_wrong_settings_are_refused(settings, match):
    with pytest.raises(UserError, match=match):
        make(**settings)
