"""Adversarial losses on discriminator scores; defines which number stands for which domain."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from jaxseg.errors import UserError

SOURCE = 0.0  # as in AdaptSegNet and ADVENT
TARGET = 1.0


def label(domain: float, smooth: float = 0.0) -> float:
    """The label of a domain, with one-sided label smoothing (Salimans et al.,
    "Improved Techniques for Training GANs", NIPS 2016).

    Args:
      domain: SOURCE or TARGET.
      smooth: how far the label of TARGET, the domain of real images, moves towards that of SOURCE:
        0.1 makes it 0.9. In 0..0.5; meant for the discriminator's own loss.

    Raises:
      UserError: a smoothing outside 0..0.5.
    """
    if not 0 <= smooth < 0.5:
        raise UserError(f"label smoothing of {smooth}: give at least 0 and less than 0.5")
    return domain + smooth * (SOURCE - TARGET) if domain == TARGET else domain


def vanilla(scores: jax.Array, domain: float, smooth: float = 0.0) -> jax.Array:
    """Binary cross-entropy of raw scores with a domain's label, element by element.

    Args:
      scores: float [...], large for TARGET.
      domain: SOURCE or TARGET.
      smooth: see `label`.
    """
    wanted = jnp.full_like(scores, label(domain, smooth))
    return optax.sigmoid_binary_cross_entropy(scores, wanted)


def least_squares(scores: jax.Array, domain: float, smooth: float = 0.0) -> jax.Array:
    """Squared distance of the raw scores to a domain's label (LS-GAN), element by element."""
    return jnp.square(scores - label(domain, smooth))


def by_name(name: str) -> Callable[..., jax.Array]:
    """`vanilla` or `ls`, the two names AdaptSegNet uses."""
    functions = {"vanilla": vanilla, "ls": least_squares}
    if name not in functions:
        raise UserError(f"unknown adversarial loss {name!r}; choose one of {sorted(functions)}")
    return functions[name]


def accuracy(of_source: jax.Array, of_target: jax.Array, name: str) -> jax.Array:
    """Share of scores on the right side, each domain counting half; guessing gives 0.5.

    Args:
      of_source, of_target: raw scores, float [...].
      name: the loss they are trained with, see `by_name`: the threshold is 0 for the vanilla loss
        and half way between the labels for least squares.
    """
    border = 0.5 * (SOURCE + TARGET) if name == "ls" else 0.0
    return 0.5 * (jnp.mean(of_source < border) + jnp.mean(of_target > border))


def r1(score: Callable[[jax.Array], jax.Array], images: jax.Array) -> jax.Array:
    """R1, the squared gradient of the scores by the images (Mescheder et al., "Which Training
    Methods for GANs do actually Converge?", ICML 2018).

    The paper adds gamma / 2 times its mean over real images to the discriminator's loss.

    Args:
      score: images -> raw scores [N, ...] of the discriminator. The scores of an image are summed;
        for a patch discriminator return their mean, or the penalty grows with the number of
        patches. They must not depend on the other images, as they would with batch statistics.
      images: float [N, ...], what the discriminator looks at.

    Returns:
      float32 [N], summed over pixels and channels; differentiable with respect to the parameters
      that `score` uses.
    """
    slope = jax.grad(lambda x: jnp.sum(score(x)))(images).astype(jnp.float32)
    return jnp.sum(jnp.square(slope), axis=tuple(range(1, slope.ndim)))
