"""AdaptSegNet: output-space adversarial alignment (Tsai et al., CVPR 2018), one or several levels.

The discriminator sees the softmax; `gan='ls'` gives the least-squares variant of the paper's code,
the level 'features' in `adversarial_weights` the paper's baseline that aligns features instead.
"""

from collections.abc import Mapping

import jax

from jaxseg.engine.method import Method
from jaxseg.methods.parts import align
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
    statistics: str = "both",
) -> Method:
    """Args: see `_align.make`; one discriminator for each level of `adversarial_weights`."""
    return align.make(
        segmenter,
        align.Levels(dict(segmentation_weights), dict(adversarial_weights)),
        statistics=statistics,
        discriminator=discriminator,
        see=lambda outputs, level: jax.nn.softmax(outputs[level], axis=-1),
        num_classes=num_classes,
        gan=gan,
    )
