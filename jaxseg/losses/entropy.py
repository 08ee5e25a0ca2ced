"""Entropy of the prediction (Vu et al., ADVENT, CVPR 2019), normalised so that uniform gives 1."""

import math

import jax
import jax.numpy as jnp


def self_information(logits: jax.Array) -> jax.Array:
    """Weighted self-information maps I_c = -p_c log p_c / log K, the input of
    ADVENT's discriminator.

    Args:
      logits: float [..., K].

    Returns:
      float32 [..., K], at least 0; the sum over classes is the normalised entropy. The logarithm
      comes from log_softmax, so the 1e-30 that the authors' code adds to p is not needed.
    """
    return _self_information(logits.astype(jnp.float32))


# A gradient by hand: automatic differentiation would pass over the maps twice as often.
@jax.custom_vjp
def _self_information(logits):
    log_p = jax.nn.log_softmax(logits, axis=-1)
    return -jnp.exp(log_p) * log_p / math.log(logits.shape[-1])


def _self_information_forward(logits):
    return _self_information(logits), logits


def _self_information_backward(logits, gradient):
    log_p = jax.nn.log_softmax(logits, axis=-1)
    p = jnp.exp(log_p)
    to_log_p = p * (log_p + 1) * gradient
    to_logits = p * jnp.sum(to_log_p, axis=-1, keepdims=True) - to_log_p
    return (to_logits / math.log(logits.shape[-1]),)


_self_information.defvjp(_self_information_forward, _self_information_backward)


def entropy(logits: jax.Array) -> jax.Array:
    """Shannon entropy per pixel over its maximum log K: float [..., K] -> float32 [...] in 0..1."""
    return _entropy(logits.astype(jnp.float32))


# With d = logits - their maximum, S = sum e^d and T = sum d e^d, the entropy is log S - T / S. Both
# sums in one reduction need one exponential for each logit, where two reductions or a softmax need
# two: on a CPU less than half of the time. The gradient, by hand, takes S and T as they are.
@jax.custom_vjp
def _entropy(logits):
    return _entropy_forward(logits)[0]


def _entropy_forward(logits):
    highest = jnp.max(logits, axis=-1, keepdims=True)
    difference = logits - highest
    exponential = jnp.exp(difference)
    total, weighted = jax.lax.reduce(
        (exponential, exponential * difference),
        (jnp.zeros((), logits.dtype), jnp.zeros((), logits.dtype)),
        lambda a, b: (a[0] + b[0], a[1] + b[1]),
        (logits.ndim - 1,),
    )
    nats = jnp.log(total) - weighted / total
    return nats / math.log(logits.shape[-1]), (logits, highest, total, weighted)


def _entropy_backward(saved, gradient):
    logits, highest, total, weighted = saved
    difference = logits - highest
    scale = gradient / (total * math.log(logits.shape[-1]))
    mean = weighted / total
    return (scale[..., None] * jnp.exp(difference) * (mean[..., None] - difference),)


_entropy.defvjp(_entropy_forward, _entropy_backward)


def charbonnier(values: jax.Array, power: float) -> jax.Array:
    """The penalty (values^2 + 1e-8)^power of FDA (Yang and Soatto, CVPR 2020, equation 5).

    With a power above 1/2 it weighs high values more and low ones less than the values themselves.

    Args:
      values: float [...], here normalised entropies.
      power: eta; 2 in the paper.
    """
    return jnp.power(jnp.square(values) + 1e-8, power)


def highest(values: jax.Array, share: float) -> jax.Array:
    """Mean over the highest values of each image (ADVENT's entropy ranges, ER).

    Args:
      values: float [N, H, W].
      share: of the pixels, above 0 and at most 1; ties with the lowest of these count too.

    Returns:
      float [N]; no gradient flows through the choice of pixels.

    Raises:
      ValueError: a share outside that range.
    """
    if not 0 < share <= 1:
        raise ValueError(f"a share of pixels of {share}: give more than 0 and at most 1")
    flat = values.reshape(values.shape[0], -1)
    kept = math.ceil(share * flat.shape[1])
    threshold = jnp.sort(jax.lax.stop_gradient(flat), axis=1)[:, flat.shape[1] - kept]
    chosen = flat >= threshold[:, None]
    return jnp.sum(jnp.where(chosen, flat, 0.0), axis=1) / jnp.sum(chosen, axis=1)
