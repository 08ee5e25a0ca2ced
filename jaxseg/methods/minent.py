"""MinEnt: direct entropy minimisation on the target (Vu et al., ADVENT, CVPR 2019, section 3.1).

`hardest_share` below 1 gives the paper's entropy ranges (ER), `class_prior` its class-ratio prior.
`charbonnier` gives FDA's penalty (Yang and Soatto, CVPR 2020), to be used with its transform of the
source (`augment.source.fda`).
"""

from collections.abc import Mapping, Sequence

from jaxseg.engine.method import Method
from jaxseg.errors import UserError
from jaxseg.losses.entropy import charbonnier as penalty
from jaxseg.losses.entropy import entropy, highest
from jaxseg.methods.parts import align, classes
from jaxseg.models.network import Network

NETWORKS = ("segmenter",)


def make(
    segmenter: Network,
    *,
    num_classes: int,
    segmentation_weights: Mapping[str, float],
    entropy_weights: Mapping[str, float],
    hardest_share: float = 1.0,
    charbonnier: float = 0.0,
    class_prior: Mapping[str, float] | None = None,
    weighted: float = 0.0,
    class_weights: Sequence[float | str] = (),
    statistics: str = "both",
) -> Method:
    """Builds the method.

    Args:
      segmenter, num_classes, statistics: see `align.make`.
      segmentation_weights, entropy_weights: by level; the paper's entropy weight is 1e-3 on main.
      hardest_share: the loss is the mean over this share of each image's pixels, those with the
        highest entropy; 1 for all pixels.
      charbonnier: exponent of FDA's penalty of the entropies; 0 takes them as they are.
      class_prior: {'weight', 'mu'}; None or a weight of 0 for none.
    """
    if not 0 < hardest_share <= 1:
        raise UserError(f"hardest_share={hardest_share}: give more than 0 and at most 1")

    if charbonnier < 0:
        raise UserError(f"charbonnier={charbonnier}: give 0 for none, or an exponent above 0")

    def on_target(logits):
        values = entropy(logits)
        values = penalty(values, charbonnier) if charbonnier else values
        return values if hardest_share == 1 else highest(values, hardest_share)

    return align.make(
        segmenter,
        align.Levels(dict(segmentation_weights), dict(entropy_weights)),
        statistics=statistics,
        rarity=classes.Rarity(weighted, tuple(class_weights)),
        on_target=on_target,
        num_classes=num_classes,
        prior=classes.class_prior(class_prior),
    )
