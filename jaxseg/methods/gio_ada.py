"""GIO-Ada: geometry-guided input and output adaptation (Chen, Li, Chen and Van Gool, "Learning
Semantic Segmentation from Synthetic Data", CVPR 2019).

An image transform network, which also gets the labels and the depth, turns a rendered image into
one that a first discriminator should take for a photograph. The task network learns labels and
depth from the result. A second discriminator looks at the task network's predictions, and those on
transformed images should look to it like those on photographs. In each step the discriminators move
first; then the networks move against the updated discriminators (`alternate`), with the rendered
images only: the photographs are used in the discriminators' turn.

The authors published no code. docs/methods.md says what the paper gives and what was chosen here.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxseg.engine.method import IMAGE, SOURCE, Method, Tile, View
from jaxseg.losses import adversarial
from jaxseg.methods.parts import align, average, discriminators
from jaxseg.methods.parts import depth as parts_depth
from jaxseg.methods.parts import memory as parts_memory
from jaxseg.methods.parts.classes import Rarity, check_rarity
from jaxseg.methods.parts.gio_maps import guided, joint, to_levels, to_unit
from jaxseg.methods.parts.gio_settings import INPUT, OUTPUT, Adversary, Parts, Transform, check
from jaxseg.methods.parts.grouped import grouped
from jaxseg.methods.parts.levels import upsampled
from jaxseg.models.network import Network

NETWORKS = ("segmenter", "translator", "discriminator")

TITLES = {  # two networks play against two discriminators
    "loss/gen": "Loss of the generator side",
    "loss/disc": "Loss of the discriminators",
    "adversarial": "Adversarial losses of the generator side",
    "discriminator": "Loss of each discriminator",
    "accuracy": "Accuracy of the discriminators",
    "r1": "Steepness of the discriminators (R1)",
    "transform": "Change of source images, grey levels",
}


def make(
    segmenter: Network,
    translator: Network,
    discriminator: Network,
    *,
    num_classes: int,
    segmentation_weights: Mapping[str, float],
    lam_input: float,
    lam_output: float,
    ema: float = 0.0,
    statistics: str = "both",
    **settings: Any,
) -> Method:
    """Builds the method. A part whose weight is 0 has no network, and nothing of it is computed.

    Args:
      segmenter: the task network, {'main': logits, 'depth': [N,h,w,1]}; the latter is only used
        with `lam_depth`.
      translator: [N,H,W,3 + K + 1] -> {'image': [N,H,W,3] in -1..1}; see `gio_maps.guided`.
      discriminator: one network; each of the two levels has its own parameters of it.
      num_classes: K.
      segmentation_weights: by output level of the task network.
      lam_input: weight of the discriminator of images; 0: the source's images stay as they are.
      lam_output: weight of the discriminator of outputs.
      ema: decay of the task network's moving average, which is evaluated in its place (see
        `average.averaged`); 0 for none.
      statistics: which images update the running statistics: 'source' (transformed), 'target', or
        'both', the target's first.
      **settings: the fields of `parts.depth.Depth` (of which lam_depth is required), `Transform`,
        `Adversary` and `Rarity`.

    Raises:
      UserError: a setting that does not exist or is out of range.
    """
    groups = grouped(settings, parts_depth.Depth, Transform, Adversary, Rarity)
    encoding, transform, adversary, rarity = groups
    check_rarity(rarity, num_classes)
    align.check_statistics(statistics)
    check({"lam_input": lam_input, "lam_output": lam_output}, transform, adversary)
    depth = parts_depth.checked(encoding)
    weights = {level: w for level, w in ((INPUT, lam_input), (OUTPUT, lam_output)) if w}
    if not weights:
        levels = align.Levels(dict(segmentation_weights), {})
        alone = align.make(
            segmenter, levels, statistics=statistics, depth=depth,
            num_classes=num_classes, rarity=rarity,
        )  # fmt: skip
        return average.averaged(alone, ema)
    parts = Parts(
        segmenter, translator, discriminator, num_classes, segmentation_weights, weights,
        statistics, transform, adversary, encoding, depth, rarity,
    )  # fmt: skip
    changed = {}
    if INPUT in weights:
        look = partial(_look_transformed, parts)
        changed["transformed"] = View(look, IMAGE, SOURCE, "transformed")
    needs_depth = depth or (INPUT in weights and "depth" in transform.guides)
    method = Method(
        partial(_init, parts),
        {"disc": partial(_disc, parts), "gen": partial(_gen, parts)},
        align.predictor(segmenter),
        alternate=True,
        warmup={"gen": partial(_warmup, parts)},
        reads=("source_image", "source_label", *(("source_depth",) if needs_depth else ()),
               "target_image"),
        views={**parts_depth.views(segmenter, depth), **changed},
        titles=TITLES,
        tiles={"transform/change": Tile("change of source images", "of 255")} if changed else {},
    )  # fmt: skip
    return average.averaged(method, ema)


def _guided(parts: Parts, batch):
    """What the image transform network is given."""
    return guided(batch, parts.transform.guides, parts.num_classes, parts.encoding)


def _transformed(parts: Parts, own, batch):
    """The source's images in -1..1 as the task network learns from them."""
    if INPUT not in parts.weights:
        return to_unit(batch["source_image"])
    outputs, _ = parts.translator.apply(own["translator"], {}, _guided(parts, batch), True)
    return outputs["image"]


