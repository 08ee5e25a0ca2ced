"""What source_only, minent, adaptsegnet and advent have in common.

All of them learn the labels of the source and differ in what they ask of the target's output:
nothing, low entropy, or that a discriminator mistakes it for the source's.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxseg.core import Carry, Method, global_mean
from jaxseg.losses import adversarial
from jaxseg.losses.segmentation import cross_entropy
from jaxseg.models.network import Network
from jaxseg.resize import resize_bilinear

STATISTICS = ("source", "target", "both")


class Levels(NamedTuple):
    """Weights of the output levels: {'main': 1.0, 'aux': 0.1}; a level left out is not used."""

    segmentation: Mapping[str, float]
    target: Mapping[str, float]


def upsampled(logits: jax.Array, images: jax.Array) -> jax.Array:
    """Logits [N,h,w,K] at the size of the images [N,H,W,3], aligned corners as the references."""
    return resize_bilinear(logits, images.shape[1:3])


def supervise(segmenter: Network, weights: Mapping[str, float]) -> Callable:
    """(own params, carry, batch, key) -> (loss, {level: full-size source logits}, carry)."""

    def loss(own, carry: Carry, batch, key):
        outputs, stats = segmenter.apply(
            own["segmenter"], carry.stats["segmenter"], batch["source_image"], True, key
        )
        logits, total, metrics = {}, 0.0, {}
        for level, weight in weights.items():
            logits[level] = upsampled(outputs[level], batch["source_image"])
            value = global_mean(*cross_entropy(logits[level], batch["source_label"]))
            total += weight * value
            metrics[f"segmentation/{level}"] = value
        carry = carry._replace(
            stats={**carry.stats, "segmenter": stats}, metrics={**carry.metrics, **metrics}
        )
        return total, logits, carry

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
        logits = {level: upsampled(outputs[level], batch["target_image"]) for level in levels}
        return logits, carry._replace(stats={**carry.stats, "segmenter": stats})

    return look


def make(
    segmenter: Network,
    levels: Levels,
    *,
    statistics: str = "both",
    on_target: Callable[[jax.Array], jax.Array] | None = None,
    discriminator: Network | None = None,
    see: Callable[[jax.Array], jax.Array] | None = None,
    num_classes: int = 0,
    gan: str = "vanilla",
) -> Method:
    """Builds a method that aligns the target's output with the source's.

    Args:
      segmenter: the task network.
      levels: weights of the supervised and of the target loss by level.
      statistics: 'source', 'target' or 'both'; see `look_at_target`.
      on_target: target logits [N,H,W,K] -> loss per pixel [N,H,W], for a method without an
        adversary.
      discriminator: one definition; each level of `levels.target` gets its own parameters.
      see: logits [N,H,W,K] -> the maps [N,H,W,K] that the discriminator looks at.
      num_classes: K, the discriminator's input channels.
      gan: adversarial loss, 'vanilla' or 'ls'.
    """
    if statistics not in STATISTICS:
        raise ValueError(f"statistics={statistics!r}; choose one of {STATISTICS}")
    missing = [level for level in levels.target if level not in levels.segmentation]
    if missing:
        raise ValueError(f"target levels {missing} have no segmentation weight")
    supervised = supervise(segmenter, levels.segmentation)
    needs_target = bool(levels.target) or statistics != "source"
    domain_loss = adversarial.by_name(gan)

    def judge(params, level, maps):
        return discriminator.apply(params["disc"][level], {}, maps, True)[0]["score"]

    def init(key, batch):
        keys = jax.random.split(key, 1 + len(levels.target))
        net, stats = segmenter.init(keys[0], batch["source_image"][:1])
        params = {"gen": {"segmenter": net}}
        if discriminator is not None:
            maps = jnp.zeros((1, *batch["source_image"].shape[1:3], num_classes), jnp.float32)
            params["disc"] = {
                level: discriminator.init(level_key, maps)[0]
                for level, level_key in zip(levels.target, keys[1:], strict=True)
            }
        return params, {"segmenter": stats}, {}

    def gen(params, carry, batch, key):
        before = carry
        source_key, target_key = jax.random.split(key)
        total, source, carry = supervised(params["gen"], carry, batch, source_key)
        if not needs_target:
            return total, carry
        look = look_at_target(segmenter, tuple(levels.target), statistics, before)
        target, carry = look(params["gen"], carry, batch, target_key)
        metrics, shared = {}, {}
        for level, weight in levels.target.items():
            if discriminator is None:
                value = jnp.mean(on_target(target[level]))
                metrics[f"target/{level}"] = value
            else:
                maps = see(target[level])
                value = jnp.mean(domain_loss(judge(params, level, maps), adversarial.SOURCE))
                metrics[f"adversarial/{level}"] = value
                shared[level] = {"source": see(source[level]), "target": maps}
            total += weight * value
        # The discriminators read these maps as data: they belong to no player's gradient but gen's.
        shared = lax.stop_gradient(shared)
        return total, carry._replace(shared=shared, metrics={**carry.metrics, **metrics})

    def disc(params, carry, batch, key):
        del batch, key
        total, metrics = 0.0, {}
        for level in levels.target:
            maps = carry.shared[level]
            of_source = judge(params, level, maps["source"])
            of_target = judge(params, level, maps["target"])
            total += 0.5 * jnp.mean(domain_loss(of_source, adversarial.SOURCE))
            total += 0.5 * jnp.mean(domain_loss(of_target, adversarial.TARGET))
            middle = 0.5 * (adversarial.SOURCE + adversarial.TARGET) if gan == "ls" else 0.0
            right = 0.5 * (jnp.mean(of_source < middle) + jnp.mean(of_target > middle))
            metrics[f"accuracy/{level}"] = right
        return total, carry._replace(metrics={**carry.metrics, **metrics})

    def warmup(params, carry, batch, key):
        total, _, carry = supervised(params["gen"], carry, batch, jax.random.split(key)[0])
        return total, carry

    def predict(params, stats, memory, images):
        del memory
        net, running = params["gen"]["segmenter"], stats["segmenter"]
        return segmenter.apply(net, running, images, False)[0]["main"]

    losses = {"gen": gen} if discriminator is None else {"gen": gen, "disc": disc}
    if not needs_target:
        return Method(init, losses, predict, reads=("source_image", "source_label"))
    return Method(init, losses, predict, warmup={"gen": warmup})
