"""Optimisers of the adaptation papers, as optax transformations with PyTorch's semantics.

Parameter groups are regular expressions on the parameter's path (`segmenter/main_head/...`), in the
manner of big_vision; the first that matches wins.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

Multipliers = Sequence[tuple[str, float]]


def path_name(path: tuple) -> str:
    """A tree path ('segmenter', 'main_head') as `segmenter/main_head`."""
    return "/".join(str(getattr(entry, "key", getattr(entry, "idx", entry))) for entry in path)


def multiplier_of(name: str, multipliers: Multipliers) -> float:
    """The factor of the first expression that matches anywhere in `name`; 1 if none does."""
    return next((factor for pattern, factor in multipliers if re.search(pattern, name)), 1.0)


def scale_by_path(multipliers: Multipliers) -> optax.GradientTransformation:
    """Multiplies each parameter's update by the factor of its group; 0 freezes the parameter."""

    def scale(updates, params):
        del params
        return jax.tree_util.tree_map_with_path(
            lambda path, x: x * multiplier_of(path_name(path), multipliers), updates
        )

    return optax.stateless(scale)


class RepeatedState(NamedTuple):
    """Steps done, and the momentum of every parameter."""

    count: jax.Array
    trace: Any


def repeated_sgd(
    schedule: optax.Schedule,
    *,
    momentum: float,
    weight_decay: float,
    multipliers: Multipliers,
    repeats: Multipliers,
) -> optax.GradientTransformation:
    """SGD that takes several steps in a row with one gradient for some parameters.

    PyTorch does this with a parameter that is listed several times in the optimiser, as
    AdaptSegNet's and ADVENT's code lists most of the backbone. The momentum carries over from one
    repeat to the next, so that in the long run the parameter moves that many times as fast. The
    PyTorch of the papers (before 1.5) added the weight decay to the stored gradient in place, so
    that it accumulates over the repeats; it does so here.

    Args:
      schedule, momentum, weight_decay, multipliers: as in `sgd`.
      repeats: (expression, how many steps), first match wins, 1 for the others.
    """

    def update(gradients, state, params):
        rate = schedule(state.count)

        def leaf(path, gradient, trace, param):
            name = path_name(path)
            own_rate, moved = rate * multiplier_of(name, multipliers), 0.0
            for _ in range(int(multiplier_of(name, repeats))):
                gradient = gradient + weight_decay * (param + moved)
                trace = momentum * trace + gradient
                moved = moved - own_rate * trace
            return moved, trace

        pairs = jax.tree_util.tree_map_with_path(leaf, gradients, state.trace, params)
        updates, trace = jax.tree.transpose(
            jax.tree.structure(gradients), jax.tree.structure((0, 0)), pairs
        )
        return updates, RepeatedState(state.count + 1, trace)

    def init(params):
        return RepeatedState(jnp.zeros((), jnp.int32), jax.tree.map(jnp.zeros_like, params))

    return optax.GradientTransformation(init, update)


def sgd(
    schedule: optax.Schedule,
    *,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    no_decay: str = "",
    multipliers: Multipliers = (),
    repeats: Multipliers = (),
    clip: float = 0.0,
) -> optax.GradientTransformation:
    """SGD with L2 weight decay inside the momentum, as PyTorch has it.

    Args:
      schedule: step -> learning rate.
      momentum: of the trace buffer, no Nesterov.
      weight_decay: added to the gradient before the momentum.
      no_decay: expression for parameters without weight decay; empty means none.
      multipliers: (expression, factor of the learning rate), first match wins.
      repeats: see `repeated_sgd`; () for one step each.
      clip: largest global gradient norm, 0 for no limit.

    Raises:
      ValueError: `repeats` together with `no_decay`.
    """
    clipped = optax.clip_by_global_norm(clip) if clip else optax.identity()
    if repeats:
        if no_decay:
            raise ValueError("repeats and no_decay exclude each other")
        return optax.chain(
            clipped,
            repeated_sgd(
                schedule,
                momentum=momentum,
                weight_decay=weight_decay,
                multipliers=multipliers,
                repeats=repeats,
            ),
        )

    return optax.chain(
        clipped,
        optax.add_decayed_weights(weight_decay, mask=_decayed(no_decay)),
        optax.trace(decay=momentum),
        optax.scale_by_learning_rate(schedule),
        scale_by_path(multipliers),
    )


def scale_by_adam(
    betas: tuple[float, float], eps: float, beta1_schedule: optax.Schedule | None = None
) -> optax.GradientTransformation:
    """Adam's direction (Kingma and Ba, ICLR 2015), with a beta1 that may change.

    With a schedule, step t (from 1) decays the mean by beta1_t and divides it by 1 - beta1_t^t, as
    torch.optim.Adam does when its betas are changed between steps.

    Args:
      betas: decay rates of the mean and of the mean square; a schedule replaces the first.
      eps: added to the square root in the denominator.
      beta1_schedule: step (from 0) -> beta1.
    """
    plain = optax.scale_by_adam(b1=betas[0], b2=betas[1], eps=eps)
    if beta1_schedule is None:
        return plain

    def update(updates, state, params=None):
        beta1 = beta1_schedule(state.count)
        return optax.scale_by_adam(b1=beta1, b2=betas[1], eps=eps).update(updates, state, params)

    return optax.GradientTransformation(plain.init, update)


def adam(
    schedule: optax.Schedule,
    *,
    betas: tuple[float, float] = (0.9, 0.99),
    eps: float = 1e-8,
    beta1_schedule: optax.Schedule | None = None,
    multipliers: Multipliers = (),
    clip: float = 0.0,
    weight_decay: float = 0.0,
    no_decay: str = "",
) -> optax.GradientTransformation:
    """Adam with the discriminators' betas of AdaptSegNet and ADVENT as defaults.

    Args:
      schedule: step -> learning rate.
      betas, eps, beta1_schedule: see `scale_by_adam`; `one_cycle_momentum` cycles beta1.
      multipliers: (expression, factor of the learning rate), first match wins.
      clip: largest global gradient norm, 0 for no limit.
      weight_decay: L2, added to the gradient as in torch.optim.Adam (not decoupled as in AdamW).
      no_decay: expression for parameters without weight decay; empty means none.
    """
    parts = [scale_by_adam(betas, eps, beta1_schedule), optax.scale_by_learning_rate(schedule)]
    if weight_decay:
        parts.insert(0, optax.add_decayed_weights(weight_decay, mask=_decayed(no_decay)))
    if clip:
        parts.insert(0, optax.clip_by_global_norm(clip))
    if multipliers:
        parts.append(scale_by_path(multipliers))
    return optax.chain(*parts)


def _decayed(no_decay: str) -> Callable[[Any], Any]:
    """Makes a mask function: parameters -> True where there is weight decay."""

    def mask(params):
        return jax.tree_util.tree_map_with_path(
            lambda path, _: not (no_decay and re.search(no_decay, path_name(path))), params
        )

    return mask
