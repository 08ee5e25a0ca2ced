"""Domain losses on discriminator scores; the only place that says which domain is which number."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

SOURCE = 0.0  # as in AdaptSegNet and ADVENT
TARGET = 1.0


def vanilla(scores: jax.Array, domain: float) -> jax.Array:
    """Binary cross-entropy of raw scores with a domain's label, element by element.

    Args:
      scores: float [...], large for TARGET.
      domain: SOURCE or TARGET.
    """
    return optax.sigmoid_binary_cross_entropy(scores, jnp.full_like(scores, domain))


def least_squares(scores: jax.Array, domain: float) -> jax.Array:
    """Squared distance of the raw scores to a domain's label (LS-GAN), element by element."""
    return jnp.square(scores - domain)


def by_name(name: str) -> Callable[[jax.Array, float], jax.Array]:
    """`vanilla` or `ls`, the two names AdaptSegNet uses."""
    functions = {"vanilla": vanilla, "ls": least_squares}
    if name not in functions:
        raise ValueError(f"unknown adversarial loss {name!r}; choose one of {sorted(functions)}")
    return functions[name]


def accuracy(of_source: jax.Array, of_target: jax.Array, name: str) -> jax.Array:
    """Share of scores on the right side, each domain counting half; 0.5 says nothing is told.

    Args:
      of_source, of_target: raw scores, float [...].
      name: the loss they are trained with, see `by_name`: the border is 0 for the vanilla loss and
        half way between the labels for least squares.
    """
    border = 0.5 * (SOURCE + TARGET) if name == "ls" else 0.0
    return 0.5 * (jnp.mean(of_source < border) + jnp.mean(of_target > border))
