"""Discriminators of a network's output levels: their parameters, their scores."""

import jax
import jax.numpy as jnp

from jaxseg.methods.parts.levels import at_size
from jaxseg.models.network import Network


def first(discriminator: Network, segmenter: Network, net, stats, images, level, key):
    """Initial (params, stats) of one level's discriminator, for the shape of what it looks at."""

    def maps(images):
        outputs, _ = segmenter.apply(net, stats, images, False)
        return at_size(outputs, (level,), images)[level]

    seen = jax.eval_shape(maps, images)
    return discriminator.init(key, jnp.zeros(seen.shape, jnp.float32))


def judge(discriminator: Network, params, stats, level: str, maps, train: bool):
    """(scores, stats) of one level's discriminator for the maps that it looks at.

    A discriminator with running statistics (spectral norm) keeps them in `stats[level]`. `train`
    updates them; it is True only when the discriminator itself is being trained.
    """
    own, running = params["disc"][level], stats.get(level, {})
    outputs, after = discriminator.apply(own, running, maps, train)
    return outputs["score"], {**stats, level: after} if running else stats