def _shown(parts: Parts, images, batch):
    """The task network's input; without a transform network the source's images themselves."""
    return to_levels(images) if INPUT in parts.weights else batch["source_image"]


def _init(parts: Parts, key, batch):
    keys = dict(zip(("segmenter", "translator", INPUT, OUTPUT), jax.random.split(key, 4),
                    strict=True))  # fmt: skip
    batch = {name: value[:1] for name, value in batch.items()}
    net, stats = parts.segmenter.init(keys["segmenter"], batch["source_image"])
    params, running = {"gen": {"segmenter": net}, "disc": {}}, {"segmenter": stats}
    if INPUT in parts.weights:
        inputs = _guided(parts, batch)
        params["gen"]["translator"] = parts.translator.init(keys["translator"], inputs)[0]

    def maps(images):
        found = parts.segmenter.apply(net, stats, images, False)[0]
        return joint({x: upsampled(found[x], images) for x in parts.asked}, parts.depth)

    seen = {INPUT: jax.eval_shape(to_unit, batch["source_image"])}
    seen[OUTPUT] = jax.eval_shape(maps, batch["source_image"])
    for level in parts.weights:
        zeros = jnp.zeros(seen[level].shape, jnp.float32)
        params["disc"][level], moving = parts.discriminator.init(keys[level], zeros)
        running |= {level: moving} if moving else {}
    memory = {}
    if parts.adversary.pool and INPUT in parts.weights:
        memory["pool"] = parts_memory.empty_pool(parts.adversary.pool, seen[INPUT].shape[1:])
    if parts.adversary.ramp_steps:
        memory["began"] = jnp.full((), -1, jnp.int32)  # the first step of adversarial training
    return params, running, memory


