"""Variants of MinEnt, AdvEnt and AdaptSegNet: entropy ranges, class prior, features as a level."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from kit.alignment import (
    BIAS,
    KERNEL,
    LABEL,
    SOURCE,
    TARGET,
    K,
    by_hand,
    discriminator,
    mean_softplus,
    one_step,
    segmenter,
    to_logits,
)  # fmt: skip
from kit.small import run

from jaxseg.errors import UserError
from jaxseg.methods import adaptsegnet, advent, minent
from jaxseg.models.network import Network


def test_entropy_ranges_by_hand():
    """The most uncertain of three pixels has entropy 1, two of them 1 and 0.875."""
    for share, expected in ((1 / 3, 1.0), (0.5, (1 + 0.875 + 0.875) / 3), (1.0, 2.75 / 3)):
        method = minent.make(
            segmenter(),
            num_classes=K,
            segmentation_weights={"main": 1.0},
            entropy_weights={"main": 0.5},
            hardest_share=share,
        )
        _, _, metrics = one_step(method, by_hand())
        # Two pixels share the second place, and both count.
        assert metrics["target/main"] == pytest.approx(expected, rel=1e-6)
        assert metrics["loss/gen"] == pytest.approx(np.log(2) + 0.5 * expected, rel=1e-6)


def test_only_the_hardest_pixels_move_the_network():
    data = by_hand()
    # Without the uniform pixel, whose entropy has no gradient: the pixel (1/4, 1/8, 1/8, 1/2).
    data = {name: value[:, :, :2] for name, value in data.items()}
    data["target_image"] = np.log([[[[0.7, 0.1, 0.1, 0.1], [1 / 4, 1 / 8, 1 / 8, 1 / 2]]]])
    data["target_image"] = data["target_image"].astype(np.float32)
    method = minent.make(
        segmenter(),
        num_classes=K,
        segmentation_weights={"main": 0.0},
        entropy_weights={"main": 1.0},
        hardest_share=0.5,
    )
    moved, _, _ = one_step(method, data, rate=1.0)
    p = np.array([1 / 4, 1 / 8, 1 / 8, 1 / 2])
    slope = -p * (np.log(p) - (p * np.log(p)).sum()) / np.log(K)
    expected = np.outer(np.log(p), slope)
    np.testing.assert_allclose(moved["gen"]["segmenter"]["main"], expected, atol=1e-6)


PRIOR = {"weight": 2.0, "mu": 0.5}


def test_class_prior_by_hand():
    """The only labelled source pixel is of class 0, so half of the target should be of class 0."""
    make = {
        "minent": lambda **settings: minent.make(
            segmenter(), entropy_weights={"main": 0.5}, **settings
        ),
        "advent": lambda **settings: advent.make(
            segmenter(), discriminator(), adversarial_weights={"main": 0.5}, **settings
        ),
    }
    settings = dict(num_classes=K, segmentation_weights={"main": 1.0})
    short = 0.5 - (1 / 8 + 1 / 4 + 1 / 4) / 3  # what class 0 lacks; the others are not asked for
    for name, build in make.items():
        plain, _, before = one_step(build(**settings), by_hand(), rate=1.0)
        method = build(**settings, class_prior=PRIOR)
        moved, end, metrics = one_step(method, by_hand(), rate=1.0)
        assert metrics["target/class_prior"] == pytest.approx(short, rel=1e-5), name
        assert metrics["loss/gen"] == pytest.approx(before["loss/gen"] + 2 * short, rel=1e-5)
        np.testing.assert_allclose(end.memory["histogram"]["shares"], [1, 0, 0, 0])
        # d/dp of -mean over three pixels of p_0.
        to_p = np.zeros((3, K))
        to_p[:, 0] = -1 / 3
        expected = 2 * np.log(TARGET).T @ to_logits(TARGET, to_p)
        difference = moved["gen"]["segmenter"]["main"] - plain["gen"]["segmenter"]["main"]
        np.testing.assert_allclose(difference, expected, atol=2e-6)


def test_the_warm_up_learns_the_prior_too():
    method = minent.make(
        segmenter(),
        num_classes=K,
        segmentation_weights={"main": 1.0},
        entropy_weights={"main": 0.5},
        class_prior=PRIOR,
    )
    _, end, metrics = one_step(method._replace(losses=method.warmup), by_hand())
    np.testing.assert_allclose(end.memory["histogram"]["shares"], [1, 0, 0, 0])
    assert set(metrics) == {"segmentation/main", "loss/gen"}


@pytest.mark.parametrize(
    "prior, match", [({"weight": -1.0, "mu": 0.5}, "weight at least 0"),
                     ({"weight": 1.0, "mu": 2.0}, "mu within 0 and 1")]
)  # fmt: skip
def test_wrong_priors_are_refused(prior, match):
    with pytest.raises(UserError, match=match):
        minent.make(
            segmenter(),
            num_classes=K,
            segmentation_weights={"main": 1.0},
            entropy_weights={},
            class_prior=prior,
        )


def with_features():
    """Features are the images times a scale; logits are the features."""

    def init(key, images):
        return {"scale": jnp.ones(())}, {}

    def apply(params, stats, images, train, key=None):
        features = images * params["scale"]
        return {"main": features, "features": features}, stats

    return Network(init, apply)


def test_features_as_a_level_by_hand():
    """The discriminator gets the unchanged features of both domains, at their own size."""
    method = adaptsegnet.make(
        with_features(),
        discriminator(),
        num_classes=K,
        segmentation_weights={"main": 0.0},
        adversarial_weights={"features": 0.5},
    )
    txs = {player: optax.sgd(1.0) for player in ("gen", "disc")}
    start, end, metrics = run(method, txs, [by_hand()])
    scores = {
        name: np.log(values) @ KERNEL[:, 0] + BIAS
        for name, values in (("source", SOURCE), ("target", TARGET))
    }
    sigmoid = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
    assert set(start.params["disc"]) == {"features"}
    np.testing.assert_allclose(
        float(metrics["adversarial/features"]), mean_softplus(scores["target"]), rtol=1e-5
    )
    # d score / d scale at scale 1 is the score less its bias.
    slope = 0.5 * np.mean(sigmoid(scores["target"]) * (scores["target"] - BIAS))
    moved = start.params["gen"]["segmenter"]["scale"] - end.params["gen"]["segmenter"]["scale"]
    np.testing.assert_allclose(moved, slope, rtol=1e-5)
    to_kernel = np.log(SOURCE).T @ sigmoid(scores["source"])
    to_kernel += np.log(TARGET).T @ (sigmoid(scores["target"]) - 1)
    kernels = [s.params["disc"]["features"]["kernel"][:, 0] for s in (start, end)]
    np.testing.assert_allclose(kernels[0] - kernels[1], to_kernel / 6, rtol=1e-4, atol=1e-5)
    assert LABEL[0] == 0 and jax.tree.leaves(end.memory) == []


def test_only_a_discriminator_can_look_at_features():
    with pytest.raises(UserError, match=r"target levels \['features'\]"):
        minent.make(
            with_features(),
            num_classes=K,
            segmentation_weights={"main": 1.0},
            entropy_weights={"features": 1.0},
        )
