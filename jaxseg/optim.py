"""Optimisers and schedules of the adaptation papers, as optax transformations.

Parameter groups are regular expressions on the parameter's path (`segmenter/main_head/...`), in the
manner of big_vision; the first that matches wins.
"""

import re
from collections.abc import Sequence

import jax
import optax

Multipliers = Sequence[tuple[str, float]]


def poly(lr: float, schedule_steps: int, power: float = 0.9) -> optax.Schedule:
    """lr * (1 - i / schedule_steps)^power, 0 from there on (Chen et al., DeepLab).

    The schedule's length is not the step at which training stops: AdaptSegNet decays over 250 000
    steps and stops at 150 000.
    """
    return optax.polynomial_schedule(lr, 0.0, power, schedule_steps)


def path_name(path: tuple) -> str:
    """a tree path ('segmenter', 'main_head') as `segmenter/main_head`."""
    return "/".join(str(getattr(entry, "key", getattr(entry, "idx", entry))) for entry in path)


def multiplier_of(name: str, multipliers: Multipliers) -> float:
    """The factor of the first expression found in `name`, 1 when none is."""
    return next((factor for pattern, factor in multipliers if re.search(pattern, name)), 1.0)


def scale_by_path(multipliers: Multipliers) -> optax.GradientTransformation:
    """Multiplies each parameter's update by the factor of its group; 0 fixes the parameter."""

    def scale(updates, params):
        del params
        return jax.tree_util.tree_map_with_path(
            lambda path, x: x * multiplier_of(path_name(path), multipliers), updates
        )

    return optax.stateless(scale)


def sgd(
    schedule: optax.Schedule,
    *,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    no_decay: str = "",
    multipliers: Multipliers = (),
    clip: float = 0.0,
) -> optax.GradientTransformation:
    """SGD with L2 weight decay inside the momentum, as PyTorch has it.

    Args:
      schedule: step -> learning rate.
      momentum: of the trace buffer, no Nesterov.
      weight_decay: added to the gradient before the momentum.
      no_decay: expression for parameters without weight decay; empty means none.
      multipliers: (expression, factor of the learning rate), first match wins.
      clip: largest global gradient norm, 0 for no limit.
    """

    def decayed(params):
        return jax.tree_util.tree_map_with_path(
            lambda path, _: not (no_decay and re.search(no_decay, path_name(path))), params
        )

    return optax.chain(
        optax.clip_by_global_norm(clip) if clip else optax.identity(),
        optax.add_decayed_weights(weight_decay, mask=decayed),
        optax.trace(decay=momentum),
        optax.scale_by_learning_rate(schedule),
        scale_by_path(multipliers),
    )


def adam(
    schedule: optax.Schedule, *, betas: tuple[float, float] = (0.9, 0.99), eps: float = 1e-8
) -> optax.GradientTransformation:
    """Adam with the discriminators' betas of AdaptSegNet and ADVENT as defaults."""
    return optax.adam(schedule, b1=betas[0], b2=betas[1], eps=eps)
