"""GIO-Ada: steps against a float64 NumPy transcription, its order, its switches and its masks."""

import copy
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from kit.gio_ada import (
    SIZE,
    TOLERANCE,
    K,
    batches,
    differentiate,
    discriminator,
    outputs,
    segmenter,
    unit,
)
from kit.small import run

from jaxseg.engine import feed
from jaxseg.engine.method import AXIS
from jaxseg.engine.update import make_update
from jaxseg.errors import UserError
from jaxseg.methods import gio_ada
from jaxseg.methods.parts import depth as parts_depth
from jaxseg.methods.parts.gio_maps import guided, joint, to_levels, to_unit
from jaxseg.methods.parts.grouped import grouped
from jaxseg.models.network import Network
from jaxseg.storage.checkpoints import checkpoint

RATE = 0.1
LAM = {"lam_input": 0.4, "lam_output": 0.7, "lam_depth": 1.5}
NEAR, FAR = 2.0, 40.0
TXS = {player: optax.sgd(RATE) for player in ("gen", "disc")}


def translator():
    def init(key, seen):
        assert seen.shape[-1] == 3 + K + 1
        start = jnp.eye(3 + K + 1, 3) * 0.8
        return {"kernel": start + 0.1 * jax.random.normal(key, start.shape)}, {}

    def apply(params, stats, seen, train, key=None):
        return {"image": seen @ params["kernel"]}, stats

    return Network(init, apply)


def make(**settings):
    defaults = dict(num_classes=K, segmentation_weights={"main": 1.0}, **LAM, depth_near=NEAR,
                    depth_far=FAR, depth_encoding="linear")  # fmt: skip
    return gio_ada.make(segmenter(), translator(), discriminator(), **{**defaults, **settings})


# --- the transcription ---


def softplus(x):
    return np.logaddexp(0, x)


def encoded(metres):
    return np.minimum(metres.astype(float), FAR) / FAR


def seen_by_translator(batch):
    one_hot = batch["source_label"][..., None] == np.arange(K)
    image = batch["source_image"].astype(float) / 127.5 - 1
    return np.concatenate([image, one_hot, encoded(batch["source_depth"])[..., None]], -1)


def both_levels(params, image):
    return {"input": image, "output": np.concatenate(outputs(params, image), -1)}


def scores(params, level, maps):
    return maps @ params[f"{level}/kernel"] + maps**2 @ params[f"{level}/square"]


def disc_loss(params, batch, smooth, r1):
    real = both_levels(params, batch["target_image"].astype(float) / 127.5 - 1)
    fake = both_levels(params, seen_by_translator(batch) @ params["gen/kernel"])
    total = 0
    for level in ("input", "output"):
        of_real, of_fake = scores(params, level, real[level]), scores(params, level, fake[level])
        value = ((1 - smooth) * softplus(-of_real) + smooth * softplus(of_real)).mean()
        value += softplus(of_fake).mean()
        slope = params[f"{level}/kernel"][:, 0] + 2 * real[level] * params[f"{level}/square"][:, 0]
        value += 0.5 * r1 * ((slope / np.prod(SIZE)) ** 2).sum((1, 2, 3)).mean()
        total += LAM[f"lam_{level}"] * value
    return total


def gen_loss(params, batch, ramp, lam_identity, fixed):
    """`fixed`: the transform network's kernel, a constant for the task network's losses."""
    image = seen_by_translator(batch) @ params["gen/kernel"]
    learnt = image if fixed is None else seen_by_translator(batch) @ fixed
    p, depth = outputs(params, learnt)
    label, metres = batch["source_label"], batch["source_depth"]
    valid, there = label != 255, metres > 0
    chosen = np.take_along_axis(p, np.where(valid, label, 0)[..., None], -1)[..., 0]
    total = -np.log(chosen[valid]).mean()
    total += LAM["lam_depth"] * np.abs(depth[..., 0] - encoded(metres))[there].mean()
    seen = {**both_levels(params, learnt), "input": image}
    for level, maps in seen.items():
        total += ramp * LAM[f"lam_{level}"] * softplus(-scores(params, level, maps)).mean()
    change = image - (batch["source_image"].astype(float) / 127.5 - 1)
    return total + lam_identity * np.abs(change).mean()


def flat(params):
    """The parameters of a state by short names, in float64."""
    gen, disc = params["gen"], params["disc"]
    found = {f"gen/{k}": v for net in gen.values() for k, v in net.items()}
    found |= {f"{level}/{k}": v for level, net in disc.items() for k, v in net.items()}
    return {k: np.asarray(v, float) for k, v in found.items()}


