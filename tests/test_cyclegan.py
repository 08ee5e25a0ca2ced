"""CycleGAN and CyCADA: steps against a float64 transcription, pools, frozen copy, two devices."""

import copy

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from kit.gio_ada import TOLERANCE, K, batches, differentiate, discriminator, segmenter
from kit.small import run

from jaxseg.engine import feed
from jaxseg.engine.method import AXIS
from jaxseg.engine.update import init_state, make_update
from jaxseg.errors import UserError
from jaxseg.methods import cyclegan
from jaxseg.models.network import Network
from jaxseg.storage.checkpoints import checkpoint

RATE = 0.05
KEY = jax.random.PRNGKey(1)
TXS = {player: optax.sgd(RATE) for player in ("translator", "gen", "disc")}
LAM = dict(lam_cycle=2.0, lam_identity=0.5, lam_semantic=0.7, lam_output=0.9)
WAYS, DOMAINS = ("to_target", "to_source"), ("source_image", "target_image")


def translator():
    def init(key, images):
        return {"kernel": jnp.eye(3) + 0.2 * jax.random.normal(key, (3, 3))}, {}

    def apply(params, stats, images, train, key=None):
        return {"image": images @ params["kernel"]}, stats

    return Network(init, apply)


def make(**settings):
    defaults = dict(num_classes=K, segmentation_weights={"main": 1.0}, statistics="source", pool=0)
    nets = (segmenter(), translator(), discriminator(), discriminator())
    return cyclegan.make(*nets, **{**defaults, **LAM, **settings})


# --- the transcription, all in float64 ---


def unit(images):
    return images.astype(float) / 127.5 - 1


