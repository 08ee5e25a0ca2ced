"""AdaptSegNet: output-space adversarial alignment (Tsai et al., CVPR 2018), one or several levels.

The discriminator looks at the softmax. `gan='ls'` is the least-squares variant of the authors'
code; the level 'features' in `adversarial_weights` is the paper's baseline, which aligns features.
"""

from collections.abc import Mapping, Sequence

import jax

from jaxseg.engine.method import Method
from jaxseg.methods.parts import align
from jaxseg.methods.parts.classes import Rarity
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
    weighted: float = 0.0,
    class_weights: Sequence[float | str] = (),
    statistics: str = "both",
) -> Method:
    """Args: see `align.make`; each level of `adversarial_weights` has a discriminator."""
    return align.make(
        segmenter,
        align.Levels(dict(segmentation_weights), dict(adversarial_weights)),
        statistics=statistics,
        rarity=Rarity(weighted, tuple(class_weights)),
        discriminator=discriminator,
        see=lambda outputs, level: jax.nn.softmax(outputs[level], axis=-1),
        num_classes=num_classes,
        gan=gan,
    )
