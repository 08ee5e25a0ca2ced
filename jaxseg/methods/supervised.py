"""Supervised training with the losses and the mixing of the MiniCity baselines (VIPriors 2020).

The labelled images are the source; there is no target. `source_only` is the plain form that
adaptation methods are compared with.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp

from jaxseg.engine.method import Method, global_mean
from jaxseg.errors import UserError
from jaxseg.losses import region, segmentation
from jaxseg.methods.parts import align, mixing
from jaxseg.methods.parts.classes import uncounted as not_counted
from jaxseg.methods.parts.levels import upsampled
from jaxseg.models.network import Network

NETWORKS = ("segmenter",)
LOSSES = ("cross_entropy", "weighted", "focal", "ohem", "dice", "lovasz")
MIXINGS = ("cutmix", "classmix", "copy_blob")


def make(
    segmenter: Network,
    *,
    num_classes: int,
    segmentation_weights: Mapping[str, float],
    losses: Mapping[str, float],
    class_weights: Sequence[float] = (),
    focal_gamma: float = 2.0,
    ohem_threshold: float = 0.7,
    ohem_minimum: float = 1 / 16,
    mixes: Mapping[str, float] | None = None,
    copy_pairs: Sequence[tuple[int, int]] = mixing.PAIRS,
    statistics: str = "source",
) -> Method:
    """Builds the method.

    Args:
      segmenter, statistics: see `align.make`.
      num_classes: K.
      segmentation_weights: by output level, e.g. {'main': 1.0}.
      losses: name in LOSSES -> weight, 0 for those not wanted; their sum is the loss of a level.
      class_weights: K numbers for 'weighted'. One word of `balance.KINDS` stands for numbers that
        have not been counted yet: such a method can predict but not train.
      focal_gamma, ohem_threshold, ohem_minimum: see `losses.segmentation`.
      mixes: name in MIXINGS -> probability; they are applied in the order of MIXINGS.
      copy_pairs: (class that is copied, class it is put on) for 'copy_blob'.

    Raises:
      UserError: an unknown loss or mixing, a negative weight, a probability above 1, class weights
        that do not fit, settings that a loss does not take.
    """
    if statistics != "source":
        raise UserError(f"statistics={statistics!r}: there is no target; choose 'source'")
    mixes = mixes or {}
    _check("losses", losses, LOSSES, math.inf)
    _check("mixes", mixes, MIXINGS, 1)
    used = {name: weight for name, weight in losses.items() if weight}
    chances = {name: p for name, p in mixes.items() if p}
    if not used or not any(segmentation_weights.values()):
        raise UserError("no loss of any level has a weight")
    if "copy_blob" in chances and not copy_pairs:
        raise UserError("mixes.copy_blob without copy_pairs: there is nothing to copy")
    uncounted = "weighted" in used and not_counted(class_weights, num_classes)
    functions = _losses(class_weights, focal_gamma, ohem_threshold, ohem_minimum)
    for name in used:  # a loss that refuses its settings says so before anything is trained
        if not (name == "weighted" and uncounted):
            example = jax.ShapeDtypeStruct((1, 2, 2, num_classes), jnp.float32)
            jax.eval_shape(functions[name], example, jax.ShapeDtypeStruct((1, 2, 2), jnp.int32))
    mix = _mixer(chances, num_classes, copy_pairs)

    def init(key, batch):
        net, stats = segmenter.init(key, batch["source_image"][:1])
        return {"gen": {"segmenter": net}}, {"segmenter": stats}, {}

    def gen(params, carry, batch, key):
        if uncounted:
            raise ValueError(f"class_weights={class_weights[0]!r} must be numbers by now")
        mix_key, net_key = jax.random.split(key)
        images, labels = mix(mix_key, batch["source_image"], batch["source_label"])
        outputs, stats = segmenter.apply(
            params["gen"]["segmenter"], carry.stats["segmenter"], images, True, net_key
        )
        total, metrics = 0.0, {}
        for level, level_weight in segmentation_weights.items():
            if not level_weight:
                continue
            logits = upsampled(outputs[level], labels)
            for name, weight in used.items():
                value = global_mean(*functions[name](logits, labels))
                total += level_weight * weight * value
                kind = "segmentation" if name == "cross_entropy" else name
                metrics[f"{kind}/{level}"] = value
        carry = carry._replace(
            stats={**carry.stats, "segmenter": stats}, metrics={**carry.metrics, **metrics}
        )
        return total, carry

    reads = ("source_image", "source_label")
    return Method(init, {"gen": gen}, align.predictor(segmenter), reads=reads)


def _losses(class_weights, gamma, threshold, minimum) -> dict[str, Callable]:
    """Name -> (logits, labels) -> (loss, what counts)."""
    return {
        "cross_entropy": segmentation.cross_entropy,
        "weighted": lambda x, y: segmentation.weighted_cross_entropy(x, y, class_weights),
        "focal": lambda x, y: segmentation.focal(x, y, gamma),
        "ohem": lambda x, y: segmentation.ohem(x, y, threshold, minimum),
        "dice": region.dice,
        "lovasz": region.lovasz_softmax,
    }


def _mixer(chances, num_classes, copy_pairs):
    """(key, images, labels) -> images, labels."""

    def mix(key, images, labels):
        labels = labels.astype(jnp.int32)
        for number, name in enumerate(MIXINGS):
            own = dict(probability=chances.get(name, 0.0))
            if not own["probability"]:
                continue
            if name == "classmix":
                own["num_classes"] = num_classes
            if name == "copy_blob":
                own["pairs"] = copy_pairs
            own_key = jax.random.fold_in(key, number)
            images, labels = getattr(mixing, name)(own_key, images, labels, **own)
        return images, labels

    return mix


def _check(setting: str, given: Mapping[str, float], known: Sequence[str], most: float) -> None:
    for name, value in given.items():
        if name not in known:
            raise UserError(f"{setting} has {name!r}; choose from {', '.join(known)}")
        if not 0 <= value <= most:
            raise UserError(f"{setting}.{name}={value}: give 0 to {most}")
