"""What dacs, daformer and cbst have in common: learning from the labels of a teacher.

In a step the segmenter learns the source's labels, and then those of a mixture: some classes of a
source image are pasted, with their labels, into a target image whose labels are the teacher's
(ClassMix across domains: Olsson et al., WACV 2021; Tranheden et al., DACS, WACV 2021).
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxseg.engine.method import AXIS, Carry, Method, global_mean
from jaxseg.errors import UserError
from jaxseg.losses.segmentation import cross_entropy
from jaxseg.methods.parts import align, mixing, mixing_masks, self_training_views, teacher
from jaxseg.methods.parts.appearance import StrongView, strong_view
from jaxseg.methods.parts.classes import PLAIN, Rarity, check_rarity, label_loss, weighed
from jaxseg.methods.parts.feature_distance import FeatureDistance, distance, frozen, start
from jaxseg.methods.parts.levels import FEATURES, beside
from jaxseg.methods.parts.teacher import Follow, PseudoLabels
from jaxseg.models.network import Network

PSEUDO = "pseudo"  # in Carry.shared: the PseudoLabels of the batch's target images
VALID = "target_valid"  # in the batch: 0 in the margins of the whole image
READS = ("source_image", "source_label", "target_image")
TITLES = {
    "mixed": "Cross-entropy on mixed images",
    "pseudo": "Pseudo labels: shares, losses",
    "feature_distance": "Distance to the first features",
}


class Mixture(NamedTuple):
    """How source and target are mixed.

    Attributes:
      view: what is done to the mixed image.
      of_batch: True chooses among the classes of the whole batch (DAFormer's code), False among
        those of each source image (DACS).
      ignored: whether pixels without a label are a class that may be pasted (DAFormer's code).
    """

    view: StrongView
    of_batch: bool = False
    ignored: bool = False


def check(statistics: str, margins: Sequence[float]) -> None:
    """Raises UserError for settings that could not work."""
    if statistics != "both":
        raise UserError(
            f"config.net.statistics={statistics!r}: in self-training the source's and the "
            "mixture's batches move the running statistics in turn; give 'both' (the teacher's "
            "are the target's: method.settings.of_teacher=True evaluates it)"
        )
    if len(margins) not in (2, 4) or not all(0 <= m < 0.5 for m in margins):
        raise UserError(
            f"margins={tuple(margins)}: give (top, bottom) of the crop, or (top, bottom, left, "
            "right) of the whole image, shares of 0 to 0.5"
        )


def mean_loss(
    logits: jax.Array,
    labels: jax.Array,
    weights: jax.Array | None,
    over_all: bool,
) -> jax.Array:
    """Weighted cross-entropy of a batch.

    Args:
      logits: [N, H, W, K].
      labels: [N, H, W]; 255 is ignored.
      weights: [N, H, W] of the pixels; None for 1.
      over_all: divides by the number of all pixels, ignored ones included, as mmsegmentation and so
        DAFormer's code does; otherwise by the number of pixels that are not ignored. Neither
        divides by the weights: where the teacher is unsure the loss is small.

    Returns:
      A float32 number, the mean over the batches of all devices.
    """
    loss, valid = cross_entropy(logits, labels)
    loss = loss if weights is None else loss * weights
    return jnp.mean(loss) if over_all else global_mean(loss, valid)


def level_losses(
    outputs: Mapping[str, jax.Array],
    levels: Mapping[str, float],
    labels: jax.Array,
    weights: jax.Array | None,
    over_all: bool,
    rarity: Rarity = PLAIN,
) -> dict[str, jax.Array]:
    """The loss of each level; that of a window ('hr') is over its pixels alone.

    Labels without weights are true: theirs is `classes.label_loss` where `rarity.weighted` is above
    0. All others' is `mean_loss`; `classes.weighed` has put how classes count into the weights.
    """
    found = {}
    for level in levels:
        logits, own, share = beside(outputs, level, labels, weights)
        if weights is None and rarity.weighted:
            found[level] = label_loss(rarity)(logits, own)
        else:
            found[level] = mean_loss(logits, own, share, over_all)
    return found


def mask_of_classes(key: jax.Array, labels: jax.Array, num_classes: int, mixture: Mixture):
    """The pixels of half of the classes, rounded upwards, drawn for each image: bool [N, H, W].

    Args:
      key: uint32 [2].
      labels: int [N, H, W] of the source.
      num_classes: K.
      mixture: which classes are drawn from; the whole batch is that of all devices.
    """
    ids = jnp.where(labels < num_classes, labels, num_classes).astype(jnp.int32)
    drawn = num_classes + 1 if mixture.ignored else num_classes
    present = mixing_masks.classes_present(ids, drawn)
    if mixture.of_batch:
        anywhere = lax.pmax(present.any(0).astype(jnp.int32), AXIS) > 0
        present = jnp.broadcast_to(anywhere, present.shape)
    chance = jax.random.uniform(key, (len(labels), drawn))
    return mixing_masks.some_classes(chance, ids, 0.5, present)


def mixed(
    key, batch, pseudo: PseudoLabels, num_classes: int, mixture: Mixture, rarity: Rarity = PLAIN
):
    """Target images with classes of source images in them, their labels, and their weights.

    Returns:
      images float32 [N, H, W, 3], labels int32 [N, H, W], weights float32 [N, H, W]: 1 where a
      pixel is the source's, times how its class counts by `rarity` (`classes.weighed`).

    Raises:
      UserError: source and target images of different sizes.
    """
    source, target = batch["source_image"], batch["target_image"]
    if source.shape != target.shape:
        raise UserError(
            f"source images of {source.shape[1:3]} cannot be mixed with target images of "
            f"{target.shape[1:3]}: give both domains one size or crop "
            "(config.data.*.size, config.augment.*.crop)"
        )
    class_key, view_key = jax.random.split(key)
    mask = mask_of_classes(class_key, batch["source_label"], num_classes, mixture)
    labels = batch["source_label"].astype(jnp.int32)
    images, labels = mixing.paste(mask, target, pseudo.labels, source, labels)
    weights = weighed(labels, jnp.where(mask, 1.0, pseudo.weights), rarity, mask)
    return strong_view(view_key, images, mixture.view), labels, weights


def unmixed(_, batch, pseudo: PseudoLabels, rarity: Rarity):
    """As `mixed` without a mixture: target images, the teacher's labels, weights by class."""
    return batch["target_image"], pseudo.labels, weighed(pseudo.labels, pseudo.weights, rarity)


def _learner(
    segmenter: Network, levels: Mapping[str, float], over_all: bool, rarity: Rarity = PLAIN
) -> Callable:
    """(params, carry, images, labels, weights, key) -> (loss, losses of levels, outputs, carry)."""

    def learn(params, carry, images, labels, weights, key):
        outputs, stats = segmenter.apply(
            params["gen"]["segmenter"], carry.stats["segmenter"], images, True, key
        )
        parts = level_losses(outputs, levels, labels, weights, over_all, rarity)
        total = sum(levels[level] * value for level, value in parts.items())
        carry = carry._replace(stats={**carry.stats, "segmenter": stats})
        return total, parts, outputs, carry

    return learn


def _on_source(segmenter: Network, learn: Callable, features: FeatureDistance | None) -> Callable:
    """The loss of the source's labels, with the distance to the first features if there is one."""

    def loss(params, carry, batch, key):
        images, labels = batch["source_image"], batch["source_label"]
        if features:  # before a batch has moved the running statistics that are remembered
            first, carry = frozen(segmenter, params, carry, images)
        total, parts, outputs, carry = learn(params, carry, images, labels, None, key)
        metrics = {f"segmentation/{level}": value for level, value in parts.items()}
        if features:
            value = distance(outputs[FEATURES], first, labels, features)
            total += features.weight * value
            metrics["feature_distance"] = value
        return total, carry._replace(metrics={**carry.metrics, **metrics})

    return loss


def _followed(params, carry: Carry, follow: Follow):
    """The teacher that has followed the segmenter."""
    net, stats = params["gen"]["segmenter"], carry.stats["segmenter"]
    return teacher.updated(carry.memory[teacher.NAME], net, stats, carry.step, follow)


def _without_margins(pseudo: PseudoLabels, batch, margins: Sequence[float]) -> PseudoLabels:
    """Weights of 0 in the margins: of the whole image where the batch tells, or of the crop."""
    if VALID in batch:
        kept = batch[VALID].astype(jnp.float32)
    else:
        kept = teacher.inside(pseudo.weights.shape, margins)
    return pseudo._replace(weights=pseudo.weights * kept)


def _check_made_of(follow: Follow, rarity: Rarity, num_classes: int, over_all: bool) -> None:
    teacher.check(follow)
    check_rarity(rarity, num_classes)
    if over_all and (rarity.weighted or rarity.pseudo):
        raise UserError("over_all=True and class weights (weighted, pseudo_weighted): choose one")


def make(
    segmenter: Network,
    levels: Mapping[str, float],
    *,
    num_classes: int,
    follow: Follow,
    label: Callable[[jax.Array, Carry], tuple[PseudoLabels, Carry, dict[str, jax.Array]]],
    memory: Callable[[], dict[str, jax.Array]] = dict,
    mixture: Mixture | None = None,
    target_weight: float = 1.0,
    over_all: bool = False,
    features: FeatureDistance | None = None,
    of_teacher: bool = False,
    mirrored: bool = False,
    margins: Sequence[float] = (0.0, 0.0),
    rarity: Rarity = PLAIN,
) -> Method:
    """Builds a method that learns from pseudo labels.

    Args:
      segmenter: the task network.
      levels: weight of each output level, {'main': 1.0}; the same for source and target.
      num_classes: K.
      follow: how the teacher follows the segmenter.
      label: (the teacher's probabilities [N,H,W,K], carry) -> (pseudo labels, carry, metrics).
      memory: what `label` remembers between steps, before the first.
      mixture: how source and target are mixed; None learns from the target images as they are.
      target_weight: of the loss on mixed (or target) images.
      over_all: see `mean_loss`.
      features: keeps the backbone near its first weights; None does not.
      of_teacher: whether the teacher is evaluated, or the segmenter itself.
      mirrored: see `teacher.look`.
      margins: in which pseudo labels weigh nothing: (top, bottom) of the crop; or (top, bottom,
        left, right) of the whole image, which the batch then tells ('target_valid', 0 or 1), as
        crops do not tell where they were.
      rarity: the shares of the losses that count classes by their rarity.

    Raises:
      UserError: a decay that makes no sense, or a rarity that does not fit.
    """
    _check_made_of(follow, rarity, num_classes, over_all)

    def init(key, batch):
        net, stats = segmenter.init(key, batch["source_image"][:1])
        remembered = {teacher.NAME: teacher.empty(net, stats), **memory()}
        if features:
            remembered |= start(net, stats)
        return {"gen": {"segmenter": net}}, {"segmenter": stats}, remembered

    learn = _learner(segmenter, levels, over_all, rarity)
    on_source = _on_source(segmenter, learn, features)
    look = functools.partial(teacher.look, segmenter, mirrored=mirrored)
    paste = functools.partial(mixed, num_classes=num_classes, mixture=mixture)
    mix = paste if mixture else unmixed

    def gen(params, carry, batch, key):
        source_key, mix_key, net_key = jax.random.split(key, 3)
        followed = _followed(params, carry, follow)
        total, carry = on_source(params, carry, batch, source_key)
        probabilities, followed = look(followed, batch["target_image"])
        pseudo, carry, metrics = label(probabilities, teacher.remembered(carry, followed))
        pseudo = _without_margins(pseudo, batch, margins)
        images, labels, weights = mix(mix_key, batch, pseudo, rarity=rarity)
        value, parts, _, carry = learn(params, carry, images, labels, weights, net_key)
        total += target_weight * value
        kind = "pseudo" if mixture is None else "mixed"
        metrics |= {f"{kind}/{level}": value for level, value in parts.items()}
        shared = {**carry.shared, PSEUDO: pseudo}
        return total, carry._replace(shared=shared, metrics={**carry.metrics, **metrics})

    predict = teacher.evaluated(align.predictor(segmenter), of_teacher)
    return Method(
        init, {"gen": gen}, predict, warmup={"gen": on_source},
        reads=READS if len(margins) == 2 else (*READS, VALID), titles=TITLES,
        views=self_training_views.views(
            segmenter, look, label, mix if mixture else None, of_teacher, margins
        ),
    )  # fmt: skip
