"""MIC: masked image consistency, for any method with target images (Hoyer, Dai, Wang and Van Gool,
CVPR 2023).

Blocks of a target image are hidden, and the segmenter must still say what the teacher says of the
whole image: it learns to use the context. A method that has a teacher shares its pseudo labels; any
other gets one.
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxseg.engine.method import IMAGE, TARGET, Loss, Method, View
from jaxseg.errors import UserError
from jaxseg.methods.parts import teacher
from jaxseg.methods.parts.appearance import StrongView, strong_view
from jaxseg.methods.parts.classes import PLAIN, Rarity, weighed
from jaxseg.methods.parts.self_training import PSEUDO, level_losses
from jaxseg.methods.parts.self_training_views import SEED
from jaxseg.methods.parts.teacher import Follow
from jaxseg.models.network import Network


class Masking(NamedTuple):
    """Settings of `masked`.

    Attributes:
      weight: of the loss; 1 in the paper, 0 for none.
      block: side of a hidden block in pixels; 64 for crops of 1024, 32 for 512.
      ratio: share of the blocks that are hidden; 0.7 in the paper.
      tokens: hides patches of a vision transformer instead of blocks: a learned token takes their
        place (VFM-UDA). `block` and `hidden` are not used then.
      source: also hides blocks of the source images, which keep their true labels.
      decay, threshold: of the teacher, where the method has none; see `dacs.make`.
      margins: likewise; (top, bottom) or (top, bottom, left, right), in shares of the crop's sides.
      view: what is done to colours before blocks are hidden.
      hidden: red, green and blue of hidden pixels: the colour that the network's normalisation
        turns into 0.
      rarity: the shares of the loss that weigh classes by how rare they are.
    """

    weight: float = 0.0
    block: int = 64
    ratio: float = 0.7
    tokens: bool = False
    source: bool = False
    decay: float = 0.999
    threshold: float = 0.968
    margins: Sequence[float] = (0.0, 0.0)
    view: StrongView = StrongView()
    hidden: tuple[float, float, float] = (123.675, 116.28, 103.53)
    rarity: Rarity = PLAIN


def hide(key: jax.Array, images: jax.Array, settings: Masking) -> jax.Array:
    """Images with some of their blocks hidden.

    The grid has round(H / block) x round(W / block) blocks, each hidden by itself with the
    probability `ratio`.

    Args:
      key: uint32 [2].
      images: float [N, H, W, 3] in 0..255.
      settings: `block`, `ratio` and `hidden`.
    """
    number, height, width, _ = images.shape
    grid = [max(1, round(side / settings.block)) for side in (height, width)]
    seen = jax.random.uniform(key, (number, *grid)) > settings.ratio
    # The nearest block of each pixel, as an enlargement of the grid by nearest neighbours has it.
    rows = jnp.arange(height) * grid[0] // height
    columns = jnp.arange(width) * grid[1] // width
    seen = seen[:, rows[:, None], columns]
    return jnp.where(seen[..., None], images, jnp.asarray(settings.hidden, jnp.float32))


def _check(settings: Masking, reads: Collection[str]) -> None:
    teacher.check(Follow(settings.decay))
    if not (settings.weight > 0 and settings.block >= 1 and 0 < settings.ratio < 1):
        raise UserError(
            f"config.mic: weight={settings.weight}, block={settings.block}, ratio={settings.ratio}:"
            " give a weight of 0 or more, a block of at least 1 pixel, a ratio within 0..1"
        )
    if "target_image" not in reads:
        raise UserError("config.mic.weight: this method reads no target images to mask")
    if len(settings.margins) not in (2, 4):
        raise UserError(
            f"config.mic.margins={tuple(settings.margins)}: give (top, bottom) or (top, bottom, "
            "left, right), shares of the crop's sides"
        )


def masked(
    method: Method, segmenter: Network, levels: dict[str, float], settings: Masking, over_all=False
) -> Method:
    """The same method, with masked image consistency in the loss of its player `gen`.

    The running statistics are not moved by masked images.

    Args:
      method: with the player `gen`, whose network `segmenter` it is, and target images.
      segmenter: the task network; with `tokens` one whose `apply` takes `mask_ratio` (`vfm.VFM`).
      levels: weight of each output level.
      settings: see `Masking`; the method itself comes back with a weight of 0.
      over_all: see `self_training.mean_loss`.

    Raises:
      UserError: settings that could not work, or a method that reads no target images.
    """
    if not settings.weight:
        return method
    _check(settings, method.reads)
    follow = Follow(settings.decay)
    hidden = {"mask_ratio": settings.ratio} if settings.tokens else {}

    def init(key, batch):
        params, stats, memory = method.init(key, batch)
        if teacher.NAME not in memory:
            net = params["gen"]["segmenter"], stats["segmenter"]
            memory = {**memory, teacher.NAME: teacher.empty(*net)}
        return params, stats, memory

    def labelled(params, before, carry, batch):
        """The teacher's labels, its own if the method has made some, and the carry."""
        if PSEUDO in carry.shared:
            return carry.shared[PSEUDO], carry
        own = teacher.updated(
            before.memory[teacher.NAME], params["gen"]["segmenter"], before.stats["segmenter"],
            carry.step, follow,
        )  # fmt: skip
        probabilities, own = teacher.look(segmenter, own, batch["target_image"])
        pseudo = teacher.pseudo_labels(probabilities, settings.threshold, tuple(settings.margins))
        return pseudo, teacher.remembered(carry, own)

    def consistency(params, carry, images, labels, weights, key):
        view_key, hide_key, net_key = jax.random.split(key, 3)
        images = strong_view(view_key, images, settings.view)
        images = images if settings.tokens else hide(hide_key, images, settings)
        outputs, _ = segmenter.apply(
            params["gen"]["segmenter"], carry.stats["segmenter"], images, True, net_key, **hidden
        )
        parts = level_losses(outputs, levels, labels, weights, over_all, settings.rarity)
        return sum(weight * parts[level] for level, weight in levels.items())

    def gen(params, carry, batch, key):
        before = carry
        total, carry = method.losses["gen"](params, carry, batch, key)
        pseudo, carry = labelled(params, before, carry, batch)
        keys = jax.random.split(jax.random.fold_in(key, 1), 2)
        weights = weighed(pseudo.labels, pseudo.weights, settings.rarity)
        value = consistency(params, carry, batch["target_image"], pseudo.labels, weights, keys[0])
        if settings.source:
            labels = batch["source_label"].astype(jnp.int32)
            value += consistency(params, carry, batch["source_image"], labels, None, keys[1])
        total += settings.weight * value
        return total, carry._replace(metrics={**carry.metrics, "masked": value})

    def masked_image(params, stats, memory, images):
        del params, stats, memory
        keys = jax.random.split(jax.random.PRNGKey(SEED))
        return hide(keys[0], strong_view(keys[1], images, settings.view), settings)

    losses: dict[str, Loss] = {**method.losses, "gen": gen}
    view = View(masked_image, IMAGE, TARGET, "masked image")
    shown = method.views if settings.tokens else {**method.views, "masked": view}
    titles = {**method.titles, "masked": "Cross-entropy on masked images"}
    return method._replace(init=init, losses=losses, views=shown, titles=titles)
