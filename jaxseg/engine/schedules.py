"""Schedules: step -> learning rate, and the warm-up that may come before each of them."""

import jax.numpy as jnp
import optax

from jaxseg.errors import UserError


def poly(lr: float, schedule_steps: int, power: float = 0.9) -> optax.Schedule:
    """lr * (1 - i / schedule_steps)^power, 0 from there on (Chen et al., DeepLab).

    The schedule's length is not the step at which training stops: AdaptSegNet decays over 250 000
    steps and stops at 150 000.
    """
    return optax.polynomial_schedule(lr, 0.0, power, schedule_steps)


def cosine(lr: float, schedule_steps: int) -> optax.Schedule:
    """lr * (1 + cos(pi i / schedule_steps)) / 2, 0 from there on (Loshchilov and Hutter, SGDR)."""
    return optax.cosine_decay_schedule(lr, schedule_steps)


def linear(lr: float, schedule_steps: int, hold: float = 0.0) -> optax.Schedule:
    """lr * (1 - i / schedule_steps), 0 from there on.

    Equals `poly` with power 1, but is exact to float32's last digit near the end as well, where
    computing 1 - i / n cancels most digits.

    Args:
      lr: the highest rate.
      schedule_steps: n.
      hold: share of the steps in which the rate stays, before it falls in the others; 0.5 is
        CycleGAN's, which falls once an epoch where this one falls at every step.

    Raises:
      UserError: `hold` outside 0..1, 1 itself excluded.
    """
    if not 0 <= hold < 1:
        raise UserError(f"a rate that stays for {hold} of the steps: give 0 or more, less than 1")
    falls = (1 - hold) * schedule_steps

    def schedule(step):
        left = schedule_steps - jnp.minimum(jnp.asarray(step, jnp.float32), schedule_steps)
        return lr * jnp.minimum(left / falls, 1.0)

    return schedule


def constant(lr: float) -> optax.Schedule:
    """lr at every step."""
    return lambda step: jnp.full(jnp.shape(step), lr, jnp.float32)


def warmed_up(schedule: optax.Schedule, steps: int, start: float) -> optax.Schedule:
    """Multiplies a schedule by a factor that rises linearly from `start` to 1 at step `steps`.

    The schedule itself also advances during the warm-up, as in MMCV and DAFormer (Hoyer et al.,
    CVPR 2022): the rate at step i < steps is schedule(i) * (1 - (1 - i / steps) * (1 - start)).

    Args:
      schedule: step -> rate.
      steps: length of the warm-up; 0 for none.
      start: the factor at step 0, 0..1.

    Raises:
      UserError: `steps` is negative or `start` outside 0..1.
    """
    if steps < 0 or not 0 <= start <= 1:
        raise UserError(
            f"a warm-up of {steps} steps from {start} times the rate: give 0 steps or more, and a "
            "start in 0..1"
        )
    if not steps:
        return schedule

    def warmed(step):
        share = jnp.minimum(jnp.asarray(step, jnp.float32) / steps, 1.0)
        # The same factor, written so that a start of 1e-6 keeps all its digits.
        return schedule(step) * (start * (1.0 - share) + share)

    return warmed


def one_cycle(
    max_lr: float, steps: int, warm: float = 0.3, start: float = 25.0, end: float = 1e4
) -> optax.Schedule:
    """One cycle of half cosines: max_lr / start up to max_lr, then down to max_lr / start / end
    (Smith and Topin, "Super-Convergence", 2019, in the form of PyTorch's OneCycleLR).

    Args:
      max_lr: the highest rate.
      steps: length of the whole cycle; the rate keeps its final value afterwards.
      warm: share of the steps in which the rate rises; the highest is at step warm * steps - 1.
      start, end: initial rate = max_lr / start; final rate = initial rate / end.

    Raises:
      UserError: `start` or `end` not above 0, or see `_half_cosines`.
    """
    if not (start > 0 and end > 0):
        raise UserError(f"one cycle with start={start}, end={end}: give divisors above 0")
    return _half_cosines(max_lr / start, max_lr, max_lr / start / end, steps, warm)


def one_cycle_momentum(
    base: float, maximum: float, steps: int, warm: float = 0.3
) -> optax.Schedule:
    """The momentum (Adam's beta1) that goes with `one_cycle`: from `maximum` down to `base` while
    the rate rises, and back while it falls.

    Args:
      base, maximum: 0 <= base <= maximum < 1.
      steps, warm: as in `one_cycle`.

    Raises:
      UserError: values outside these ranges.
    """
    if not 0 <= base <= maximum < 1:
        raise UserError(f"momentum from {base} to {maximum}: give 0 <= base <= maximum < 1")
    return _half_cosines(maximum, base, maximum, steps, warm)


def _half_cosines(
    first: float, middle: float, last: float, steps: int, warm: float
) -> optax.Schedule:
    if not (steps > 0 and 0 <= warm <= 1):
        raise UserError(f"one cycle of {steps} steps, {warm} of them warm-up: give a share in 0..1")
    turn, final = warm * steps - 1, steps - 1

    def between(begin, finish, share):
        # cos^2(x / 2) equals (1 + cos x) / 2 but does not cancel near the end, where the rate is
        # 4e-6 of the highest.
        return finish + (begin - finish) * jnp.square(jnp.cos(0.5 * jnp.pi * share))

    def schedule(step):
        step = jnp.minimum(jnp.asarray(step, jnp.float32), final)
        away = between(first, middle, step / max(turn, 1e-6))
        back = between(middle, last, (step - turn) / max(final - turn, 1e-6))
        return jnp.where((turn > 0) & (step <= turn), away, back)

    return schedule