def _disc(parts: Parts, params, carry, batch, key):
    """The discriminators' turn.

    The networks have not moved yet in this step. Their own turn computes the same images and
    outputs once more, from the same key, this time with a gradient.
    """
    settings, weights = parts.adversary, parts.weights
    source_key, target_key, pool_key = jax.random.split(key, 3)
    own, memory = params["gen"], dict(carry.memory)
    images = _transformed(parts, own, batch)
    real, fake = {INPUT: to_unit(batch["target_image"])}, {INPUT: images}
    if OUTPUT in weights:
        shown = _shown(parts, images, batch)
        net, running = own["segmenter"], carry.stats["segmenter"]
        found, _ = parts.segmenter.apply(net, running, shown, True, source_key)
        found = {level: upsampled(found[level], images) for level in parts.asked}
        fake[OUTPUT] = joint(found, parts.depth)
    if OUTPUT in weights or parts.statistics != "source":
        look = align.look_at_target(parts.segmenter, parts.asked, parts.statistics, carry)
        found, carry = look(own, carry, batch, target_key)
        real[OUTPUT] = joint(found, parts.depth)
    if "pool" in memory:
        fake[INPUT], memory["pool"] = parts_memory.pooled(memory["pool"], images, pool_key)
    if settings.ramp_steps:
        began = memory["began"]
        memory["began"] = jnp.where(began < 0, carry.step, began)

    domain_loss = adversarial.by_name(settings.gan)
    total, metrics, stats = 0.0, {}, carry.stats
    for level, weight in weights.items():
        judge = partial(discriminators.judge, parts.discriminator, params)
        of_real, stats = judge(stats, level, real[level], True)
        of_fake, stats = judge(stats, level, fake[level], True)
        value = jnp.mean(domain_loss(of_real, adversarial.TARGET, settings.smooth))
        value += jnp.mean(domain_loss(of_fake, adversarial.SOURCE))
        metrics[f"discriminator/{level}"] = value
        metrics[f"accuracy/{level}"] = adversarial.accuracy(of_fake, of_real, settings.gan)
        if settings.r1:
            penalty = _steepness(parts, params, stats, level, real[level], carry.step)
            metrics[f"r1/{level}"] = penalty
            value += 0.5 * settings.r1 * penalty
        total += weight * value
    return total, carry._replace(
        stats=stats,
        memory=memory,
        shared={"key": source_key},
        metrics={**carry.metrics, **metrics},
    )


def _steepness(parts: Parts, params, stats, level, real, step):
    """R1's squared gradient; 0 in the steps that do not compute it."""
    every = parts.adversary.r1_every

    def score(maps):
        scores, _ = discriminators.judge(parts.discriminator, params, stats, level, maps, False)
        return jnp.mean(scores, axis=(1, 2, 3))

    def penalty():
        return every * jnp.mean(adversarial.r1(score, real))

    if every == 1:
        return penalty()
    return lax.cond(step % every == 0, penalty, lambda: jnp.zeros((), jnp.float32))


def _gen(parts: Parts, params, carry, batch, key):
    """The networks' turn."""
    del key  # that of the discriminators' turn is used, see `_disc`
    own, before = params["gen"], carry.stats
    settings, weights = parts.adversary, parts.weights
    images = _transformed(parts, own, batch)
    seen = images if parts.transform.task_gradient else lax.stop_gradient(images)
    learnt = {**batch, "source_image": _shown(parts, seen, batch)}
    supervised = align.supervise(
        parts.segmenter, parts.segmentation_weights, depth=parts.depth, rarity=parts.rarity
    )
    total, found, carry = supervised(own, carry, learnt, carry.shared["key"])
    carry = carry._replace(stats=before) if parts.statistics == "target" else carry
    maps, metrics = {INPUT: images, OUTPUT: joint(found, parts.depth)}, {}
    ramp = 1.0
    if settings.ramp_steps:
        played = carry.step - carry.memory["began"] + 1
        ramp = jnp.minimum(played.astype(jnp.float32) / settings.ramp_steps, 1.0)
    domain_loss = adversarial.by_name(settings.gan)
    for level, weight in weights.items():
        judge = partial(discriminators.judge, parts.discriminator, params, carry.stats)
        scores, _ = judge(level, maps[level], False)
        value = jnp.mean(domain_loss(scores, adversarial.TARGET))
        metrics[f"adversarial/{level}"] = value
        total += ramp * weight * value
    if INPUT in weights:
        moved = to_levels(images) - batch["source_image"].astype(jnp.float32)
        change = jnp.mean(jnp.abs(moved))
        metrics["transform/change"] = change
        total += parts.transform.lam_identity * change / 127.5
    return total, carry._replace(metrics={**carry.metrics, **metrics})


def _warmup(parts: Parts, params, carry, batch, key):
    supervised = align.supervise(
        parts.segmenter, parts.segmentation_weights, depth=parts.depth, rarity=parts.rarity
    )
    total, _, carry = supervised(params["gen"], carry, batch, jax.random.split(key)[0])
    return total, carry


def _look_transformed(parts: Parts, params, stats, memory, batch):
    """The source's images in 0..255 as the task network learns from them."""
    del stats, memory
    return to_levels(_transformed(parts, params["gen"], batch))