def transcribed(
    start, data, smooth=0.0, r1=0.0, ramp_steps=0, lam_identity=0.0, task_gradient=True,
    disc_leads=True,
):  # fmt: skip
    params = flat(start.params)
    mine = {player: [k for k in params if k.startswith("gen/") == (player == "gen")]
            for player in ("gen", "disc")}  # fmt: skip
    for step, batch in enumerate(data):
        ramp = min((step + 1) / ramp_steps, 1) if ramp_steps else 1.0
        old = copy.deepcopy(params)
        losses = {
            "disc": partial(disc_loss, batch=batch, smooth=smooth, r1=r1),
            "gen": partial(
                gen_loss, batch=batch, ramp=ramp, lam_identity=lam_identity,
                fixed=None if task_gradient else old["gen/kernel"],
            ),
        }  # fmt: skip
        for player, loss in losses.items():
            at = params if disc_leads else old
            for name, slope in differentiate(loss, at, mine[player]).items():
                params[name] = params[name] - RATE * slope
    return params


def assert_same(found, expected):
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, **TOLERANCE, err_msg=name)


@pytest.mark.parametrize("devices", [1, 2])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"smooth": 0.1, "r1": 30.0, "ramp_steps": 4},
        {"lam_identity": 0.8, "task_gradient": False},
    ],
)
def test_three_steps_are_the_transcription(settings, devices):
    data = list(batches(3))
    start, end, metrics = run(make(**settings), TXS, data, devices=devices)
    assert_same(flat(end.params), transcribed(start, data, **settings))
    levels = {f"{name}/{level}" for level in ("input", "output")
              for name in ("accuracy", "adversarial", "discriminator")}  # fmt: skip
    levels |= {f"r1/{level}" for level in ("input", "output")} if "r1" in settings else set()
    single = {"segmentation/main", "depth", "transform/change", "loss/gen", "loss/disc"}
    assert set(metrics) == levels | single


def test_the_discriminators_lead():
    """The networks are trained with the updated discriminators. Another order gives other steps;
    the difference is far above the tolerance of the transcription."""
    data = list(batches(3))
    start, in_turn, _ = run(make(), TXS, data)
    _, at_once, _ = run(make()._replace(alternate=False), TXS, data)
    ours, theirs = (transcribed(start, data, disc_leads=leads) for leads in (True, False))
    assert_same(flat(in_turn.params), ours)
    assert_same(flat(at_once.params), theirs)
    for name in ("gen/kernel", "gen/depth"):
        tolerance = TOLERANCE["atol"] + TOLERANCE["rtol"] * np.abs(theirs[name])
        assert (np.abs(ours[name] - theirs[name]) / tolerance).max() > 20, name


def test_r1_every_second_step():
    """R1 is computed in steps 0 and 2, with double weight, and left out in between."""
    data = list(batches(2))
    for every, weight in ((1, 30.0), (2, 15.0)):
        first = run(make(r1=weight, r1_every=every), TXS, data[:1])[1]
        if every == 1:
            expected = first
    assert_same(flat(first.params), flat(expected.params))
    _, _, metrics = run(make(r1=1.0, r1_every=2), TXS, data)
    assert float(metrics["r1/input"]) == 0 == float(metrics["r1/output"])


# --- what moves beside the parameters ---


@pytest.mark.parametrize("statistics", ["source", "target", "both"])
def test_whose_images_move_the_statistics(statistics):
    (batch,) = batches(1)
    start, end, _ = run(make(statistics=statistics), TXS, [batch])
    kernel = np.asarray(start.params["gen"]["translator"]["kernel"], float)
    source = (seen_by_translator(batch) @ kernel).mean()
    target = (batch["target_image"].astype(float) / 127.5 - 1).mean()
    mean = 1.0
    for domain, value in (("target", target), ("source", source)):
        if statistics in (domain, "both"):
            mean = 0.5 * mean + 0.5 * value
    np.testing.assert_allclose(end.stats["segmenter"]["mean"], mean, rtol=1e-5)


def test_the_average_is_what_is_evaluated():
    data, rate = list(batches(3)), 0.5
    method = make(ema=rate)
    states = [run(method, TXS, data[:steps])[1] for steps in (1, 2, 3)]
    start = run(method, TXS, data[:1])[0]
    seen = [start, *states[:2]]  # a step is averaged as it begins
    expected = np.asarray(seen[0].params["gen"]["segmenter"]["main"], float)
    mean = float(states[0].stats["segmenter"]["mean"])
    for before, after in zip(seen[1:], states[1:], strict=True):
        expected = rate * expected + (1 - rate) * before.params["gen"]["segmenter"]["main"]
        mean = rate * mean + (1 - rate) * float(after.stats["segmenter"]["mean"])
    end = states[-1]
    images = jnp.full((1, *SIZE, 3), 200.0)
    logits = method.predict(end.params, end.stats, end.memory, images)
    np.testing.assert_allclose(logits, unit(images) @ expected, rtol=1e-5)
    np.testing.assert_allclose(end.memory["average"]["stats"]["mean"], mean, rtol=1e-5)
    # Before any step the weights are used as they are, for instance those of a file.
    logits = method.predict(start.params, start.stats, start.memory, images)
    kernel = start.params["gen"]["segmenter"]["main"]
    np.testing.assert_allclose(logits, unit(images) @ kernel, rtol=1e-5)


