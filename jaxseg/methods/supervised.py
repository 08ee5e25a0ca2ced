"""Supervised training with the losses and the mixing of the MiniCity baselines (VIPriors 2020).

The labelled images are the source; nothing is asked of a target. `source_only` is the plain form
that the adaptation methods are compared with.
"""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp

from jaxseg import mixing
from jaxseg.core import Method, global_mean
from jaxseg.losses import region, segmentation
from jaxseg.methods import _align
from jaxseg.models.network import Network

ADVERSARIAL = False
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
      segmenter, statistics: see `_align.make`.
      num_classes: K.
      segmentation_weights: by output level, e.g. {'main': 1.0}.
      losses: name in LOSSES -> weight; their sum is the loss of a level.
      class_weights: K numbers for 'weighted'.
      focal_gamma, ohem_threshold, ohem_minimum: see `losses.segmentation`.
      mixes: name in MIXINGS -> probability; they are applied in the order of MIXINGS.
      copy_pairs: (class that is copied, class it is put on) for 'copy_blob'.

    Raises:
      ValueError: an unknown loss or mixing, or class weights that do not fit.
    """
    if statistics != "source":
        raise ValueError(f"statistics={statistics!r}: there is no target; choose 'source'")
    chances = {name: p for name, p in (mixes or {}).items() if p}
    _check("losses", losses, LOSSES)
    _check("mixes", chances, MIXINGS)
    if not any(losses.values()):
        raise ValueError(f"losses={dict(losses)}: none has a weight")
    if losses.get("weighted") and len(class_weights) != num_classes:
        raise ValueError(f"{len(class_weights)} class_weights for {num_classes} classes")
    functions = {
        "cross_entropy": segmentation.cross_entropy,
        "weighted": lambda x, y: segmentation.weighted_cross_entropy(x, y, class_weights),
        "focal": lambda x, y: segmentation.focal(x, y, focal_gamma),
        "ohem": lambda x, y: segmentation.ohem(x, y, ohem_threshold, ohem_minimum),
        "dice": region.dice,
        "lovasz": region.lovasz_softmax,
    }
    used = {name: weight for name, weight in losses.items() if weight}
    mix = _mixer(chances, num_classes, copy_pairs)

    def init(key, batch):
        net, stats = segmenter.init(key, batch["source_image"][:1])
        return {"gen": {"segmenter": net}}, {"segmenter": stats}, {}

    def gen(params, carry, batch, key):
        mix_key, net_key = jax.random.split(key)
        images, labels = mix(mix_key, batch["source_image"], batch["source_label"])
        outputs, stats = segmenter.apply(
            params["gen"]["segmenter"], carry.stats["segmenter"], images, True, net_key
        )
        total, metrics = 0.0, {}
        for level, level_weight in segmentation_weights.items():
            logits = _align.upsampled(outputs[level], labels)
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
    return Method(init, {"gen": gen}, _align.predictor(segmenter), reads=reads)


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


def _check(setting: str, given: Mapping[str, float], known: Sequence[str]) -> None:
    if unknown := [name for name in given if name not in known]:
        raise ValueError(f"{setting} has {unknown[0]!r}; choose from {', '.join(known)}")
