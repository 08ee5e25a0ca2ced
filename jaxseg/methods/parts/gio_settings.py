"""GIO-Ada's settings, in groups of what belongs together."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from jaxseg.errors import UserError
from jaxseg.losses import adversarial
from jaxseg.methods.parts.classes import PLAIN, Rarity
from jaxseg.methods.parts.depth import LEVEL, Depth
from jaxseg.methods.parts.gio_maps import GUIDES
from jaxseg.models.network import Network

INPUT, OUTPUT = "input", "output"  # the levels, and the names of their discriminators


class Transform(NamedTuple):
    """How the image transform network is helped and held back.

    guides: its further inputs, any of 'label' and 'depth'.
    lam_identity: weight of the mean absolute change of the image, in -1..1 (SimGAN's
      self-regularisation, Shrivastava et al., CVPR 2017).
    task_gradient: whether the task's losses and the discriminator of outputs train the transform
      network too, as in the paper. It can then paint the labels that it is given into the image,
      from where the task network reads them off.
    """

    guides: Sequence[str] = GUIDES
    lam_identity: float = 0.0
    task_gradient: bool = True


class Adversary(NamedTuple):
    """How the discriminators are trained.

    gan: adversarial loss, 'vanilla' or 'ls'.
    smooth: the discriminators' label of real images and outputs is 1 minus this.
    r1: weight of the R1 penalty: r1 / 2 times the squared gradient of the mean score by the real
      maps, see `losses.adversarial.r1`; 0 for none.
    r1_every: R1 is computed in every r1_every-th step, and then weighs r1_every times as much.
    pool: how many transformed images are kept, to be shown again to the discriminator of images; 0
      for none.
    ramp_steps: steps of adversarial training over which the adversarial weights of the networks
      rise to lam_input and lam_output; 0: full weight at once.
    """

    gan: str = "vanilla"
    smooth: float = 0.0
    r1: float = 0.0
    r1_every: int = 1
    pool: int = 0
    ramp_steps: int = 0


class Parts(NamedTuple):
    """All that the losses of GIO-Ada need."""

    segmenter: Network
    translator: Network
    discriminator: Network
    num_classes: int
    segmentation_weights: Mapping[str, float]
    weights: Mapping[str, float]  # of INPUT and OUTPUT, as far as above 0
    statistics: str
    transform: Transform
    adversary: Adversary
    encoding: Depth  # also of the guide, without depth as a task
    depth: Depth | None
    rarity: Rarity = PLAIN

    @property
    def asked(self) -> tuple[str, ...]:
        """The output levels of the task network that are used."""
        return ("main", LEVEL) if self.depth else ("main",)


def check(weights: Mapping[str, float], transform: Transform, adversary: Adversary) -> None:
    """Raises UserError if a weight or setting is out of range."""
    given = {**weights, "lam_identity": transform.lam_identity}
    given |= {name: getattr(adversary, name) for name in ("r1", "pool", "ramp_steps")}
    for name, value in given.items():
        if not value >= 0:
            raise UserError(f"{name}={value} is negative")
    if adversary.r1_every < 1:
        raise UserError(f"r1_every={adversary.r1_every}: give at least 1")
    if unknown := [guide for guide in transform.guides if guide not in GUIDES]:
        raise UserError(f"guides has {unknown[0]!r}; choose from {', '.join(GUIDES)}")
    adversarial.by_name(adversary.gan)
    adversarial.label(adversarial.TARGET, adversary.smooth)
