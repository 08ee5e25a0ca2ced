"""CycleGAN (Zhu et al., ICCV 2017) and CyCADA (Hoffman et al., ICML 2018).

Two translators turn source images into the target's look and back; two discriminators judge the
images of each domain. The segmenter learns from the translated source images, whose labels are
known, with no gradient into the translators. CyCADA adds two things. A copy of the segmenter, taken
when the warm-up on the source ends and frozen from then on, holds the translators to the content:
the labels of a translated source image, and its own prediction on a target image that is translated
to the source. And a discriminator aligns the segmenter's outputs on target images with those on
translated ones.

The translators, the segmenter and the discriminators are three players, each with its own optimiser
and schedule; those of translators and discriminators begin when the warm-up ends. Their gradients
are all taken at the parameters from before the step, as in the authors' code, whose discriminators
see the images that were translated before the generators moved.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxseg.engine.method import IMAGE, SOURCE, TARGET, Method, Tile, View, global_mean
from jaxseg.errors import UserError
from jaxseg.losses import adversarial
from jaxseg.losses.segmentation import cross_entropy
from jaxseg.methods.parts import align, cycle, discriminators
from jaxseg.methods.parts.appearance import StrongView, strong_view
from jaxseg.methods.parts.classes import Rarity, check_rarity
from jaxseg.methods.parts.gio_maps import to_levels, to_unit
from jaxseg.methods.parts.grouped import grouped
from jaxseg.methods.parts.levels import upsampled
from jaxseg.models.network import Network

NETWORKS = ("segmenter", "translator", "image_discriminator", "discriminator")
TRANSLATOR = cycle.PLAYER
OUTPUT = "output"  # the discriminator of the segmenter's outputs
FROZEN = "frozen"  # in State.memory

TITLES = {
    "loss/translator": "Loss of the translators",
    "loss/gen": "Loss of the segmenter",
    "loss/disc": "Loss of the discriminators",
    "adversarial": "Adversarial losses of translators and segmenter",
    "discriminator": "Loss of each discriminator",
    "accuracy": "Accuracy of the discriminators",
    "cycle": "What is lost on the way there and back (0..2)",
    "identity": "Change of images that are in the right domain (0..2)",
    "semantic": "Semantic consistency",
    "transform": "Change of source images, grey levels",
}


class Consistency(NamedTuple):
    """What CyCADA adds; 0 leaves a part out, with what it needs.

    lam_semantic: weight of the frozen segmenter's cross-entropy on translated images.
    lam_output: weight of the discriminator of outputs, for the segmenter.
    """

    lam_semantic: float = 0.0
    lam_output: float = 0.0


class Learnt(NamedTuple):
    """What is done to the images that the segmenter learns from, see `appearance.StrongView`; the
    translators see them as they are.
    """

    jitter: float = 0.0
    jitter_probability: float = 0.8
    blur_probability: float = 0.0


class Parts(NamedTuple):
    """All that the losses need."""

    segmenter: Network
    translator: Network
    judge_images: Network
    judge_outputs: Network
    weights: Mapping[str, float]
    statistics: str
    cycle: cycle.Cycle
    consistency: Consistency
    rarity: Rarity
    view: StrongView


def make(
    segmenter: Network,
    translator: Network,
    image_discriminator: Network,
    discriminator: Network,
    *,
    num_classes: int,
    segmentation_weights: Mapping[str, float],
    statistics: str = "target",
    **settings: Any,
) -> Method:
    """Builds the method.

    Args:
      segmenter: the task network, trained on translated source images.
      translator: [N,H,W,3] in -1..1 -> {'image': the same}; each direction has its own parameters.
      image_discriminator: [N,H,W,3] -> {'score'}; each domain has its own parameters.
      discriminator: of class probabilities [N,H,W,K], used with `lam_output`.
      num_classes: K.
      segmentation_weights: by output level of the task network.
      statistics: which images update its running statistics, see `align.look_at_target`; 'source'
        are the translated ones.
      **settings: the fields of `cycle.Cycle`, `Consistency`, `Rarity` and `Learnt`.

    Raises:
      UserError: a setting that does not exist or is out of range.
    """
    groups = cycle.Cycle, Consistency, Rarity, Learnt
    round_trip, consistency, rarity, learnt = grouped(settings, *groups)
    check_rarity(rarity, num_classes)
    cycle.check(round_trip)
    align.check_statistics(statistics)
    for name, value in consistency._asdict().items():
        if value < 0:
            raise UserError(f"{name}={value} is negative")
    if consistency.lam_output and "main" not in segmentation_weights:
        raise UserError("lam_output needs a weight of the level 'main' in segmentation_weights")
    parts = Parts(
        segmenter, translator, image_discriminator, discriminator, segmentation_weights,
        statistics, round_trip, consistency, rarity, StrongView(*learnt, per_image=True),
    )  # fmt: skip
    return Method(
        partial(_init, parts),
        {
            TRANSLATOR: partial(_translate, parts),
            "gen": partial(_gen, parts),
            "disc": partial(_disc, parts),
        },
        align.predictor(segmenter),
        warmup={"gen": partial(_warmup, parts)},
        views=_views(translator),
        titles=TITLES,
        tiles={"transform/change": Tile("change of source images", "of 255")},
    )


def _views(translator: Network) -> dict[str, View]:
    """Both cycles: there, and there and back."""
    look = partial(cycle.view, translator)
    there, back = cycle.TO_TARGET, cycle.TO_SOURCE

    def of_source(*ways):
        way = look(*ways)
        return lambda params, stats, memory, batch: way(params, batch["source_image"])

    def of_target(*ways):
        way = look(*ways)
        return lambda params, stats, memory, images: way(params, images)

    return {
        "transformed": View(of_source(there), IMAGE, SOURCE, "translated to the target's look"),
        "source_again": View(of_source(there, back), IMAGE, SOURCE, "source, there and back"),
        "to_source": View(of_target(back), IMAGE, TARGET, "target in the source's look"),
        "target_again": View(of_target(back, there), IMAGE, TARGET, "target, there and back"),
    }


def _init(parts: Parts, key, batch):
    names = ("segmenter", cycle.TO_TARGET, cycle.TO_SOURCE, cycle.SOURCE, cycle.TARGET, OUTPUT)
    keys = dict(zip(names, jax.random.split(key, len(names)), strict=True))
    image = batch["source_image"][:1]
    net, stats = parts.segmenter.init(keys["segmenter"], image)
    params = {"gen": {"segmenter": net}, TRANSLATOR: {}, "disc": {}}
    running = {"segmenter": stats}
    for way in (cycle.TO_TARGET, cycle.TO_SOURCE):
        params[TRANSLATOR][way] = parts.translator.init(keys[way], to_unit(image))[0]
    for domain in (cycle.SOURCE, cycle.TARGET):
        judge, moving = parts.judge_images.init(keys[domain], to_unit(image))
        params["disc"][domain] = judge
        running |= {domain: moving} if moving else {}
    if parts.consistency.lam_output:
        main = jax.eval_shape(
            lambda: upsampled(parts.segmenter.apply(net, stats, image, False)[0]["main"], image)
        )
        judge, moving = parts.judge_outputs.init(keys[OUTPUT], jnp.zeros(main.shape, jnp.float32))
        params["disc"][OUTPUT] = judge
        running |= {OUTPUT: moving} if moving else {}
    memory = cycle.pools(parts.cycle, image.shape[1:], batch["target_image"].shape[1:])
    if parts.consistency.lam_semantic:
        zeros = jax.tree.map(jnp.zeros_like, {"params": net, "stats": stats})
        memory[FROZEN] = {**zeros, "taken": jnp.zeros((), jnp.int32)}
    return params, running, memory


def _translate(parts: Parts, params, carry, batch, key):
    """The translators' turn; leaves the translated images for the other players."""
    del key
    source, target = to_unit(batch["source_image"]), to_unit(batch["target_image"])
    total, images, metrics = cycle.losses(
        parts.cycle, parts.translator, parts.judge_images, params, carry.stats, source, target
    )
    if parts.consistency.lam_semantic:
        value, told, carry = _semantic(parts, params["gen"], carry, batch, images)
        total += parts.consistency.lam_semantic * value
        metrics |= told
    shared = {cycle.TARGET: images.to_target, cycle.SOURCE: images.to_source}
    shared = lax.stop_gradient(shared)
    return total, carry._replace(shared=shared, metrics={**carry.metrics, **metrics})


