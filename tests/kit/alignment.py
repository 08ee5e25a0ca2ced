"""A linear segmenter and discriminator with the steps of adversarial alignment by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxseg.models.network import Network
from kit.small import run

K = 4  # log2(K) = 2, so that entropies of dyadic probabilities are short decimals


# Probabilities of three pixels of each domain; the last two pixels of the source have no label.
SOURCE = np.array([[1 / 2, 1 / 4, 1 / 8, 1 / 8], [1 / 4] * 4, [1 / 4] * 4])


TARGET = np.array([[1 / 8, 1 / 8, 1 / 4, 1 / 2], [1 / 4, 1 / 8, 1 / 8, 1 / 2], [1 / 4] * 4])


LABEL = np.array([0, 255, 255])


# What the networks start from: scores are 8 (map_3 - map_0) + 0.25.
KERNEL, BIAS = np.array([[-8.0], [0.0], [0.0], [8.0]]), 0.25


def segmenter():
    """Logits are the image's channels times a matrix, initially the identity, at both levels.

    The statistics are the running mean of all pixels, which starts at 1 and moves half way; only
    `train=False` subtracts it.
    """

    def init(key, images):
        del key, images
        return {"main": jnp.eye(K), "aux": jnp.eye(K)}, {"mean": jnp.ones(())}

    def apply(params, stats, images, train, key=None):
        del key
        mean = 0.0 if train else stats["mean"]
        logits = {level: (images - mean) @ kernel for level, kernel in params.items()}
        return logits, {"mean": 0.5 * stats["mean"] + 0.5 * jnp.mean(images)} if train else stats

    return Network(init, apply)


def discriminator():
    def init(key, maps):
        assert maps.shape[-1] == K
        return {"kernel": jnp.asarray(KERNEL, jnp.float32), "bias": jnp.full((1,), BIAS)}, {}

    def apply(params, stats, maps, train, key=None):
        return {"score": maps @ params["kernel"] + params["bias"]}, stats

    return Network(init, apply)


def one_step(method, data, rate=0.0, **options):
    txs = {player: optax.sgd(rate) for player in ("gen", "disc")}
    start, end, metrics = run(method, txs, [data], **options)
    moved = jax.tree.map(np.subtract, start.params, end.params)
    return moved, end, {name: float(value) for name, value in metrics.items()}


def by_hand():
    """One image of three pixels in each domain, whose softmax is SOURCE and TARGET."""
    return {
        "source_image": np.log(SOURCE)[None, None].astype(np.float32),
        "source_label": LABEL[None, None].astype(np.int32),
        "target_image": np.log(TARGET)[None, None].astype(np.float32),
    }


def mean_softplus(scores):
    return np.mean(np.log1p(np.exp(scores)))


def to_logits(p, to_maps):
    """Gradient for the logits from the gradient for p."""
    return p * (to_maps - (p * to_maps).sum(-1, keepdims=True))
