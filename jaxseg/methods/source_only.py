"""Supervised training on the source only: the baseline, or the oracle if given target labels.

With `statistics='target'` or `'both'` the target's images update the BatchNorm statistics used at
evaluation, and nothing else: adaptive batch normalisation (Li et al., AdaBN, 2016).
"""

from collections.abc import Mapping, Sequence

from jaxseg.engine.method import Method
from jaxseg.methods.parts import align
from jaxseg.methods.parts.classes import Rarity
from jaxseg.models.network import Network

NETWORKS = ("segmenter",)


def make(
    segmenter: Network,
    *,
    num_classes: int,
    segmentation_weights: Mapping[str, float],
    weighted: float = 0.0,
    class_weights: Sequence[float | str] = (),
    statistics: str = "source",
) -> Method:
    """Args: see `align.make`; `segmentation_weights` by level, e.g. {'main': 1.0}."""
    return align.make(
        segmenter,
        align.Levels(dict(segmentation_weights), {}),
        statistics=statistics,
        num_classes=num_classes,
        rarity=Rarity(weighted, tuple(class_weights)),
    )
