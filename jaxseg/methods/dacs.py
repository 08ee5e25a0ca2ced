"""DACS: domain adaptation via cross-domain mixed sampling (Tranheden, Olsson, Pinto and Svensson,
WACV 2021).

A mean teacher labels target images; half of the classes of a source image are pasted into each; the
segmenter learns the source's labels and the mixture's. The mixture counts as much as the share of
pixels that the teacher is sure of.
"""

from collections.abc import Mapping, Sequence

from jaxseg.engine.method import Method
from jaxseg.methods.parts import self_training, teacher
from jaxseg.methods.parts.appearance import StrongView, checked
from jaxseg.methods.parts.classes import Rarity
from jaxseg.methods.parts.teacher import Follow
from jaxseg.models.network import Network

NETWORKS = ("segmenter",)


def make(
    segmenter: Network,
    *,
    num_classes: int,
    segmentation_weights: Mapping[str, float],
    target_weight: float = 1.0,
    decay: float = 0.99,
    threshold: float = 0.968,
    margins: Sequence[float] = (0.0, 0.0),
    jitter: float = 0.25,
    jitter_probability: float = 0.8,
    blur_probability: float = 0.5,
    per_image: bool = True,
    colours: str = "torchvision",
    ignored: bool = False,
    over_all: bool = False,
    of_teacher: bool = False,
    statistics: str = "both",
    weighted: float = 0.0,
    class_weights: Sequence[float | str] = (),
    pseudo_weighted: float = 0.0,
) -> Method:
    """Builds the method.

    Args:
      segmenter: the task network.
      num_classes: K.
      segmentation_weights: by output level, for source and mixture alike.
      target_weight: of the loss on mixed images.
      decay: of the teacher's average, at most; 0.99 in the paper.
      threshold: of the probability from which a pseudo label is sure; 0.968 in the paper.
      margins: (top, bottom) shares of a crop's height whose pseudo labels do not count, or (top,
        bottom, left, right) shares of the whole image's sides (HRDA).
      jitter, jitter_probability, blur_probability, per_image, colours: the strong view, see
        `appearance.StrongView`.
      ignored: whether pixels without a label are a class that may be pasted, as in the released
        code; a mixture shows less of the target then, and learns nothing there.
      over_all: see `self_training.mean_loss`.
      of_teacher: evaluates the teacher, whose statistics are the target's, instead of the student.
      statistics: 'both': the source's and the mixture's batches move the running statistics.
      weighted, class_weights, pseudo_weighted: shares of the loss of true labels (the source's,
        pasted ones included) and of the teacher's that weigh classes by their rarity, see
        `classes.Rarity`.
    """
    self_training.check(statistics, margins)

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
        follow=Follow(decay, behind=True),
        label=label,
        mixture=self_training.Mixture(view, ignored=ignored),
        target_weight=target_weight,
        over_all=over_all,
        of_teacher=of_teacher,
        margins=tuple(margins),
        rarity=Rarity(weighted, tuple(class_weights), pseudo_weighted),
    )
