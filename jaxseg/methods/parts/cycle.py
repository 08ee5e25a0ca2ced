"""The losses of CycleGAN (Zhu et al., ICCV 2017): two translators, two discriminators of images.

Images are in -1..1 here. A discriminator's `adversarial.TARGET` stands for a real image and its
`adversarial.SOURCE` for a translated one, in either domain.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxseg.errors import UserError
from jaxseg.losses import adversarial
from jaxseg.methods.parts import discriminators
from jaxseg.methods.parts import memory as parts_memory
from jaxseg.methods.parts.gio_maps import to_levels, to_unit
from jaxseg.models.network import Network

HALVED = 4  # sides of images that CycleGAN's generator takes are multiples of this
REAL, TRANSLATED = adversarial.TARGET, adversarial.SOURCE
PLAYER = "translator"  # both translators, with an optimiser of their own
TO_TARGET, TO_SOURCE = "to_target", "to_source"  # the translators, named by where they lead
# The domain of images that a discriminator judges: its name, and that of its pool.
SOURCE, TARGET = "source_image", "target_image"


class Cycle(NamedTuple):
    """The settings of the translation; the defaults are the paper's.

    lam_cycle: weight of the mean absolute difference between an image and the one that came back.
    lam_identity: the same of an image that is translated into its own domain, as a share of
      `lam_cycle`; 0 for none.
    pool: how many translated images of each domain are kept, to be shown again; 0 for none.
    gan: adversarial loss, 'ls' or 'vanilla'.
    """

    lam_cycle: float = 10.0
    lam_identity: float = 0.5
    pool: int = 50
    gan: str = "ls"


class Images(NamedTuple):
    """Images on their ways, float32 [N, H, W, 3] in -1..1."""

    to_target: jax.Array  # the source's, translated
    source_again: jax.Array  # and back
    to_source: jax.Array  # the target's, translated
    target_again: jax.Array  # and back


def check(cycle: Cycle) -> None:
    """Raises UserError for a negative weight or pool, or an unknown adversarial loss."""
    for name in ("lam_cycle", "lam_identity", "pool"):
        if getattr(cycle, name) < 0:
            raise UserError(f"{name}={getattr(cycle, name)} is negative")
    adversarial.by_name(cycle.gan)


def translate(translator: Network, own: Mapping, way: str, images: jax.Array) -> jax.Array:
    """Images in -1..1 through one of the two translators."""
    return translator.apply(own[way], {}, images, True)[0]["image"]


def losses(
    cycle: Cycle,
    translator: Network,
    discriminator: Network,
    params: Mapping,
    stats: Mapping,
    source: jax.Array,
    target: jax.Array,
) -> tuple[jax.Array, Images, dict[str, jax.Array]]:
    """The translators' turn.

    Args:
      cycle: weights.
      translator, discriminator: one network of each kind; each domain has parameters of its own.
      params: of all players.
      stats: running statistics, of a discriminator with spectral norm.
      source, target: float32 [N, H, W, 3] in -1..1.

    Returns:
      The weighted sum, the images, and the metrics.
    """
    own = params[PLAYER]
    way = partial(translate, translator, own)
    to_target, to_source = way(TO_TARGET, source), way(TO_SOURCE, target)
    images = Images(to_target, way(TO_SOURCE, to_target), to_source, way(TO_TARGET, to_source))
    domain_loss, total, metrics = adversarial.by_name(cycle.gan), 0.0, {}
    for domain, seen in ((TARGET, to_target), (SOURCE, to_source)):
        scores, _ = discriminators.judge(discriminator, params, stats, domain, seen, False)
        metrics[f"adversarial/{domain}"] = jnp.mean(domain_loss(scores, REAL))
        total += metrics[f"adversarial/{domain}"]
    for domain, image, again in (
        (SOURCE, source, images.source_again),
        (TARGET, target, images.target_again),
    ):
        metrics[f"cycle/{domain}"] = jnp.mean(jnp.abs(again - image))
        total += cycle.lam_cycle * metrics[f"cycle/{domain}"]
    if cycle.lam_identity and cycle.lam_cycle:
        for domain, there, image in ((SOURCE, TO_SOURCE, source), (TARGET, TO_TARGET, target)):
            value = jnp.mean(jnp.abs(way(there, image) - image))
            metrics[f"identity/{domain}"] = value
            total += cycle.lam_identity * cycle.lam_cycle * value
    metrics["transform/change"] = 127.5 * jnp.mean(jnp.abs(to_target - source))
    return total, images, metrics


def judged(
    cycle: Cycle,
    discriminator: Network,
    params: Mapping,
    carry,
    real: Mapping[str, jax.Array],
    translated: Mapping[str, jax.Array],
    key: jax.Array,
):
    """The discriminators' turn -> (loss, carry).

    Args:
      cycle: settings.
      discriminator: of images.
      params: of all players.
      carry: its memory holds a pool for each domain, if there are pools.
      real: {SOURCE, TARGET: the batch's images in -1..1}.
      translated: {SOURCE, TARGET: images translated into that domain}.
      key: draws from the pools.
    """
    domain_loss, total, metrics = adversarial.by_name(cycle.gan), 0.0, {}
    memory, stats = dict(carry.memory), carry.stats
    judge = partial(discriminators.judge, discriminator, params)
    for number, domain in enumerate((TARGET, SOURCE)):
        shown, pool = translated[domain], f"pool_{domain}"
        if pool in memory:
            own_key = jax.random.fold_in(key, number)
            shown, memory[pool] = parts_memory.pooled(memory[pool], shown, own_key)
        of_real, stats = judge(stats, domain, real[domain], True)
        of_translated, stats = judge(stats, domain, shown, True)
        value = 0.5 * jnp.mean(domain_loss(of_real, REAL))
        value += 0.5 * jnp.mean(domain_loss(of_translated, TRANSLATED))
        metrics[f"discriminator/{domain}"] = value
        metrics[f"accuracy/{domain}"] = adversarial.accuracy(of_translated, of_real, cycle.gan)
        total += value
    carry = carry._replace(stats=stats, memory=memory, metrics={**carry.metrics, **metrics})
    return total, carry


def pools(cycle: Cycle, source: tuple[int, ...], target: tuple[int, ...]) -> dict[str, dict]:
    """Empty pools of translated images for `State.memory`; {} if there are none.

    Args:
      cycle: settings.
      source, target: shapes [H, W, 3] of the images of both sides. A translated image keeps its
        shape, so that the target's pool holds images of the source's.
    """
    if not cycle.pool:
        return {}
    shapes = {SOURCE: target, TARGET: source}
    return {f"pool_{domain}": parts_memory.empty_pool(cycle.pool, shape)
            for domain, shape in shapes.items()}  # fmt: skip


def view(translator: Network, *ways: str) -> Callable:
    """(params, images in 0..255) -> the images, in 0..255, that went the ways one after another.

    Sides that do not divide by what the translator halves are continued to the next that do.
    """

    def look(params, images):
        height, width = images.shape[1:3]
        more = ((0, 0), (0, -height % HALVED), (0, -width % HALVED), (0, 0))
        seen = jnp.pad(to_unit(images), more, mode="edge")
        for way in ways:
            seen = translate(translator, params[PLAYER], way, seen)
        return to_levels(seen[:, :height, :width])

    return look
