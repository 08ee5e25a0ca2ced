"""CBST: class-balanced self-training (Zou, Yu, Kumar and Wang, ECCV 2018), and its confidence
regularisation (CRST, ICCV 2019).

A threshold for each class keeps the surest share of the pixels predicted as it, so that large and
easy classes do not crowd out the rest; a pixel's label is the class whose probability exceeds its
threshold most. The share grows from `portion` to `portion_last`.

The papers predict the whole target set in rounds and train on it in between. Here the teacher
labels each batch as it comes, and the thresholds are quantiles of the confidences it had in the
last batches, a histogram for each class: there are no rounds to wait for, and labels are never
older than the teacher.
"""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
from jax import lax

from jaxseg.engine.method import AXIS, Method
from jaxseg.errors import UserError
from jaxseg.methods.parts import self_training
from jaxseg.methods.parts.classes import Rarity
from jaxseg.methods.parts.teacher import Follow, PseudoLabels
from jaxseg.models.network import Network

NETWORKS = ("segmenter",)
# Of the histograms. Bins are equally wide in log(1 - confidence), down to 2^-FINEST: an easy class
# has most of its pixels between 0.99 and 1, and a share of them is to be told apart there.
BINS, FINEST = 2048, 20
NAME = "confidences"  # in State.memory


def make(
    segmenter: Network,
    *,
    num_classes: int,
    segmentation_weights: Mapping[str, float],
    target_weight: float = 1.0,
    portion: float = 0.2,
    portion_last: float = 0.5,
    portion_steps: int = 1000,
    forget: float = 0.02,
    decay: float = 0.99,
    margins: Sequence[float] = (0.0, 0.0),
    over_all: bool = False,
    of_teacher: bool = False,
    statistics: str = "both",
    weighted: float = 0.0,
    class_weights: Sequence[float | str] = (),
    pseudo_weighted: float = 0.0,
) -> Method:
    """Builds the method.

    Args:
      portion, portion_last: share of the pixels of each class that are kept, at first and after
        `portion_steps` steps; the paper's are 0.2 and 0.5.
      forget: what a new batch weighs in the histograms.
      segmenter, num_classes, segmentation_weights, target_weight, decay, margins, over_all,
        of_teacher, statistics, weighted, class_weights, pseudo_weighted: see `dacs.make`; there is
        no mixture, and the target's images are learnt as they are.

    Raises:
      UserError: shares that are not above 0 and up to 1.
    """
    self_training.check(statistics, margins)
    if not (0 < portion <= portion_last <= 1 and 0 < forget <= 1 and portion_steps >= 1):
        raise UserError(
            f"cbst with portion={portion}, portion_last={portion_last}, forget={forget}, "
            f"portion_steps={portion_steps}: give 0 < portion <= portion_last <= 1, "
            "0 < forget <= 1 and at least one step"
        )

    def label(probabilities, carry):
        past = carry.memory[NAME]
        histogram, seen = past["histogram"], past["batches"]
        confidence, predicted = probabilities.max(-1), jnp.argmax(probabilities, -1)
        now = confidences(confidence, predicted, num_classes)
        histogram = jnp.where(seen > 0, (1 - forget) * histogram + forget * now, now)
        progress = jnp.minimum(seen / portion_steps, 1.0)
        share = portion + (portion_last - portion) * progress
        limits = thresholds(histogram, share)
        ratio = probabilities / limits
        labels = jnp.argmax(ratio, -1).astype(jnp.int32)
        kept = ratio.max(-1) >= 1
        weights = kept
        memory = {**carry.memory, NAME: {"histogram": histogram, "batches": seen + 1}}
        pseudo = PseudoLabels(labels, weights.astype(jnp.float32), confidence)
        return pseudo, carry._replace(memory=memory), {"pseudo/kept": jnp.mean(weights)}

    return self_training.make(
        segmenter,
        dict(segmentation_weights),
        num_classes=num_classes,
        follow=Follow(decay),
        label=label,
        memory=lambda: {
            NAME: {
                "histogram": jnp.zeros((num_classes, BINS)),
                "batches": jnp.zeros((), jnp.int32),
            }
        },
        target_weight=target_weight,
        over_all=over_all,
        of_teacher=of_teacher,
        margins=tuple(margins),
        rarity=Rarity(weighted, tuple(class_weights), pseudo_weighted),
    )


def confidences(confidence: jax.Array, predicted: jax.Array, num_classes: int) -> jax.Array:
    """How often each class is predicted with which confidence, in the batches of all devices.

    Args:
      confidence: float [N, H, W] in 0..1.
      predicted: int [N, H, W].
      num_classes: K.

    Returns:
      float32 [K, BINS], counts.
    """
    doubt = 1 - confidence + 2.0**-FINEST
    place = jnp.clip((-jnp.log2(doubt) * BINS / FINEST).astype(jnp.int32), 0, BINS - 1)
    index = predicted.astype(jnp.int32) * BINS + place
    counts = jnp.zeros(num_classes * BINS).at[index.reshape(-1)].add(1.0)
    return lax.psum(counts, AXIS).reshape(num_classes, BINS)


def thresholds(histogram: jax.Array, share: jax.Array) -> jax.Array:
    """The confidence that the surest `share` of each class's pixels reaches, float32 [K].

    Args:
      histogram: float [K, BINS].
      share: 0..1.

    Returns:
      Lower edges of bins, and 1 for a class that is never predicted. None is below half a bin.
    """
    total = histogram.sum(-1, keepdims=True)
    above = jnp.cumsum(histogram[:, ::-1], -1)[:, ::-1]  # with at least this bin's confidence
    reached = jnp.sum(above >= share * total, -1) - 1
    edges = 1 + 2.0**-FINEST - 2.0 ** (-jnp.maximum(reached, 0.5) * FINEST / BINS)
    return jnp.where(total[:, 0] > 0, edges, 1.0)
