"""MinEnt: direct entropy minimisation on the target (Vu et al., ADVENT, CVPR 2019, section 3.1)."""

from collections.abc import Mapping

from jaxseg.core import Method
from jaxseg.losses.entropy import entropy
from jaxseg.methods import _align
from jaxseg.models.network import Network

ADVERSARIAL = False


def make(
    segmenter: Network,
    *,
    num_classes: int,
    segmentation_weights: Mapping[str, float],
    entropy_weights: Mapping[str, float],
    statistics: str = "both",
) -> Method:
    """Args: see `_align.make`; the weights by level, the paper's entropy weight is 1e-3 on main."""
    del num_classes
    levels = _align.Levels(dict(segmentation_weights), dict(entropy_weights))
    return _align.make(segmenter, levels, statistics=statistics, on_target=entropy)
