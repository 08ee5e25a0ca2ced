"""What source_only, minent, adaptsegnet, advent and dada have in common.

All of them learn the labels of the source (and its depth, if asked to) and differ in what they ask
of the target's output: nothing, low entropy, or that a discriminator mistakes it for the source's.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxseg.engine.method import Carry, Method, global_mean
from jaxseg.losses import adversarial, class_ratio
from jaxseg.losses.segmentation import cross_entropy
from jaxseg.methods.parts import depth as parts_depth
from jaxseg.methods.parts import memory as parts_memory
from jaxseg.models.network import Network
from jaxseg.resize import resize_bilinear

STATISTICS = ("source", "target", "both")
FEATURES = "features"  # the level below the outputs: the last feature map, at its own size


class Levels(NamedTuple):
    """Weights of the output levels: {'main': 1.0, 'aux': 0.1}; a level left out is not used."""

    segmentation: Mapping[str, float]
    target: Mapping[str, float]


class ClassPrior(NamedTuple):
    """ADVENT's class-ratio prior: its weight, and the part of the source's share asked for."""

    weight: float
    mu: float


def class_prior(settings: Mapping[str, float] | None) -> ClassPrior | None:
    """{'weight', 'mu'} of a config as a ClassPrior; None without settings or weight."""
    found = ClassPrior(**settings) if settings else None
    if found is not None and not (found.weight >= 0 and 0 <= found.mu <= 1):
        raise ValueError(f"class_prior={dict(settings)}: weight at least 0, mu within 0 and 1")
    return found if found and found.weight else None


def upsampled(logits: jax.Array, images: jax.Array) -> jax.Array:
    """Logits [N,h,w,K] at the size of images [N,H,W,...], aligned corners as the references."""
    return resize_bilinear(logits, images.shape[1:3])


def _levels(outputs, levels, images) -> dict[str, jax.Array]:
    """Logits at full size, features as they are."""
    return {
        level: outputs[level] if level == FEATURES else upsampled(outputs[level], images)
        for level in levels
    }


def supervise(
    segmenter: Network,
    weights: Mapping[str, float],
    also: tuple[str, ...] = (),
    depth: parts_depth.Depth | None = None,
) -> Callable:
    """(own params, carry, batch, key) -> (loss, {level: full-size source logits}, carry).

    `also` are levels without a loss on the labels that are wanted too, such as the features;
    `depth` is a task beside the labels, whose level is among those that come back.
    """
    also = (*also, parts_depth.LEVEL) if depth else also

    def loss(own, carry: Carry, batch, key):
        outputs, stats = segmenter.apply(
            own["segmenter"], carry.stats["segmenter"], batch["source_image"], True, key
        )
        found = _levels(outputs, dict.fromkeys((*weights, *also)), batch["source_image"])
        total, metrics = 0.0, {}
        for level, weight in weights.items():
            value = global_mean(*cross_entropy(found[level], batch["source_label"]))
            total += weight * value
            metrics[f"segmentation/{level}"] = value
        if depth:
            value = parts_depth.error(depth, found[parts_depth.LEVEL], batch["source_depth"])
            total += depth.weight * value
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

    `statistics` says whose batches move the running statistics that evaluation uses: 'both' in
    turn (the reference code), 'target' only (AdaBN), or 'source' only. In training each domain is
    always normalised by its own batch, unless the network's norm is frozen.
    """

    def look(own, carry: Carry, batch, key):
        source_stats = carry.stats["segmenter"]
        start = before.stats["segmenter"] if statistics == "target" else source_stats
        outputs, stats = segmenter.apply(own["segmenter"], start, batch["target_image"], True, key)
        stats = source_stats if statistics == "source" else stats
        found = _levels(outputs, levels, batch["target_image"])
        return found, carry._replace(stats={**carry.stats, "segmenter": stats})

    return look


def first_discriminator(discriminator: Network, segmenter: Network, net, stats, images, level, key):
    """First (params, stats) of the discriminator of one level, for the maps that it will see."""

    def maps(images):
        outputs, _ = segmenter.apply(net, stats, images, False)
        return _levels(outputs, (level,), images)[level]

    seen = jax.eval_shape(maps, images)
    return discriminator.init(key, jnp.zeros(seen.shape, jnp.float32))


def judge(discriminator: Network, params, stats, level: str, maps, train: bool):
    """(scores, stats) of one level's discriminator.

    One that has statistics (spectral norm) keeps them in `stats[level]`; `train` moves them, which
    is for its own turn.
    """
    own, running = params["disc"][level], stats.get(level, {})
    outputs, after = discriminator.apply(own, running, maps, train)
    return outputs["score"], {**stats, level: after} if running else stats


def predictor(segmenter: Network) -> Callable:
    """(params, stats, memory, images) -> logits of the main level at network stride."""

    def predict(params, stats, memory, images):
        del memory
        net, running = params["gen"]["segmenter"], stats["segmenter"]
        return segmenter.apply(net, running, images, False)[0]["main"]

    return predict


def check_statistics(statistics: str) -> None:
    """ValueError unless it is one of STATISTICS."""
    if statistics not in STATISTICS:
        raise ValueError(f"statistics={statistics!r}; choose one of {STATISTICS}")