def test_the_warm_up_learns_the_images_as_they_are():
    method, (batch,) = make(pool=2, ramp_steps=3, ema=0.5), batches(1)
    start, end, metrics = run(method._replace(losses=method.warmup), TXS, [batch])
    assert set(metrics) == {"segmentation/main", "depth", "loss/gen"}
    before, after = flat(start.params), flat(end.params)
    moved = {name for name in before if not np.array_equal(before[name], after[name])}
    assert moved == {"gen/main", "gen/depth"}
    assert int(end.memory["began"]) == -1 and int(end.memory["pool"]["seen"]) == 0


def test_a_resumed_run_is_the_same_to_the_bit(tmp_path):
    """Pool, average, ramp and R1 in the state; the state through the disk."""
    method = make(pool=3, ema=0.9, ramp_steps=5, r1=1.0, r1_every=2)
    txs = {"gen": optax.adam(1e-2), "disc": optax.adam(1e-2)}
    data = list(batches(6))
    _, half, _ = run(method, txs, data[:3])
    _, whole, _ = run(method, txs, data)
    with checkpoint.open_manager(str(tmp_path)) as manager:
        checkpoint.save(manager, half, {}, None)
        manager.wait_until_finished()
        state = checkpoint.restore_state(manager, half)
    update = jax.pmap(make_update(method, txs), AXIS, in_axes=(None, 0), out_axes=(None, None),
                      devices=jax.devices()[:1])  # fmt: skip
    for batch in data[3:]:
        state, _ = update(state, feed.shard(batch, jax.devices()[:1]))
        jax.block_until_ready(state)
    pairs = zip(jax.tree.leaves(jax.device_get(state)), jax.tree.leaves(whole), strict=True)
    assert all(np.array_equal(a, b) for a, b in pairs)
    assert int(whole.memory["pool"]["seen"]) == 3 and int(whole.memory["average"]["steps"]) == 6


def test_two_devices_share_pool_and_average():
    data = list(batches(4))
    method = make(pool=3, ema=0.9)
    one, two = (run(method, TXS, data, devices=n)[1] for n in (1, 2))
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5)


# --- switches ---


ABLATIONS = {  # weights that stay: (networks of gen, discriminators, metrics that tell of the part)
    (): ({"segmenter"}, None, set()),
    ("lam_depth",): ({"segmenter"}, None, {"depth"}),
    ("lam_depth", "lam_input"): (
        {"segmenter", "translator"}, {"input"}, {"depth", "adversarial/input", "transform/change"}
    ),
    ("lam_depth", "lam_output"): ({"segmenter"}, {"output"}, {"depth", "adversarial/output"}),
    ("lam_output",): ({"segmenter"}, {"output"}, {"adversarial/output"}),
}  # fmt: skip


@pytest.mark.parametrize("kept", ABLATIONS)
def test_parts_are_left_out(kept):
    gen, disc, told = ABLATIONS[kept]
    method = make(**{name: LAM[name] if name in kept else 0.0 for name in LAM})
    _, end, metrics = run(method, TXS, list(batches(1)))
    assert set(end.params["gen"]) == gen
    assert (set(end.params["disc"]) if disc else end.params.get("disc")) == disc
    parts = {"depth", "adversarial/input", "adversarial/output", "transform/change"}
    assert set(metrics) & parts == told
    assert ("source_depth" in method.reads) == ("lam_depth" in kept)
    assert ("depth" in method.views) == ("lam_depth" in kept)
    assert ("transformed" in method.views) == ("lam_input" in kept)
    if disc:  # probabilities of K classes, and depth if it is learnt
        channels = {"input": 3, "output": K + ("lam_depth" in kept)}
        for level, network in end.params["disc"].items():
            assert network["kernel"].shape[0] == channels[level]


def test_without_an_adversary_the_target_only_moves_statistics():
    (batch,) = batches(1)
    method = make(lam_input=0.0, lam_output=0.0, statistics="source")
    assert "target_image" not in method.reads and method.warmup is None
    method = make(lam_input=0.0, lam_output=0.0, statistics="target", ema=0.5)
    _, end, metrics = run(method, TXS, [batch])
    target = (batch["target_image"].astype(float) / 127.5 - 1).mean()
    np.testing.assert_allclose(end.stats["segmenter"]["mean"], 0.5 + 0.5 * target, rtol=1e-5)
    assert set(metrics) == {"segmentation/main", "depth", "loss/gen"}
    assert int(end.memory["average"]["steps"]) == 1


