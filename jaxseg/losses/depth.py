"""Depth as a training target: how metres are encoded, and the losses on the predicted numbers.

Each loss returns two maps [N, H, W], the loss and which pixels count. Of these,
`engine.method.global_mean(loss, valid)` is exactly the mean over the batches of all devices.
"""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from jaxseg.errors import UserError

KINDS = ("inverse", "linear", "log")
Loss = Callable[[jax.Array, jax.Array, jax.Array], tuple[jax.Array, jax.Array]]


def valid(metres: jax.Array) -> jax.Array:
    """Which pixels have a known depth, bool [...]; 0 and NaN mean that it is unknown."""
    return metres > 0


def encode(
    metres: jax.Array, kind: str = "inverse", near: float = 1.0, far: float = 80.0
) -> jax.Array:
    """Metres as numbers in 0..1, the units in which a network regresses depth.

    Args:
      metres: float [...]; 0 = unknown.
      kind: 'inverse', near / d, which is most precise for near things (DADA uses inverse depth);
        'linear', d / far; 'log', log(d / near) / log(far / near).
      near, far: metres, 0 < near < far. Smaller depths count as `near` ('inverse', 'log'), larger
        ones as `far` ('linear', 'log').

    Returns:
      float32 [...] in 0..1; 0 where there is no depth.

    Raises:
      UserError: an unknown kind, or a range that is empty.
    """
    _check(kind, near, far)
    there = valid(metres)
    metres = jnp.where(there, metres, near).astype(jnp.float32)
    if kind == "inverse":
        encoded = near / jnp.maximum(metres, near)
    elif kind == "linear":
        encoded = jnp.minimum(metres, far) / far
    else:
        encoded = jnp.log(jnp.clip(metres, near, far) / near) / math.log(far / near)
    return jnp.where(there, encoded, 0.0)


def decode(
    encoded: jax.Array, kind: str = "inverse", near: float = 1.0, far: float = 80.0
) -> jax.Array:
    """The inverse of `encode`, defined for any number that a network may predict.

    Args:
      encoded: float [...] in units of `encode`; outside 0..1 counts as the nearest or farthest.
      kind, near, far: as in `encode`.

    Returns:
      float32 metres [...] in near..far.
    """
    _check(kind, near, far)
    encoded = encoded.astype(jnp.float32)
    if kind == "inverse":
        return jnp.clip(near / jnp.maximum(encoded, near / far), near, far)
    if kind == "linear":
        return jnp.clip(encoded * far, near, far)
    return jnp.clip(near * jnp.exp(jnp.clip(encoded, 0.0, 1.0) * math.log(far / near)), near, far)


def l1(prediction: jax.Array, target: jax.Array, valid: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Absolute error per pixel.

    Args:
      prediction, target: float [N, H, W], both encoded.
      valid: bool [N, H, W], which pixels count.

    Returns:
      loss float32 [N, H, W] (0 where not valid) and `valid`.
    """
    return _size(prediction, target, valid), valid


def berhu_threshold(prediction: jax.Array, target: jax.Array, valid: jax.Array) -> jax.Array:
    """A fifth of the largest absolute error, float32 []; 0 without valid pixels. No gradient."""
    return 0.2 * lax.stop_gradient(jnp.max(_size(prediction, target, valid), initial=0.0))


def berhu(
    prediction: jax.Array,
    target: jax.Array,
    valid: jax.Array,
    threshold: jax.Array | float | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Reverse Huber loss per pixel: |e| up to a threshold c, (e^2 + c^2) / (2 c) beyond it (Laina
    et al., "Deeper Depth Prediction with Fully Convolutional Residual Networks", 3DV 2016).

    Args:
      prediction, target, valid: as in `l1`.
      threshold: c, not negative; None for `berhu_threshold` of this batch, the paper's. That
        is the batch of one device; for a threshold over all devices take its `lax.pmax`, or use
        `by_name("berhu", axis)`.

    Returns:
      As `l1`.
    """
    if threshold is None:
        threshold = berhu_threshold(prediction, target, valid)
    size = _size(prediction, target, valid)
    threshold = jnp.asarray(threshold, jnp.float32)
    divisor = jnp.where(threshold > 0, threshold, 1.0)  # without any error there is no threshold
    beyond = (jnp.square(size) + jnp.square(threshold)) / (2.0 * divisor)
    return jnp.where((size > threshold) & (threshold > 0), beyond, size), valid


def by_name(name: str, axis: str | None = None) -> Loss:
    """The loss (prediction, target, valid) -> (loss, valid) called 'l1' or 'berhu'.

    Args:
      name: of the loss.
      axis: name of the pmapped axis; berHu's threshold is then taken over all devices.

    Raises:
      UserError: there is no such loss.
    """
    if name not in ("l1", "berhu"):
        raise UserError(f"unknown depth loss {name!r}; choose one of l1, berhu")
    if name == "l1":
        return l1
    return berhu if axis is None else functools.partial(_berhu_over, axis)


def _berhu_over(axis, prediction, target, valid):
    own = berhu_threshold(prediction, target, valid)
    return berhu(prediction, target, valid, lax.pmax(own, axis))


def _size(prediction: jax.Array, target: jax.Array, valid: jax.Array) -> jax.Array:
    """The absolute error, float32 [N, H, W]; 0 where not valid, with no gradient even from NaN."""
    if not prediction.shape == target.shape == valid.shape:
        raise ValueError(
            f"depth {prediction.shape} does not fit truth {target.shape} with mask {valid.shape}"
        )
    difference = prediction.astype(jnp.float32) - target.astype(jnp.float32)
    error = jnp.where(valid, difference, 0.0)
    return error * jnp.sign(error)  # its slope at 0 is 0, as PyTorch's; that of jnp.abs is 1


def _check(kind: str, near: float, far: float) -> None:
    if kind not in KINDS:
        raise UserError(f"unknown depth encoding {kind!r}; choose one of {', '.join(KINDS)}")
    if not 0 < near < far < math.inf:
        raise UserError(f"depth from near={near} to far={far}: give metres, 0 < near < far")
