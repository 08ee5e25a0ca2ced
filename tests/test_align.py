"""Each method's losses on the target, and whose statistics it keeps, against hand values."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from kit.alignment import (
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
)

from jaxseg.engine.method import AXIS, Carry
from jaxseg.errors import UserError
from jaxseg.methods import adaptsegnet, advent, minent, source_only

SELF_INFORMATION = {
    "source": [[0.25, 0.25, 0.1875, 0.1875], [0.25] * 4, [0.25] * 4],
    "target": [[0.1875, 0.1875, 0.25, 0.25], [0.25, 0.1875, 0.1875, 0.25], [0.25] * 4],
}
SCORES = {
    "adaptsegnet": ([-2.75, 0.25, 0.25], [3.25, 2.25, 0.25]),
    "advent": ([-0.25, 0.25, 0.25], [0.75, 0.25, 0.25]),
}
MODULES = {"adaptsegnet": adaptsegnet, "advent": advent}


def make(name, *, seg=None, target=None, **settings):
    """A method by name; `seg` and `target` are the weights by level."""
    seg, target = seg or {"main": 1.0}, target or {"main": 0.5}
    common = dict(num_classes=K, segmentation_weights=seg, **settings)
    if name == "source_only":
        return source_only.make(segmenter(), **common)
    if name == "minent":
        return minent.make(segmenter(), entropy_weights=target, **common)
    return MODULES[name].make(segmenter(), discriminator(), adversarial_weights=target, **common)


# --- whose batches move the running statistics ---


def constant(source, target):
    """Images of two pixels, image i of a domain is filled with its number i."""

    def images(values):
        filled = np.asarray(values, np.float32)[:, None, None, None]
        return np.broadcast_to(filled, (len(values), 1, 2, K)).copy()

    label = np.zeros((len(source), 1, 2), np.int32)
    return {
        "source_image": images(source), "source_label": label, "target_image": images(target)
    }  # fmt: skip


# From 1, half way to the source's mean 2 is 1.5, half way to the target's mean 6 is 3.5, and half
# way from 1.5 to 6 is 3.75.
ONE_STEP = {"source": 1.5, "target": 3.5, "both": 3.75}


@pytest.mark.parametrize("statistics", ONE_STEP)
@pytest.mark.parametrize("name", ["source_only", "minent", "adaptsegnet", "advent"])
def test_statistics_after_one_step(name, statistics):
    method = make(name, statistics=statistics)
    _, end, _ = one_step(method, constant([2], [6]))
    assert float(end.stats["segmenter"]["mean"]) == ONE_STEP[statistics]
    # Evaluation subtracts the mean that was kept.
    images = jnp.full((1, 1, 2, K), 10.0)
    logits = method.predict(end.params, end.stats, end.memory, images)
    np.testing.assert_array_equal(logits, 10 - ONE_STEP[statistics])


@pytest.mark.parametrize("statistics", ONE_STEP)
def test_the_warm_up_moves_them_by_the_source_only(statistics):
    method = make("advent", statistics=statistics)
    warm = method._replace(losses=method.warmup)
    moved, end, metrics = one_step(warm, constant([2], [6]), rate=0.1)
    assert float(end.stats["segmenter"]["mean"]) == 1.5
    assert set(metrics) == {"segmentation/main", "loss/gen"}
    assert not any(leaf.any() for leaf in jax.tree.leaves(moved["disc"]))


@pytest.mark.parametrize(
    "statistics, expected",
    [
        ("source", 2.75),  # 1 -> (2) 1.5 -> (4) 2.75
        ("target", 6.75),  # 1 -> (6) 3.5 -> (10) 6.75
        ("both", 6.9375),  # 1 -> (2) 1.5 -> (6) 3.75 -> (4) 3.875 -> (10) 6.9375
    ],
)
def test_micro_batches_move_the_statistics_in_turn(statistics, expected):
    method = make("advent", statistics=statistics)
    _, end, _ = one_step(method, constant([2, 4], [6, 10]), accumulate=2)
    assert float(end.stats["segmenter"]["mean"]) == expected


def test_statistics_of_the_devices_are_averaged():
    # Device 0 sees means 1 and 4, device 1 sees 3 and 8: 2.5 and 5 after a step, each on its own.
    method = make("advent", statistics="both")
    _, end, _ = one_step(method, constant([1, 3], [4, 8]), devices=2)
    assert float(end.stats["segmenter"]["mean"]) == (2.5 + 5.0) / 2


def test_a_baseline_on_the_source_does_not_read_the_target():
    method = make("source_only", statistics="source")
    assert method.reads == ("source_image", "source_label") and not method.warmup
    assert "target_image" in make("source_only", statistics="target").reads


# --- what the discriminator sees and what is asked of the target ---


def played(method, data):
    """(params, carry) after gen's loss, on one device."""
    params, stats, memory = method.init(jax.random.PRNGKey(0), data)

    def gen(batch):
        carry = Carry(jnp.zeros((), jnp.int32), stats, memory, {}, {})
        return method.losses["gen"](params, carry, batch, jax.random.PRNGKey(0))[1]

    stacked = jax.vmap(gen, axis_name=AXIS)({k: v[None] for k, v in data.items()})
    return params, jax.tree.map(lambda x: x[0], stacked)