@pytest.mark.parametrize(
    "settings, match",
    [
        ({"lam_output": -1.0}, "lam_output=-1.0 is negative"),
        ({"lam_depth": -1.0}, "lam_depth=-1.0"),
        ({"lam_identity": -1.0}, "lam_identity=-1.0 is negative"),
        ({"depth_loss": "l2"}, "unknown depth loss 'l2'"),
        ({"depth_near": 90.0}, "near=90.0"),
        ({"guides": ("normals",)}, "guides has 'normals'; choose from label, depth"),
        ({"r1_every": 0}, "r1_every=0"),
        ({"smooth": 0.7}, "smoothing of 0.7"),
        ({"ema": 1.0}, "ema=1.0"),
        ({"statistics": "none"}, "statistics='none'"),
        ({"gan": "wgan"}, "unknown adversarial loss 'wgan'"),
        ({"rI": 1.0}, "no setting 'rI'; choose from class_weights, .*, r1, .*, weighted"),
    ],
)
def test_wrong_settings_are_refused(settings, match):
    with pytest.raises(Exception, match=match) as told:
        make(**settings)
    assert type(told.value).__name__ in ("ValueError", "UserError")


def test_a_setting_without_a_default_must_be_given():
    with pytest.raises(UserError, match="the setting 'lam_depth' is missing"):
        grouped({"gan": "ls"}, parts_depth.Depth, gio_ada.Adversary)


# --- masks and encodings ---


def test_what_the_transform_network_is_shown():
    image = np.array([[[[0, 255, 127.5]] * 3]], np.float32)
    batch = {
        "source_image": image,
        "source_label": np.array([[[2, 255, 0]]], np.uint8),
        "source_depth": np.array([[[10.0, 0.0, 90.0]]], np.float32),
    }
    encoding = parts_depth.Depth(1.0, "l1", "inverse", 5.0, 80.0)
    found = guided(batch, ("label", "depth"), K, encoding)
    expected = [[-1, 1, 0, 0, 0, 1, 0.5], [-1, 1, 0, 0, 0, 0, 0], [-1, 1, 0, 1, 0, 0, 5 / 90]]
    np.testing.assert_allclose(found[0, 0], expected, rtol=1e-6)
    assert guided(batch, ("depth",), K, encoding).shape[-1] == 4
    np.testing.assert_allclose(to_levels(to_unit(image)), image)
    maps = joint({"main": jnp.zeros((1, 2, 2, K)), "depth": jnp.full((1, 2, 2, 1), -3.0)}, encoding)
    np.testing.assert_allclose(maps[0, 0, 0], [1 / 3] * 3 + [-3.0], rtol=1e-6)  # as it is regressed


def test_unlabelled_pixels_and_missing_depth_count_for_nothing():
    """Without labels and depth only the adversarial losses update the networks."""
    (batch,) = batches(1)
    nothing = {**batch, "source_label": np.full_like(batch["source_label"], 255),
               "source_depth": np.zeros_like(batch["source_depth"])}  # fmt: skip
    _, _, metrics = run(make(), TXS, [nothing])
    assert float(metrics["segmentation/main"]) == 0 == float(metrics["depth"])
    adversaries = sum(LAM[f"lam_{x}"] * float(metrics[f"adversarial/{x}"])
                      for x in ("input", "output"))  # fmt: skip
    np.testing.assert_allclose(metrics["loss/gen"], adversaries, rtol=1e-6)
    # Half of the depth missing: the mean over the others, not over all.
    there = batch["source_depth"] > 0
    assert 0 < there.mean() < 1
    _, _, metrics = run(make(), TXS, [batch])
    start = run(make(), TXS, [batch])[0]
    params = flat(start.params)
    _, depth = outputs(params, seen_by_translator(batch) @ params["gen/kernel"])
    errors = np.abs(depth[..., 0] - encoded(batch["source_depth"]))
    np.testing.assert_allclose(metrics["depth"], errors[there].mean(), rtol=1e-5)


def test_depth_and_transform_can_be_looked_at():
    method, (batch,) = make(), batches(1)
    params, stats, memory = method.init(jax.random.PRNGKey(0), batch)
    images = method.views["transformed"].function(params, stats, memory, batch)
    kernel = np.asarray(params["gen"]["translator"]["kernel"], float)
    expected = (seen_by_translator(batch) @ kernel + 1) * 127.5
    np.testing.assert_allclose(images, expected, rtol=1e-4, atol=1e-3)
    metres = method.views["depth"].function(params, stats, memory, batch["target_image"])
    raw = np.asarray(unit(batch["target_image"]) @ params["gen"]["segmenter"]["depth"])[..., 0]
    np.testing.assert_allclose(metres, np.clip(raw * FAR, NEAR, FAR), rtol=1e-5)
