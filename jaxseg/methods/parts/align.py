"""What source_only, minent, adaptsegnet, advent and dada have in common.

All of them train on the labels of the source (and its depth, if asked to). They differ in what they
ask of the prediction on the target: nothing, low entropy, or that a discriminator takes it for a
prediction on the source.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxseg.engine.method import Carry, Method
from jaxseg.errors import UserError
from jaxseg.losses import adversarial, class_ratio
from jaxseg.methods.parts import depth as parts_depth
from jaxseg.methods.parts import discriminators
from jaxseg.methods.parts import memory as parts_memory
from jaxseg.methods.parts.classes import PLAIN, ClassPrior, Rarity, check_rarity, label_loss
from jaxseg.methods.parts.levels import DETAIL, FEATURES, at_size, beside
from jaxseg.models.network import Network

STATISTICS = ("source", "target", "both")


class Levels(NamedTuple):
    """Loss weights of the network's output levels, as {'main': 1.0, 'aux': 0.1}.

    segmentation: of the cross-entropy on the source.
    target: of the loss on the target.
    A level that is left out has no such loss.
    """

    segmentation: Mapping[str, float]
    target: Mapping[str, float]


def supervise(
    segmenter: Network,
    weights: Mapping[str, float],
    also: tuple[str, ...] = (),
    depth: parts_depth.Depth | None = None,
    rarity: Rarity = PLAIN,
) -> Callable:
    """(own params, carry, batch, key) -> (loss, {level: full-size source logits}, carry).

    Args:
      segmenter: the task network.
      weights: output level -> weight of its cross-entropy.
      also: levels to return that have no cross-entropy, such as the features.
      depth: a second task; its level is then returned too.
      rarity: the share of the cross-entropy that counts classes by their rarity.
    """
    also = (*also, parts_depth.LEVEL) if depth else also
    of_labels = label_loss(rarity)

    def loss(own, carry: Carry, batch, key):
        outputs, stats = segmenter.apply(
            own["segmenter"], carry.stats["segmenter"], batch["source_image"], True, key
        )
        whole = [level for level in dict.fromkeys((*weights, *also)) if level != DETAIL]
        found = at_size(outputs, whole, batch["source_image"])
        total, metrics = 0.0, {}
        for level, weight in weights.items():
            seen = found.get(level), batch["source_label"]
            if level == DETAIL:
                seen = beside(outputs, level, batch["source_label"])
            value = of_labels(*seen)
            total += weight * value
            metrics[f"segmentation/{level}"] = value
        if depth:
            value = parts_depth.error(depth, found[parts_depth.LEVEL], batch["source_depth"])
            total += depth.lam_depth * value
            metrics["depth"] = value
        carry = carry._replace(
            stats={**carry.stats, "segmenter": stats}, metrics={**carry.metrics, **metrics}
        )
        return total, found, carry

    return loss


def look_at_target(
    segmenter: Network, levels: tuple[str, ...], statistics: str, before: Carry
) -> Callable:
    """(own params, carry, batch, key) -> ({level: full-size target logits}, carry).

    Args:
      segmenter: the task network.
      levels: the output levels to return.
      statistics: which images update the BatchNorm running statistics that evaluation uses:
        'both', first the source's and then the target's (as the papers' code does), 'target' only
        (AdaBN) or 'source' only. Training always normalises each domain by its own batch, unless
        the network's norm is frozen.
      before: the carry from before the source's batch of this step.
    """

    def look(own, carry: Carry, batch, key):
        source_stats = carry.stats["segmenter"]
        start = before.stats["segmenter"] if statistics == "target" else source_stats
        outputs, stats = segmenter.apply(own["segmenter"], start, batch["target_image"], True, key)
        stats = source_stats if statistics == "source" else stats
        found = at_size(outputs, levels, batch["target_image"])
        return found, carry._replace(stats={**carry.stats, "segmenter": stats})

    return look


def predictor(segmenter: Network) -> Callable:
    """(params, stats, memory, images) -> logits of the main level at network stride."""

    def predict(params, stats, memory, images):
        del memory
        net, running = params["gen"]["segmenter"], stats["segmenter"]
        return segmenter.apply(net, running, images, False)[0]["main"]

    return predict


def check_statistics(statistics: str) -> None:
    """Raises UserError unless it is one of STATISTICS."""
    if statistics not in STATISTICS:
        raise UserError(f"statistics={statistics!r}; choose one of {STATISTICS}")


class Alignment(NamedTuple):
    """All that the losses below need; see `make` for the fields."""

    segmenter: Network
    levels: Levels
    statistics: str = "both"
    on_target: Callable[[jax.Array], jax.Array] | None = None
    discriminator: Network | None = None
    see: Callable[[dict[str, jax.Array], str], jax.Array] | None = None
    num_classes: int = 0
    gan: str = "vanilla"
    prior: ClassPrior | None = None
    depth: parts_depth.Depth | None = None
    rarity: Rarity = PLAIN


def make(segmenter: Network, levels: Levels, **settings: Any) -> Method:
    """Builds a method that aligns the target's predictions with the source's.

    Args:
      segmenter: the task network.
      levels: weights of the losses by level; 'features' is a level that only a discriminator can
        look at.
      **settings: fields of `Alignment`, all optional:
        statistics: 'source', 'target' or 'both'; see `look_at_target`.
        on_target: target logits [N,H,W,K] -> loss of each pixel [N,H,W] or image [N], for a method
          without an adversary.
        discriminator: one network; each level of `levels.target` has its own parameters of it.
        see: (outputs {level: [N,H,W,C]}, level) -> the maps [N,H,W,K] that the discriminator of
          that level looks at. Features are looked at as they are.
        num_classes: K, needed for the prior and for the rarity.
        gan: adversarial loss, 'vanilla' or 'ls'.
        prior: the class-ratio prior on the target's main level. The class shares of the source
          are averaged during training, in `memory['histogram']`.
        depth: a second task on the source. Its prediction is among the outputs that `see` gets.
        rarity: the share of the source's loss that counts classes by their rarity.

    Raises:
      UserError: unknown statistics or adversarial loss, or a target level that is not supervised.
    """
    plan = Alignment(segmenter, levels, **settings)
    check_statistics(plan.statistics)
    adversarial.by_name(plan.gan)
    check_rarity(plan.rarity, plan.num_classes)
    adversary = plan.discriminator is not None
    wanted = [level for level in levels.target if not adversary or level != FEATURES]
    missing = [level for level in wanted if level not in levels.segmentation]
    if missing:
        raise UserError(f"target levels {missing} have no segmentation weight")
    gen, disc, warmup = (partial(loss, plan) for loss in (_gen, _disc, _warmup))
    reads = ("source_image", "source_label", *(("source_depth",) if plan.depth else ()))
    return Method(
        partial(_init, plan),
        {"gen": gen, "disc": disc} if adversary else {"gen": gen},
        predictor(segmenter),
        warmup={"gen": warmup} if _needs_target(plan) else None,
        reads=(*reads, "target_image") if _needs_target(plan) else reads,
        views=parts_depth.views(segmenter, plan.depth),
    )


def _needs_target(plan: Alignment) -> bool:
    return bool(plan.levels.target) or plan.prior is not None or plan.statistics != "source"


def _shown(plan: Alignment, level: str, outputs: dict[str, jax.Array]) -> jax.Array:
    """What the discriminator of a level looks at."""
    return outputs[level] if level == FEATURES else plan.see(outputs, level)


def _init(plan: Alignment, key, batch):
    keys = jax.random.split(key, 1 + len(plan.levels.target))
    image = batch["source_image"][:1]
    net, stats = plan.segmenter.init(keys[0], image)
    params, running = {"gen": {"segmenter": net}}, {"segmenter": stats}
    if plan.discriminator is not None:
        params["disc"] = {}
        for level, level_key in zip(plan.levels.target, keys[1:], strict=True):
            params["disc"][level], moving = discriminators.first(
                plan.discriminator, plan.segmenter, net, stats, image, level, level_key
            )
            running |= {level: moving} if moving else {}
    memory = {}
    if plan.prior is not None:
        memory["histogram"] = parts_memory.empty_histogram(plan.num_classes)
    return params, running, memory


def _learn(plan: Alignment, own, carry, batch, key):
    """The supervised losses on the source -> (loss, source outputs, carry)."""
    also = tuple(x for x in plan.levels.target if x not in plan.levels.segmentation)
    supervised = supervise(plan.segmenter, plan.levels.segmentation, also, plan.depth, plan.rarity)
    total, source, carry = supervised(own, carry, batch, key)
    if plan.prior is not None:
        seen = parts_memory.histogram(carry.memory["histogram"], batch["source_label"])
        carry = carry._replace(memory={**carry.memory, "histogram": seen})
    return total, source, carry


def _warmup(plan: Alignment, params, carry, batch, key):
    total, _, carry = _learn(plan, params["gen"], carry, batch, jax.random.split(key)[0])
    return total, carry


def _gen(plan: Alignment, params, carry, batch, key):
    """The segmenter's turn: the source's labels, and what is asked of the target."""
    before, prior = carry, plan.prior
    source_key, target_key = jax.random.split(key)
    total, source, carry = _learn(plan, params["gen"], carry, batch, source_key)
    if not _needs_target(plan):
        return total, carry
    asked = dict.fromkeys(plan.levels.target)
    asked |= {"main": None} if prior else {}
    asked |= {parts_depth.LEVEL: None} if plan.depth else {}
    look = look_at_target(plan.segmenter, tuple(asked), plan.statistics, before)
    target, carry = look(params["gen"], carry, batch, target_key)
    domain_loss, metrics, shared = adversarial.by_name(plan.gan), {}, {}
    for level, weight in plan.levels.target.items():
        if plan.discriminator is None:
            value = jnp.mean(plan.on_target(target[level]))
            metrics[f"target/{level}"] = value
        else:
            maps = _shown(plan, level, target)
            scores, _ = discriminators.judge(
                plan.discriminator, params, carry.stats, level, maps, False
            )
            value = jnp.mean(domain_loss(scores, adversarial.SOURCE))
            metrics[f"adversarial/{level}"] = value
            shared[level] = {"source": _shown(plan, level, source), "target": maps}
        total += weight * value
    if prior is not None:
        shares = lax.stop_gradient(carry.memory["histogram"]["shares"])
        value = jnp.mean(class_ratio.class_prior(target["main"], shares, prior.mu))
        metrics["target/class_prior"] = value
        total += prior.weight * value
    # The discriminators read these maps as data: only the segmenter's own loss has a gradient here.
    shared = lax.stop_gradient(shared)
    return total, carry._replace(shared=shared, metrics={**carry.metrics, **metrics})


def _disc(plan: Alignment, params, carry, batch, key):
    """The discriminators' turn, at the maps that the segmenter's turn has left."""
    del batch, key
    domain_loss = adversarial.by_name(plan.gan)
    total, metrics, stats = 0.0, {}, carry.stats
    for level in plan.levels.target:
        maps, score = carry.shared[level], partial(discriminators.judge, plan.discriminator, params)
        of_source, stats = score(stats, level, maps["source"], True)
        of_target, stats = score(stats, level, maps["target"], True)
        total += 0.5 * jnp.mean(domain_loss(of_source, adversarial.SOURCE))
        total += 0.5 * jnp.mean(domain_loss(of_target, adversarial.TARGET))
        metrics[f"accuracy/{level}"] = adversarial.accuracy(of_source, of_target, plan.gan)
    return total, carry._replace(stats=stats, metrics={**carry.metrics, **metrics})