@pytest.mark.parametrize(
    "name, maps",
    [
        ("adaptsegnet", {"source": SOURCE, "target": TARGET}),  # the softmax
        ("advent", SELF_INFORMATION),  # -p log p / log K
    ],
)
def test_what_the_discriminators_see(name, maps):
    weights = {"main": 1.0, "aux": 0.2}
    params, carry = played(make(name, seg=weights, target=weights), by_hand())
    assert set(carry.shared) == set(params["disc"]) == {"main", "aux"}
    for level in weights:
        for domain, expected in maps.items():
            np.testing.assert_allclose(carry.shared[level][domain][0, 0], expected, rtol=1e-6)


@pytest.mark.parametrize("name", SCORES)
def test_vanilla_losses_by_hand(name):
    source, target = map(np.array, SCORES[name])
    _, _, metrics = one_step(make(name), by_hand())
    adversarial = mean_softplus(target)  # to be taken for the source, whose label is 0
    expected = {
        "segmentation/main": np.log(2),
        "adversarial/main": adversarial,
        "loss/gen": np.log(2) + 0.5 * adversarial,
        "loss/disc": 0.5 * mean_softplus(source) + 0.5 * mean_softplus(-target),
        # Below 0 is right for the source (one in three), above 0 for the target (all).
        "accuracy/main": 0.5 * (1 / 3 + 3 / 3),
    }
    assert metrics == pytest.approx(expected, rel=1e-6)


def test_least_squares_losses_by_hand():
    _, _, metrics = one_step(make("adaptsegnet", gan="ls"), by_hand())
    adversarial = (3.25**2 + 2.25**2 + 0.25**2) / 3
    expected = {
        "segmentation/main": np.log(2),
        "adversarial/main": adversarial,
        "loss/gen": np.log(2) + 0.5 * adversarial,
        "loss/disc": 0.5 * (2.75**2 + 0.25**2 + 0.25**2) / 3
        + 0.5 * (2.25**2 + 1.25**2 + 0.75**2) / 3,
        # The middle is 1/2: 0.25 is right for the source (all) and wrong for the target (two).
        "accuracy/main": 0.5 * (3 / 3 + 2 / 3),
    }
    assert metrics == pytest.approx(expected, rel=1e-6)


def test_minent_asks_for_low_entropy():
    weights = {"main": 1.0, "aux": 0.1}
    method = make("minent", seg=weights, target={"main": 0.5, "aux": 0.2})
    assert list(method.losses) == ["gen"]
    _, _, metrics = one_step(method, by_hand())
    mean = (0.875 + 0.875 + 1) / 3  # 1.75 bits, 1.75 bits and 2 bits, of at most 2
    expected = {f"segmentation/{level}": np.log(2) for level in weights}
    expected |= {f"target/{level}": mean for level in weights}
    expected["loss/gen"] = 1.1 * np.log(2) + 0.7 * mean
    assert metrics == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name", ["minent", "adaptsegnet", "advent", "ls"])
def test_one_step_of_sgd_by_hand(name):
    """A step of rate 1 moves a parameter by its gradient."""
    settings = {"gan": "ls"} if name == "ls" else {}
    module = "adaptsegnet" if name == "ls" else name
    moved, _, _ = one_step(make(module, **settings), by_hand(), rate=1.0)
    on_source = (SOURCE - np.eye(K)[0]) * (LABEL == 0)[:, None]  # one labelled pixel
    if name == "minent":
        entropy = -(TARGET * np.log(TARGET)).sum(-1, keepdims=True)
        on_target = -TARGET * (np.log(TARGET) + entropy) / np.log(K) / 3
    else:
        source, target = map(np.array, SCORES[module])
        sigmoid = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
        slope = 2 * target if name == "ls" else sigmoid(target)
        to_maps = slope[:, None] * KERNEL[:, 0] / 3
        if name == "advent":
            to_maps = to_maps * -(np.log(TARGET) + 1) / np.log(K)
        on_target = to_logits(TARGET, to_maps)
        of_source = 2 * source if name == "ls" else sigmoid(source)
        of_target = 2 * (target - 1) if name == "ls" else sigmoid(target) - 1
        maps = SELF_INFORMATION if name == "advent" else {"source": SOURCE, "target": TARGET}
        to_kernel = np.array(maps["source"]).T @ of_source + np.array(maps["target"]).T @ of_target
        disc = moved["disc"]["main"]
        np.testing.assert_allclose(disc["kernel"][:, 0], to_kernel / 6, rtol=1e-5, atol=1e-6)
        bias = (of_source.sum() + of_target.sum()) / 6
        np.testing.assert_allclose(disc["bias"], [bias], rtol=1e-5, atol=1e-6)
    gen = np.log(SOURCE).T @ on_source + 0.5 * np.log(TARGET).T @ on_target
    np.testing.assert_allclose(moved["gen"]["segmenter"]["main"], gen, rtol=1e-5, atol=2e-6)


# --- levels ---


def test_a_single_level_has_one_discriminator():
    method = make("adaptsegnet", seg={"main": 1.0, "aux": 0.1}, target={"main": 1e-3})
    params, carry = played(method, by_hand())
    assert set(params["disc"]) == set(carry.shared) == {"main"}
    assert {"segmentation/aux", "adversarial/main"} <= set(carry.metrics)
    assert "adversarial/aux" not in carry.metrics


@pytest.mark.parametrize("name", ["minent", "adaptsegnet", "advent"])
def test_wrong_settings_are_refused(name):
    with pytest.raises(UserError, match=r"target levels \['aux'\] have no segmentation weight"):
        make(name, seg={"main": 1.0}, target={"main": 1.0, "aux": 0.1})
    with pytest.raises(UserError, match="statistics='none'; choose one of"):
        make(name, statistics="none")
    if name != "minent":
        with pytest.raises(UserError, match="unknown adversarial loss 'wgan'"):
            make(name, gan="wgan")