def probabilities(images, kernel):
    logits = images @ kernel
    e = np.exp(logits - logits.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def error(p, labels):
    valid = labels != 255
    chosen = np.take_along_axis(p, np.where(valid, labels, 0)[..., None], -1)[..., 0]
    return -np.log(chosen[valid]).mean()


def scores(params, domain, maps):
    return maps @ params[f"{domain}/kernel"] + maps**2 @ params[f"{domain}/square"]


def gen_loss(params, batch, seen, frozen, lam):
    """`seen`: the translated source images that the segmenter learns from, constants."""
    source, target = unit(batch["source_image"]), unit(batch["target_image"])
    there, back = params["to_target/kernel"], params["to_source/kernel"]
    total = ((scores(params, "target_image", source @ there) - 1) ** 2).mean()
    total += ((scores(params, "source_image", target @ back) - 1) ** 2).mean()
    total += lam["lam_cycle"] * np.abs(source @ there @ back - source).mean()
    total += lam["lam_cycle"] * np.abs(target @ back @ there - target).mean()
    share = lam["lam_identity"] * lam["lam_cycle"]
    total += share * (
        np.abs(source @ back - source).mean() + np.abs(target @ there - target).mean()
    )
    labels = batch["source_label"]
    if lam["lam_semantic"]:
        thought = (target @ frozen).argmax(-1)
        value = error(probabilities(source @ there, frozen), labels)
        total += lam["lam_semantic"] * (
            value + error(probabilities(target @ back, frozen), thought)
        )
    total += error(probabilities(seen, params["segmenter/main"]), labels)
    if lam["lam_output"]:
        maps = probabilities(target, params["segmenter/main"])
        total += lam["lam_output"] * (scores(params, "output", maps) ** 2).mean()
    return total


def disc_loss(params, real, translated, maps):
    total = 0
    for domain in DOMAINS:
        total += 0.5 * ((scores(params, domain, real[domain]) - 1) ** 2).mean()
        total += 0.5 * (scores(params, domain, translated[domain]) ** 2).mean()
    if maps:
        total += 0.5 * (scores(params, "output", maps[0]) ** 2).mean()
        total += 0.5 * ((scores(params, "output", maps[1]) - 1) ** 2).mean()
    return total


def flat(params):
    nets = {**params["gen"], **params["translator"], **params["disc"]}
    return {f"{net}/{k}": np.asarray(v, float) for net, own in nets.items() for k, v in own.items()}


def transcribed(start, data, lam):
    params = flat(start.params)
    mine = [name for name in params if name.split("/")[0] in ("segmenter", *WAYS)]
    mine.remove("segmenter/depth")
    others = [name for name in params if name.split("/")[0] in (*DOMAINS, "output")]
    frozen = copy.deepcopy(params["segmenter/main"])  # as the first of these steps finds it
    for batch in data:
        source, target = unit(batch["source_image"]), unit(batch["target_image"])
        seen, back = source @ params["to_target/kernel"], target @ params["to_source/kernel"]
        main = params["segmenter/main"]
        maps = (probabilities(seen, main), probabilities(target, main)) * bool(lam["lam_output"])
        slopes = differentiate(lambda p: gen_loss(p, batch, seen, frozen, lam), params, mine)  # noqa: B023
        real = dict(zip(DOMAINS, (source, target), strict=True))
        translated = dict(zip(DOMAINS, (back, seen), strict=True))
        slopes |= differentiate(lambda p: disc_loss(p, real, translated, maps), params, others)  # noqa: B023
        params = {
            name: v - RATE * slopes[name] if name in slopes else v for name, v in params.items()
        }
    return params


@pytest.mark.parametrize("cycada, devices", [(False, 2), (True, 1), (True, 2)])
def test_three_steps_are_the_transcription(cycada, devices):
    lam = LAM if cycada else {**LAM, "lam_semantic": 0.0, "lam_output": 0.0}
    data = list(batches(3))
    start, end, metrics = run(make(**lam), TXS, data, devices=devices)
    found = flat(end.params)
    for name, value in transcribed(start, data, lam).items():
        np.testing.assert_allclose(found[name], value, **TOLERANCE, err_msg=name)
    kinds = ("adversarial", "cycle", "identity", "discriminator", "accuracy")
    told = {f"{kind}/{domain}" for domain in DOMAINS for kind in kinds}
    told |= {"transform/change", "segmentation/main", "loss/translator", "loss/gen", "loss/disc"}
    if cycada:
        told |= {f"semantic/{way}" for way in WAYS}
        told |= {f"{kind}/output" for kind in ("adversarial", "discriminator", "accuracy")}
    assert set(metrics) == told


def test_translators_and_discriminators_begin_after_the_warm_up():
    """With moments of their own: Adam's first update is the rate, whatever the gradient. One that
    had counted the warm-up's steps would take many times that (it corrects for fewer).
    """
    method, (batch,), rate = make(), batches(1), 1e-3
    txs = {player: optax.adam(rate, b1=0.5, b2=0.999) for player in TXS}
    start, state, _ = run(method._replace(losses=method.warmup), txs, [batch] * 3)
    for player in ("translator", "disc"):
        pairs = zip(jax.tree.leaves(start.params[player]), jax.tree.leaves(state.params[player]),
                    strict=True)  # fmt: skip
        assert all(np.array_equal(a, b) for a, b in pairs)
    _, end, _ = run(method, txs, [batch], state=state)
    for player in ("translator", "disc"):
        change = jax.tree.map(lambda a, b: np.abs(a - b).max(), state.params[player],
                              end.params[player])  # fmt: skip
        np.testing.assert_allclose(jax.tree.leaves(change), rate, rtol=1e-3)


def test_the_segmenter_alone_learns_from_other_colours():
    """Of the warm-up's images and of translated ones; the translators see them as they are."""
    (batch,) = batches(1)
    for losses in ("losses", "warmup"):
        plain, other = (
            run(m._replace(losses=getattr(m, losses)), TXS, [batch])[1].params
            for m in (make(), make(jitter=0.5, jitter_probability=1.0, blur_probability=1.0))
        )
        assert not np.array_equal(plain["gen"]["segmenter"]["main"],
                                  other["gen"]["segmenter"]["main"])  # fmt: skip
        pairs = zip(jax.tree.leaves(plain["translator"]), jax.tree.leaves(other["translator"]),
                    strict=True)  # fmt: skip
        assert all(np.array_equal(a, b) for a, b in pairs)


def test_each_pool_has_the_shape_of_what_is_translated_into_its_domain():
    (batch,) = batches(1)
    batch["target_image"] = np.pad(batch["target_image"], ((0, 0), (0, 4), (0, 8), (0, 0)))
    _, end, _ = run(make(pool=3), TXS, [batch])
    for domain, side in (("target_image", "source_image"), ("source_image", "target_image")):
        pool = end.memory[f"pool_{domain}"]["images"]
        assert pool.shape == (3, *batch[side].shape[1:]) and np.abs(pool[:2]).max() > 0


def test_a_view_of_any_size():
    """Sides are continued to what the translator halves, and cut again."""
    seen = []

    def noting(params, stats, images, train, key=None):
        seen.append(images.shape[1:3])
        return translator().apply(params, stats, images, train)

    method = cyclegan.make(
        segmenter(), translator()._replace(apply=noting), discriminator(), discriminator(),
        num_classes=K, segmentation_weights={"main": 1.0},
    )  # fmt: skip
    (batch,) = batches(1)
    params, stats, memory = method.init(jax.random.PRNGKey(0), batch)
    odd = batch["source_image"][:, :3, :7]
    found = method.views["transformed"].function(params, stats, memory, {"source_image": odd})
    kernel = np.asarray(params["translator"]["to_target"]["kernel"], float)
    assert seen == [(4, 8)] and found.shape == odd.shape
    np.testing.assert_allclose(found, (unit(odd) @ kernel + 1) * 127.5, rtol=1e-4, atol=1e-3)


@pytest.fixture(scope="module")
def history():
    """(method, optimisers, batches, update, the state before each of four steps and after all)."""
    method, data = make(pool=3), list(batches(4))
    txs = {player: optax.adam(1e-2) for player in TXS}
    state = jax.jit(lambda key: init_state(method, txs, key, data[0]))(KEY)
    states = [jax.device_get(state)]
    update = jax.pmap(make_update(method, txs), AXIS, in_axes=(None, 0), out_axes=(None, None),
                      devices=jax.devices()[:1])  # fmt: skip
    for batch in data:
        state, _ = update(state, feed.shard(batch, jax.devices()[:1]))
        states.append(jax.device_get(state))
    return method, data, update, states


def test_pools_hold_the_first_images(history):
    _, data, _, (start, first, second, *_) = history
    for domain, way, side in (
        ("target_image", "to_target", "source_image"), ("source_image", "to_source", "target_image")
    ):  # fmt: skip
        translated = unit(data[0][side]) @ np.asarray(
            start.params["translator"][way]["kernel"], float
        )
        pool = first.memory[f"pool_{domain}"]
        assert int(pool["seen"]) == 2 and int(second.memory[f"pool_{domain}"]["seen"]) == 3
        np.testing.assert_allclose(pool["images"][:2], translated, atol=1e-4)


def test_the_frozen_copy_is_taken_after_the_warm_up_and_stays(history):
    method, data, _, (start, *_, end) = history
    warm, metrics = run(method._replace(losses=method.warmup), TXS, data[:1])[1:]
    assert set(metrics) == {"segmentation/main", "loss/gen"}
    assert int(warm.memory["frozen"]["taken"]) == 0
    kept = end.memory["frozen"]
    assert int(kept["taken"]) == 1
    np.testing.assert_array_equal(kept["params"]["main"], start.params["gen"]["segmenter"]["main"])
    assert not np.array_equal(kept["params"]["main"], end.params["gen"]["segmenter"]["main"])


def test_a_resumed_run_is_the_same_to_the_bit(history, tmp_path):
    """The pool, which is full by then, and the frozen copy through the disk."""
    _, data, update, states = history
    with checkpoint.open_manager(str(tmp_path)) as manager:
        checkpoint.save(manager, states[2], {}, None)
        manager.wait_until_finished()
        state = checkpoint.restore_state(manager, states[2])
    for batch in data[2:]:
        state, _ = update(state, feed.shard(batch, jax.devices()[:1]))
        jax.block_until_ready(state)
    pairs = zip(jax.tree.leaves(jax.device_get(state)), jax.tree.leaves(states[-1]), strict=True)
    assert all(np.array_equal(a, b) for a, b in pairs)


def test_both_cycles_can_be_looked_at():
    method, (batch,) = make(), batches(1)
    params, stats, memory = method.init(jax.random.PRNGKey(0), batch)
    there, back = (np.asarray(params["translator"][way]["kernel"], float) for way in WAYS)
    source, target = unit(batch["source_image"]), unit(batch["target_image"])
    expected = {
        "transformed": source @ there, "source_again": source @ there @ back,
        "to_source": target @ back, "target_again": target @ back @ there,
    }  # fmt: skip
    for name, image in expected.items():
        view = method.views[name]
        seen = batch if view.side == "source" else batch["target_image"]
        found = view.function(params, stats, memory, seen)
        np.testing.assert_allclose(found, (image + 1) * 127.5, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    "settings, match",
    [
        ({"lam_cycle": -1.0}, "lam_cycle=-1.0 is negative"),
        ({"pool": -1}, "pool=-1 is negative"),
        ({"lam_semantic": -1.0}, "lam_semantic=-1.0 is negative"),
        ({"gan": "wgan"}, "unknown adversarial loss 'wgan'"),
        ({"statistics": "none"}, "statistics='none'"),
        ({"segmentation_weights": {"aux": 1.0}}, "lam_output needs a weight of the level 'main'"),
        ({"lam_cycles": 1.0}, "no setting 'lam_cycles'"),
    ],
)
def test_wrong_settings_are_refused(settings, match):
    with pytest.raises(UserError, match=match):
        make(**settings)
