"""AdvEnt: adversarial alignment of self-information (Vu et al., ADVENT, CVPR 2019, 3.2).

`class_prior` adds the paper's class-ratio prior on the target.
"""

from collections.abc import Mapping, Sequence

from jaxseg.engine.method import Method
from jaxseg.losses.entropy import self_information
from jaxseg.methods.parts import align, classes
from jaxseg.models.network import Network

NETWORKS = ("segmenter", "discriminator")


def make(
    segmenter: Network,
    discriminator: Network,
    *,
    num_classes: int,
    segmentation_weights: Mapping[str, float],
    adversarial_weights: Mapping[str, float],
    gan: str = "vanilla",
    class_prior: Mapping[str, float] | None = None,
    weighted: float = 0.0,
    class_weights: Sequence[float | str] = (),
    statistics: str = "both",
) -> Method:
    """Args: see `align.make`; each level of `adversarial_weights` has a discriminator."""
    return align.make(
        segmenter,
        align.Levels(dict(segmentation_weights), dict(adversarial_weights)),
        statistics=statistics,
        rarity=classes.Rarity(weighted, tuple(class_weights)),
        discriminator=discriminator,
        see=lambda outputs, level: self_information(outputs[level]),
        num_classes=num_classes,
        gan=gan,
        prior=classes.class_prior(class_prior),
    )