def make(
    segmenter: Network,
    levels: Levels,
    *,
    statistics: str = "both",
    on_target: Callable[[jax.Array], jax.Array] | None = None,
    discriminator: Network | None = None,
    see: Callable[[dict[str, jax.Array], str], jax.Array] | None = None,
    num_classes: int = 0,
    gan: str = "vanilla",
    prior: ClassPrior | None = None,
    depth: parts_depth.Depth | None = None,
) -> Method:
    """Builds a method that aligns the target's output with the source's.

    Args:
      segmenter: the task network.
      levels: weights of the supervised and of the target loss by level; 'features' is a level that
        only a discriminator can look at.
      statistics: 'source', 'target' or 'both'; see `look_at_target`.
      on_target: target logits [N,H,W,K] -> loss of each pixel [N,H,W] or image [N], for a method
        without an adversary.
      discriminator: one definition; each level of `levels.target` gets its own parameters.
      see: (outputs {level: [N,H,W,C]}, level) -> the maps [N,H,W,K] that the discriminator of that
        level looks at; features are seen as they are.
      num_classes: K, for the prior.
      gan: adversarial loss, 'vanilla' or 'ls'.
      prior: the class-ratio prior on the main level of the target; None for none. The shares of
        the source's classes are learnt on the way, in `memory['histogram']`.
      depth: a second task on the source; None for none. Its prediction is among the outputs that
        `see` is given.
    """
    check_statistics(statistics)
    wanted = [level for level in levels.target if discriminator is None or level != FEATURES]
    missing = [level for level in wanted if level not in levels.segmentation]
    if missing:
        raise ValueError(f"target levels {missing} have no segmentation weight")
    also = tuple(level for level in levels.target if level not in levels.segmentation)
    supervised = supervise(segmenter, levels.segmentation, also, depth)
    needs_target = bool(levels.target) or prior is not None or statistics != "source"
    domain_loss = adversarial.by_name(gan)

    def shown(level, outputs):
        return outputs[level] if level == FEATURES else see(outputs, level)

    def init(key, batch):
        keys = jax.random.split(key, 1 + len(levels.target))
        image = batch["source_image"][:1]
        net, stats = segmenter.init(keys[0], image)
        params, running = {"gen": {"segmenter": net}}, {"segmenter": stats}
        if discriminator is not None:
            params["disc"] = {}
            for level, level_key in zip(levels.target, keys[1:], strict=True):
                params["disc"][level], moving = first_discriminator(
                    discriminator, segmenter, net, stats, image, level, level_key
                )
                running |= {level: moving} if moving else {}
        memory = {} if prior is None else {"histogram": parts_memory.empty_histogram(num_classes)}
        return params, running, memory

    def learn(own, carry, batch, key):
        total, source, carry = supervised(own, carry, batch, key)
        if prior is not None:
            seen = parts_memory.histogram(carry.memory["histogram"], batch["source_label"])
            carry = carry._replace(memory={**carry.memory, "histogram": seen})
        return total, source, carry

    def gen(params, carry, batch, key):
        before = carry
        source_key, target_key = jax.random.split(key)
        total, source, carry = learn(params["gen"], carry, batch, source_key)
        if not needs_target:
            return total, carry
        asked = dict.fromkeys(
            (
                *levels.target,
                *(("main",) if prior else ()),
                *((parts_depth.LEVEL,) if depth else ()),
            )
        )
        look = look_at_target(segmenter, tuple(asked), statistics, before)
        target, carry = look(params["gen"], carry, batch, target_key)
        metrics, shared = {}, {}
        for level, weight in levels.target.items():
            if discriminator is None:
                value = jnp.mean(on_target(target[level]))
                metrics[f"target/{level}"] = value
            else:
                maps = shown(level, target)
                scores, _ = judge(discriminator, params, carry.stats, level, maps, False)
                value = jnp.mean(domain_loss(scores, adversarial.SOURCE))
                metrics[f"adversarial/{level}"] = value
                shared[level] = {"source": shown(level, source), "target": maps}
            total += weight * value
        if prior is not None:
            shares = lax.stop_gradient(carry.memory["histogram"]["shares"])
            value = jnp.mean(class_ratio.class_prior(target["main"], shares, prior.mu))
            metrics["target/class_prior"] = value
            total += prior.weight * value
        # The discriminators read these maps as data: they belong to no player's gradient but gen's.
        shared = lax.stop_gradient(shared)
        return total, carry._replace(shared=shared, metrics={**carry.metrics, **metrics})

    def disc(params, carry, batch, key):
        del batch, key
        total, metrics, stats = 0.0, {}, carry.stats
        for level in levels.target:
            maps = carry.shared[level]
            of_source, stats = judge(discriminator, params, stats, level, maps["source"], True)
            of_target, stats = judge(discriminator, params, stats, level, maps["target"], True)
            total += 0.5 * jnp.mean(domain_loss(of_source, adversarial.SOURCE))
            total += 0.5 * jnp.mean(domain_loss(of_target, adversarial.TARGET))
            metrics[f"accuracy/{level}"] = adversarial.accuracy(of_source, of_target, gan)
        return total, carry._replace(stats=stats, metrics={**carry.metrics, **metrics})

    def warmup(params, carry, batch, key):
        total, _, carry = learn(params["gen"], carry, batch, jax.random.split(key)[0])
        return total, carry

    reads = ("source_image", "source_label", *(("source_depth",) if depth else ()))
    return Method(
        init,
        {"gen": gen} if discriminator is None else {"gen": gen, "disc": disc},
        predictor(segmenter),
        warmup={"gen": warmup} if needs_target else None,
        reads=(*reads, "target_image") if needs_target else reads,
        views=parts_depth.views(segmenter, depth),
    )
