"""DADA: depth-aware domain adaptation (Vu, Jain, Bucher, Cord and Pérez, ICCV 2019).

AdvEnt with depth as a second task on the source. The network predicts inverse depth from its last
features and feeds it back into them (`config.net.depth`, `config.net.fusion`). The discriminator
looks at the self-information of each class times the predicted inverse depth, so that near things
count more. Gradients flow into both factors of that product, as in the released code.
"""

from collections.abc import Mapping, Sequence

from jaxseg.engine.method import Method
from jaxseg.errors import UserError
from jaxseg.losses.entropy import self_information
from jaxseg.methods.parts import align
from jaxseg.methods.parts import depth as parts_depth
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
    lam_depth: float,
    depth_loss: str = "berhu",
    depth_encoding: str = "inverse",
    depth_near: float = 1.0,
    depth_far: float = 655.36,
    depth_scale: float = 1.0,
    gan: str = "vanilla",
    weighted: float = 0.0,
    class_weights: Sequence[float | str] = (),
    statistics: str = "both",
) -> Method:
    """Builds the method.

    Args:
      segmenter: a task network with the output 'depth' [N,h,w,1].
      discriminator, num_classes, segmentation_weights, adversarial_weights, gan, statistics: see
        `align.make`; each level has a discriminator.
      lam_depth: weight of the depth loss, above 0.
      depth_loss: 'berhu' or 'l1', in the network's units.
      depth_encoding, depth_near, depth_far: see `losses.depth.encode`; metres.
      depth_scale: the network's units for one unit of encoded depth. The released code predicts
        65536 / (centimetres + 1), which is 655.36 times the inverse of metres.

    Raises:
      UserError: lam_depth is 0.
    """
    depth = parts_depth.checked(
        parts_depth.Depth(lam_depth, depth_loss, depth_encoding, depth_near, depth_far, depth_scale)
    )
    if depth is None:
        raise UserError("lam_depth=0: without depth this is advent, see configs/advent.py")
    return align.make(
        segmenter,
        align.Levels(dict(segmentation_weights), dict(adversarial_weights)),
        statistics=statistics,
        rarity=Rarity(weighted, tuple(class_weights)),
        discriminator=discriminator,
        see=lambda outputs, level: self_information(outputs[level]) * outputs[parts_depth.LEVEL],
        num_classes=num_classes,
        gan=gan,
        depth=depth,
    )
