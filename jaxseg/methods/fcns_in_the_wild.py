"""FCNs in the Wild (Hoffman, Wang, Yu and Darrell, 2016): adversarial alignment of features, and
constraints on the size of each class.

A domain classifier looks at the last feature map and decides for each position. In each step it
moves first; then the network moves against the updated classifier (`alternate`). The size
constraints need the target's prediction alone. A class counts as present in an image if its
predicted share exceeds a fraction of a lower percentile of its share in source images. A present
class is held between that percentile and an upper one; any other class is pushed to a share of 0.

The authors published no code. What the paper leaves open is a setting here; docs/methods.md says
where this file departs from the paper.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxseg.engine.method import Method
from jaxseg.errors import UserError
from jaxseg.losses import adversarial, class_ratio
from jaxseg.methods.parts import align, discriminators
from jaxseg.methods.parts import memory as parts_memory
from jaxseg.methods.parts.classes import Rarity, check_rarity
from jaxseg.methods.parts.grouped import grouped
from jaxseg.methods.parts.levels import FEATURES
from jaxseg.models.network import Network

NETWORKS = ("segmenter", "discriminator")
CONFUSIONS = ("flipped", "both")


class Constraints(NamedTuple):
    """How the size of each class in the target's prediction is held to its sizes in the source.

    percentiles: (lower, upper), 0..100, of a class's share over the source images that hold it.
    present_fraction: a class counts as present in an image when more than this times the lower
      percentile of it is predicted.
    large_share, large_weight: for a class whose lower percentile exceeds `large_share` (road, say)
      the constraint is multiplied by `large_weight`.
    remembered: how many of the latest source images the percentiles are taken over.
    """

    percentiles: tuple[float, float] = (10.0, 90.0)
    present_fraction: float = 0.1
    large_share: float = 0.1
    large_weight: float = 0.1
    remembered: int = 512


class Parts(NamedTuple):
    """All that the functions below need; see `make`."""

    segmenter: Network
    discriminator: Network
    num_classes: int
    segmentation_weights: Mapping[str, float]
    adversarial_weight: float
    constraint_weight: float
    confusion: str
    statistics: str
    constraints: Constraints
    rarity: Rarity


def make(
    segmenter: Network,
    discriminator: Network,
    *,
    num_classes: int,
    segmentation_weights: Mapping[str, float],
    adversarial_weight: float,
    constraint_weight: float,
    confusion: str = "flipped",
    statistics: str = "both",
    **settings: Any,
) -> Method:
    """Builds the method.

    Args:
      segmenter: a task network with the output 'features' [N,h,w,C].
      discriminator: the domain classifier, features -> {'score': [N,h',w',1]}.
      num_classes: K.
      segmentation_weights: by output level.
      adversarial_weight: of the domain term in the network's loss.
      constraint_weight: of the size constraints; 0 leaves them out.
      confusion: the network's domain loss. 'flipped': the classifier's loss with the domains
        exchanged. 'both': the mean of that and of the classifier's own loss, which is lowest when
        the classifier cannot tell the domains apart.
      statistics: see `align.look_at_target`.
      **settings: the fields of `Constraints` and `Rarity`.

    Raises:
      UserError: a setting that does not exist or is out of range.
    """
    constraints, rarity = grouped(settings, Constraints, Rarity)
    check_rarity(rarity, num_classes)
    align.check_statistics(statistics)
    low, high = constraints.percentiles
    if confusion not in CONFUSIONS:
        raise UserError(f"confusion={confusion!r}; choose one of {CONFUSIONS}")
    if not 0 <= low <= high <= 100:
        given = tuple(constraints.percentiles)
        raise UserError(f"percentiles={given}: two rising numbers within 0 and 100")
    parts = Parts(
        segmenter, discriminator, num_classes, segmentation_weights, adversarial_weight,
        constraint_weight, confusion, statistics, constraints, rarity,
    )  # fmt: skip
    return Method(
        partial(_init, parts),
        {"disc": partial(_disc, parts), "gen": partial(_gen, parts)},
        align.predictor(segmenter),
        alternate=True,
        warmup={"gen": partial(_warmup, parts)},
    )


def _init(parts: Parts, key, batch):
    net_key, disc_key = jax.random.split(key)
    image = batch["source_image"][:1]
    net, stats = parts.segmenter.init(net_key, image)
    classifier, moving = discriminators.first(
        parts.discriminator, parts.segmenter, net, stats, image, FEATURES, disc_key
    )
    params = {"gen": {"segmenter": net}, "disc": {FEATURES: classifier}}
    memory = {"sizes": parts_memory.empty_ring(parts.constraints.remembered, parts.num_classes)}
    running = {"segmenter": stats, **({FEATURES: moving} if moving else {})}
    return params, running, memory


def _judge(parts: Parts, params, stats, features, train):
    return discriminators.judge(parts.discriminator, params, stats, FEATURES, features, train)


def _domain_loss(of_source, of_target, flip=False):
    """Cross-entropy of the domains, each counting half; `flip` exchanges their labels."""
    labels = (adversarial.SOURCE, adversarial.TARGET)
    first, second = labels[::-1] if flip else labels
    return 0.5 * (
        jnp.mean(adversarial.vanilla(of_source, first))
        + jnp.mean(adversarial.vanilla(of_target, second))
    )


def _disc(parts: Parts, params, carry, batch, key):
    """The classifier's turn. The network's statistics are left to its own turn."""
    stats, scores = carry.stats, []
    net, running = params["gen"]["segmenter"], carry.stats["segmenter"]
    for domain, own_key in zip(("source", "target"), jax.random.split(key), strict=True):
        images = batch[f"{domain}_image"]
        outputs, _ = parts.segmenter.apply(net, running, images, True, own_key)
        score, stats = _judge(parts, params, stats, outputs[FEATURES], True)
        scores.append(score)
    of_source, of_target = scores
    right = adversarial.accuracy(of_source, of_target, "vanilla")
    metrics = {**carry.metrics, "accuracy/features": right}
    return _domain_loss(of_source, of_target), carry._replace(stats=stats, metrics=metrics)


def _learn(parts: Parts, own, carry, batch, key):
    """The supervised loss on the source, and the sizes of its classes."""
    supervised = align.supervise(
        parts.segmenter, parts.segmentation_weights, (FEATURES,), rarity=parts.rarity
    )
    total, source, carry = supervised(own, carry, batch, key)
    sizes = parts_memory.remember(carry.memory["sizes"], batch["source_label"])
    return total, source, carry._replace(memory={**carry.memory, "sizes": sizes})


def _warmup(parts: Parts, params, carry, batch, key):
    total, _, carry = _learn(parts, params["gen"], carry, batch, jax.random.split(key)[0])
    return total, carry


def _gen(parts: Parts, params, carry, batch, key):
    """The network's turn, against the updated classifier."""
    before = carry
    source_key, target_key = jax.random.split(key)
    total, source, carry = _learn(parts, params["gen"], carry, batch, source_key)
    levels = ("main", FEATURES)
    look = align.look_at_target(parts.segmenter, levels, parts.statistics, before)
    target, carry = look(params["gen"], carry, batch, target_key)
    features = source[FEATURES], target[FEATURES]
    scores = [_judge(parts, params, carry.stats, maps, False)[0] for maps in features]
    confused = _domain_loss(*scores, flip=True)
    if parts.confusion == "both":
        confused = 0.5 * (confused + _domain_loss(*scores))
    metrics = {"adversarial/features": confused}
    total += parts.adversarial_weight * confused
    if parts.constraint_weight:
        settings = parts.constraints
        lower, upper = parts_memory.bounds(carry.memory["sizes"], *settings.percentiles)
        lower, upper = lax.stop_gradient((lower, upper))
        held = class_ratio.present(target["main"], lower, settings.present_fraction)
        outside = class_ratio.size_constraints(target["main"], held, lower, upper)
        large = lower > settings.large_share
        outside = jnp.where(large, settings.large_weight, 1.0) * outside
        value = jnp.mean(jnp.sum(outside, axis=-1))
        metrics["target/sizes"] = value
        metrics["target/classes_present"] = jnp.mean(jnp.sum(held, -1, dtype=jnp.float32))
        total += parts.constraint_weight * value
    return total, carry._replace(metrics={**carry.metrics, **metrics})
