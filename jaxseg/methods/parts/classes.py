"""What methods know of the classes: how rare each is, and the shares that the target should have.

Poles, signs and people are a hundredth of a street's pixels: in hundreds of steps a plain
cross-entropy does not learn them. A share of the loss with class weights does, and what is left of
the plain one keeps the surfaces right.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxseg.engine.method import global_mean
from jaxseg.errors import UserError
from jaxseg.losses import balance
from jaxseg.losses.segmentation import cross_entropy, weight_map, weighted_cross_entropy


class Rarity(NamedTuple):
    """How a loss counts classes.

    Attributes:
      weighted: share, 0..1, of the loss of true labels that has class weights, also of those that
        are pasted into an image whose other labels are a teacher's.
      class_weights: K numbers, or one word of `balance.KINDS` while they have not been counted: a
        method can then predict, not train.
      pseudo: as `weighted`, of the loss of a teacher's labels.
    """

    weighted: float = 0.0
    class_weights: Sequence[float | str] = ()
    pseudo: float = 0.0


PLAIN = Rarity()
TINY = 1e-12  # where no pixel counts, or none whose class has a weight


def uncounted(class_weights: Sequence[float | str], num_classes: int) -> bool:
    """Whether the class weights are still the word of how they are to be counted.

    Raises:
      UserError: neither a word that is known nor K numbers.
    """
    if len(class_weights) == 1 and class_weights[0] in balance.KINDS:
        return True
    if len(class_weights) != num_classes:
        kinds = ", ".join(balance.KINDS)
        raise UserError(
            f"{len(class_weights)} class_weights for {num_classes} classes; give one for each, or "
            f"one of {kinds}"
        )
    return False


def check_rarity(rarity: Rarity, num_classes: int) -> None:
    """Raises UserError for a share outside 0..1, or for class weights that do not fit."""
    for name, share in (("weighted", rarity.weighted), ("pseudo_weighted", rarity.pseudo)):
        if not 0 <= share <= 1:
            raise UserError(f"{name}={share}: give a share of the loss, 0 to 1")
    if rarity.weighted or rarity.pseudo:
        uncounted(rarity.class_weights, num_classes)


def _counted(rarity: Rarity) -> list[float]:
    if isinstance(rarity.class_weights[0], str):
        raise ValueError(f"class_weights={rarity.class_weights[0]!r} must be numbers by now")
    return [float(weight) for weight in rarity.class_weights]


def weighed(
    labels: jax.Array, weights: jax.Array, rarity: Rarity, true: jax.Array | None = None
) -> jax.Array:
    """`weights` of pixels, times how much the class of each counts, float32 [N, H, W].

    That factor is 1 - s + s * w / mean(w), with w the weight of the pixel's class, s the share
    `rarity.weighted` for true labels and `rarity.pseudo` for the others, and the mean over the
    pixels of the same kind in the batches of all devices; so its own mean over them is 1. The mean
    of a cross-entropy times the factor is `label_loss` with that share.

    Args:
      labels: [N, H, W] class ids; 255 is ignored.
      weights: [N, H, W], of the pixels.
      rarity: the shares, and class weights that are numbers where a share is above 0.
      true: bool [N, H, W], where labels are true; None: nowhere.
    """
    if true is None:
        kinds = ((jnp.ones(labels.shape, bool), rarity.pseudo),)
    else:
        kinds = ((true, rarity.weighted), (~true, rarity.pseudo))
    for kind, share in kinds:
        if share:
            own = weight_map(labels, _counted(rarity))
            mean = global_mean(own * kind, kind & (labels < len(rarity.class_weights)))
            factor = 1 - share + share * own / jnp.maximum(mean, TINY)
            weights = weights * jnp.where(kind, factor, 1.0)
    return weights


def label_loss(rarity: Rarity) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """(logits [N,H,W,K], labels [N,H,W]) -> float32, the mean over the batches of all devices.

    It is (1 - weighted) times the mean cross-entropy plus `weighted` times the cross-entropy whose
    mean weighs each pixel by its class. Pixels with the label 255 are left out of both.
    """

    def loss(logits, labels):
        if not rarity.weighted:
            return global_mean(*cross_entropy(logits, labels))
        by_class = weighted_cross_entropy(logits, labels, _counted(rarity))
        value = rarity.weighted * global_mean(*by_class)
        if rarity.weighted < 1:
            value += (1 - rarity.weighted) * global_mean(*cross_entropy(logits, labels))
        return value

    return loss


class ClassPrior(NamedTuple):
    """ADVENT's class-ratio prior.

    weight: of its loss.
    mu: the fraction, 0..1, of a class's share in the source that it has to reach in the target.
    """

    weight: float
    mu: float


def class_prior(settings: Mapping[str, float] | None) -> ClassPrior | None:
    """A config's {'weight', 'mu'} as a ClassPrior; None without settings or with a weight of 0.

    Raises:
      UserError: a negative weight, or mu outside 0..1.
    """
    found = ClassPrior(**settings) if settings else None
    if found is not None and not (found.weight >= 0 and 0 <= found.mu <= 1):
        raise UserError(f"class_prior={dict(settings)}: weight at least 0, mu within 0 and 1")
    return found if found and found.weight else None
