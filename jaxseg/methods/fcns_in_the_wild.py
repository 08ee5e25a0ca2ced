"""FCNs in the Wild (Hoffman, Wang, Yu and Darrell, 2016): features aligned place by place, and
classes held to the sizes they have in the source.

A domain classifier looks at the last feature map, one decision for each place. It moves first, at
the features of the step; then the network moves against the classifier as it has become
(`alternate`). The second term looks at the target's prediction alone: a class that wins more than a
fraction of the share it seldom falls below in the source is taken to be in the image and held
between a lower and an upper percentile of its share there, any other is pushed to nothing.

The authors published no code. What the paper leaves open is a setting here; where this file does
otherwise, docs/methods.md says so.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jax import lax

from jaxseg.engine.method import Method
from jaxseg.errors import UserError
from jaxseg.losses import adversarial, class_ratio
from jaxseg.methods.parts import align
from jaxseg.methods.parts import memory as parts_memory
from jaxseg.models.network import Network

NETWORKS = ("segmenter", "discriminator")
CONFUSIONS = ("flipped", "both")


def make(
    segmenter: Network,
    discriminator: Network,
    *,
    num_classes: int,
    segmentation_weights: Mapping[str, float],
    adversarial_weight: float,
    constraint_weight: float,
    confusion: str = "flipped",
    percentiles: tuple[float, float] = (10.0, 90.0),
    present_fraction: float = 0.1,
    large_share: float = 0.1,
    large_weight: float = 0.1,
    remembered: int = 512,
    statistics: str = "both",
) -> Method:
    """Builds the method.

    Args:
      segmenter: a task network with the output 'features' [N,h,w,C].
      discriminator: the domain classifier, features -> {'score': [N,h',w',1]}.
      num_classes: K.
      segmentation_weights: by output level.
      adversarial_weight: of the domain term in the network's loss.
      constraint_weight: of the size constraints; 0 leaves them out.
      confusion: what the network asks of the domain classifier: 'flipped', that it takes each
        domain for the other; 'both', the mean of that loss and of the classifier's own, whose
        optimum is a classifier that cannot tell.
      percentiles: of a class's share over the source images that hold it, 0..100.
      present_fraction: of the lower percentile, above which a class counts as present.
      large_share, large_weight: the constraint of a class whose lower percentile exceeds
        `large_share` (road, say) is multiplied by `large_weight`.
      remembered: how many of the latest source images the percentiles are over.
      statistics: see `_align.look_at_target`.

    Raises:
      UserError: a setting out of range.
    """
    align.check_statistics(statistics)
    low, high = percentiles
    if confusion not in CONFUSIONS:
        raise UserError(f"confusion={confusion!r}; choose one of {CONFUSIONS}")
    if not 0 <= low <= high <= 100:
        raise UserError(f"percentiles={tuple(percentiles)}: two rising numbers within 0 and 100")
    supervised = align.supervise(segmenter, segmentation_weights, (align.FEATURES,))

    def init(key, batch):
        net_key, disc_key = jax.random.split(key)
        image = batch["source_image"][:1]
        net, stats = segmenter.init(net_key, image)
        classifier, moving = align.first_discriminator(
            discriminator, segmenter, net, stats, image, align.FEATURES, disc_key
        )
        params = {"gen": {"segmenter": net}, "disc": {align.FEATURES: classifier}}
        memory = {"sizes": parts_memory.empty_ring(remembered, num_classes)}
        running = {"segmenter": stats, **({align.FEATURES: moving} if moving else {})}
        return params, running, memory

    def judge(params, stats, features, train):
        return align.judge(discriminator, params, stats, align.FEATURES, features, train)

    def told_apart(of_source, of_target, flip=False):
        """Cross-entropy of the domains, each counting half."""
        labels = (adversarial.SOURCE, adversarial.TARGET)
        first, second = labels[::-1] if flip else labels
        return 0.5 * (
            jnp.mean(adversarial.vanilla(of_source, first))
            + jnp.mean(adversarial.vanilla(of_target, second))
        )

    def disc(params, carry, batch, key):
        # The features of the network as it stands; its statistics are left to its own turn.
        stats, scores = carry.stats, []
        for domain, own_key in zip(("source", "target"), jax.random.split(key), strict=True):
            outputs, _ = segmenter.apply(
                params["gen"]["segmenter"],
                carry.stats["segmenter"],
                batch[f"{domain}_image"],
                True,
                own_key,
            )
            score, stats = judge(params, stats, outputs[align.FEATURES], True)
            scores.append(score)
        of_source, of_target = scores
        right = adversarial.accuracy(of_source, of_target, "vanilla")
        metrics = {**carry.metrics, "accuracy/features": right}
        return told_apart(of_source, of_target), carry._replace(stats=stats, metrics=metrics)

    def learn(own, carry, batch, key):
        total, source, carry = supervised(own, carry, batch, key)
        sizes = parts_memory.remember(carry.memory["sizes"], batch["source_label"])
        return total, source, carry._replace(memory={**carry.memory, "sizes": sizes})

    def gen(params, carry, batch, key):
        before = carry
        source_key, target_key = jax.random.split(key)
        total, source, carry = learn(params["gen"], carry, batch, source_key)
        look = align.look_at_target(segmenter, ("main", align.FEATURES), statistics, before)
        target, carry = look(params["gen"], carry, batch, target_key)
        features = source[align.FEATURES], target[align.FEATURES]
        scores = [judge(params, carry.stats, maps, False)[0] for maps in features]
        confused = told_apart(*scores, flip=True)
        if confusion == "both":
            confused = 0.5 * (confused + told_apart(*scores))
        metrics = {"adversarial/features": confused}
        total += adversarial_weight * confused
        if constraint_weight:
            lower, upper = lax.stop_gradient(parts_memory.bounds(carry.memory["sizes"], low, high))
            held = class_ratio.present(target["main"], lower, present_fraction)
            outside = class_ratio.size_constraints(target["main"], held, lower, upper)
            outside = jnp.where(lower > large_share, large_weight, 1.0) * outside
            value = jnp.mean(jnp.sum(outside, axis=-1))
            metrics["target/sizes"] = value
            metrics["target/classes_present"] = jnp.mean(jnp.sum(held, -1, dtype=jnp.float32))
            total += constraint_weight * value
        return total, carry._replace(metrics={**carry.metrics, **metrics})

    def warmup(params, carry, batch, key):
        total, _, carry = learn(params["gen"], carry, batch, jax.random.split(key)[0])
        return total, carry

    return Method(
        init,
        {"disc": disc, "gen": gen},
        align.predictor(segmenter),
        alternate=True,
        warmup={"gen": warmup},
    )
