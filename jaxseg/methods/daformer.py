"""DAFormer: self-training with rare-class sampling and a feature distance (Hoyer, Dai and Van Gool,
"DAFormer: Improving Network Architectures and Training Strategies for Domain-Adaptive Semantic
Segmentation", CVPR 2022).

It is DACS with a slower teacher, mixtures of the classes of the whole batch, and a backbone that is
held to what it knew of ImageNet. Rare-class sampling is a setting of the data
(`config.data.rare_classes`), the transformer one of the network.
"""

from collections.abc import Mapping, Sequence

from jaxseg.engine.method import Method
from jaxseg.methods.parts import self_training, teacher
from jaxseg.methods.parts.appearance import StrongView, checked
from jaxseg.methods.parts.classes import Rarity
from jaxseg.methods.parts.feature_distance import FeatureDistance
from jaxseg.methods.parts.teacher import Follow
from jaxseg.models.network import Network

NETWORKS = ("segmenter",)


def make(
    segmenter: Network,
    *,
    num_classes: int,
    segmentation_weights: Mapping[str, float],
    target_weight: float = 1.0,
    decay: float = 0.999,
    threshold: float = 0.968,
    margins: Sequence[float] = (15 / 512, 120 / 512),
    jitter: float = 0.2,
    jitter_probability: float = 0.8,
    blur_probability: float = 0.5,
    per_image: bool = False,
    colours: str = "torchvision",
    feature_distance: float = 0.005,
    things: Sequence[int] = (),
    over_all: bool = False,
    of_teacher: bool = False,
    mirrored: bool = False,
    statistics: str = "both",
    weighted: float = 0.0,
    class_weights: Sequence[float | str] = (),
    pseudo_weighted: float = 0.0,
) -> Method:
    """Builds the method.

    Args:
      segmenter: the task network, with the level 'features' if `feature_distance` is above 0.
      feature_distance: its weight; 0.005 in the paper, 0 for none.
      things: ids of the classes that the distance is taken on; in a config their names.
      mirrored: the teacher's labels are those of its mean probabilities on the image and on its
        mirror image (VFM-UDA).
      num_classes, segmentation_weights, target_weight, decay, threshold, margins, jitter,
        jitter_probability, blur_probability, per_image, colours, over_all, of_teacher, statistics,
        weighted, class_weights, pseudo_weighted: see `dacs.make`.
    """
    self_training.check(statistics, margins)
    wanted = feature_distance > 0 and len(things) > 0

    def label(probabilities, carry):
        pseudo = teacher.pseudo_labels(probabilities, threshold)
        return pseudo, carry, {"pseudo/sure": pseudo.weights.max()}

    view = StrongView(
        jitter, jitter_probability, blur_probability, per_image=per_image, colours=colours
    )
    checked(view)
    return self_training.make(
        segmenter,
        dict(segmentation_weights),
        num_classes=num_classes,
        follow=Follow(decay),
        label=label,
        mixture=self_training.Mixture(view, of_batch=True, ignored=True),
        target_weight=target_weight,
        over_all=over_all,
        features=FeatureDistance(feature_distance, tuple(things)) if wanted else None,
        of_teacher=of_teacher,
        mirrored=mirrored,
        margins=tuple(margins),
        rarity=Rarity(weighted, tuple(class_weights), pseudo_weighted),
    )