def _gen(parts: Parts, params, carry, batch, key):
    """The segmenter's turn, on the translated source images."""
    own, before, metrics = params["gen"], carry, {}
    shared = dict(carry.shared)
    source_key, target_key = jax.random.split(key)
    images = to_levels(shared[cycle.TARGET])
    total, found, carry = _supervised(parts, own, carry, batch, images, source_key)
    if parts.statistics != "source" or parts.consistency.lam_output:
        look = align.look_at_target(parts.segmenter, ("main",), parts.statistics, before)
        seen, carry = look(own, carry, batch, target_key)
    if parts.consistency.lam_output:
        maps = jax.nn.softmax(seen["main"], -1)
        scores, _ = discriminators.judge(
            parts.judge_outputs, params, carry.stats, OUTPUT, maps, False
        )
        domain_loss = adversarial.by_name(parts.cycle.gan)
        value = jnp.mean(domain_loss(scores, adversarial.SOURCE))
        metrics[f"adversarial/{OUTPUT}"] = value
        total += parts.consistency.lam_output * value
        maps = {"source": jax.nn.softmax(found["main"], -1), "target": maps}
        shared[OUTPUT] = lax.stop_gradient(maps)
    return total, carry._replace(shared=shared, metrics={**carry.metrics, **metrics})


def _semantic(parts: Parts, gen, carry, batch, images: cycle.Images):
    """The frozen segmenter's opinion -> (loss, metrics, carry), without dropout or new statistics.

    The first step after the warm-up takes the copy.
    """
    kept = carry.memory[FROZEN]
    now = {"params": gen["segmenter"], "stats": carry.stats["segmenter"]}
    old = {name: kept[name] for name in now}
    copy = jax.tree.map(lambda a, b: jnp.where(kept["taken"] > 0, a, b), old, now)
    copy = lax.stop_gradient(copy)
    memory = {**carry.memory, FROZEN: {**copy, "taken": jnp.ones((), jnp.int32)}}

    def logits(levels):
        found = parts.segmenter.apply(copy["params"], copy["stats"], levels, False)[0]["main"]
        return upsampled(found, levels)

    def error(levels, labels):
        return global_mean(*cross_entropy(logits(levels), labels))

    thought = jnp.argmax(logits(batch["target_image"]), -1).astype(jnp.int32)
    metrics = {
        "semantic/to_target": error(to_levels(images.to_target), batch["source_label"]),
        "semantic/to_source": error(to_levels(images.to_source), thought),
    }
    return sum(metrics.values()), metrics, carry._replace(memory=memory)


def _disc(parts: Parts, params, carry, batch, key):
    """The discriminators' turn, at what the other players' turns have left."""
    real = {domain: to_unit(batch[domain]) for domain in (cycle.SOURCE, cycle.TARGET)}
    shared = carry.shared
    total, carry = cycle.judged(parts.cycle, parts.judge_images, params, carry, real, shared, key)
    if not parts.consistency.lam_output:
        return total, carry
    maps, domain_loss = shared[OUTPUT], adversarial.by_name(parts.cycle.gan)
    judge = partial(discriminators.judge, parts.judge_outputs, params)
    of_source, stats = judge(carry.stats, OUTPUT, maps["source"], True)
    of_target, stats = judge(stats, OUTPUT, maps["target"], True)
    value = 0.5 * jnp.mean(domain_loss(of_source, adversarial.SOURCE))
    value += 0.5 * jnp.mean(domain_loss(of_target, adversarial.TARGET))
    metrics = {
        f"discriminator/{OUTPUT}": value,
        f"accuracy/{OUTPUT}": adversarial.accuracy(of_source, of_target, parts.cycle.gan),
    }
    return total + value, carry._replace(stats=stats, metrics={**carry.metrics, **metrics})


def _warmup(parts: Parts, params, carry, batch, key):
    """The segmenter alone, on the source's images as they are."""
    own_key, images = jax.random.split(key)[0], batch["source_image"]
    total, _, carry = _supervised(parts, params["gen"], carry, batch, images, own_key)
    return total, carry


def _supervised(parts: Parts, own, carry, batch, images, key):
    """The segmenter's loss on the source's labels and these images of it, in 0..255."""
    view_key, own_key = jax.random.split(key)
    learnt = {**batch, "source_image": strong_view(view_key, images, parts.view)}
    supervised = align.supervise(parts.segmenter, parts.weights, rarity=parts.rarity)
    return supervised(own, carry, learnt, own_key)
