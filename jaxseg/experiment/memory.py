"""What to do about an experiment that does not fit into memory: the settings that help."""

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
from ml_collections import ConfigDict

from jaxseg import routes
from jaxseg.engine import memory
from jaxseg.errors import UserError
from jaxseg.models.backbones import build as backbones
from jaxseg.models.segmenters import build as segmenters


def remedies(config: ConfigDict, devices: int = 1, how: str = "", factor: float = 2.0) -> str:
    """The settings that make training need less memory, with the values they have now.

    Args:
      config: of the experiment.
      devices: that share a batch.
      how: the members of a sweep are computed; see `sweep.how`.
      factor: how many times too much memory is needed.
    """
    train, parts = config.train, []
    if how in ("vmap", "each"):
        parts.append("--config.sweep.how=map (one member after the other)")
    share = train.batch // devices
    wanted = (n for n in range(1, share + 1) if share % n == 0 and n >= factor * train.accumulate)
    if (slices := next(wanted, share)) > train.accumulate:
        each = f"{share // slices} images at a time" if slices < share else "images one by one"
        parts.append(f"--config.train.accumulate={slices} ({each})")
    parts.append(_smaller(config))
    if not config.net.remat and _has_remat(config.net):
        parts.append("--config.net.remat=True (more time)")
    if config.net.dtype == "float32" and routes.current() != "cpu":  # a CPU computes in float32
        parts.append("--config.net.dtype=bfloat16")
    return "try " + ", ".join(parts[:-1]) + f" or {parts[-1]}" if parts[1:] else f"try {parts[0]}"


def _smaller(config):
    smaller = [] if config.train.batch == 1 else [f"config.train.batch={config.train.batch}"]
    if crop := tuple(config.augment.source.crop):
        smaller.append(f"config.augment.source.crop={crop}")
    else:
        smaller.append(f"config.data.target.size={tuple(config.data.target.size)}")
    return f"a smaller {' or '.join(smaller)}"


def _has_remat(net: ConfigDict) -> bool:
    own_trunk = hasattr(segmenters.find(net.architecture), "BACKBONES")
    return not own_trunk and backbones.has_remat(net.backbone)


def check_batch(config: ConfigDict, shapes: Mapping[str, jax.ShapeDtypeStruct]) -> None:
    """Raises UserError if the images of one step do not fit into the free main memory, before any
    is read: reading many gigabytes takes minutes in which nothing can be told.

    Args:
      config: of the experiment.
      shapes: of what one step reads, by name.
    """
    bytes_of = sum(math.prod(x.shape) * x.dtype.itemsize for x in shapes.values())
    left = memory.host_memory()
    if left is not None and bytes_of > left:
        raise UserError(
            f"the images of a training step take {memory.size(bytes_of)}, but "
            f"{memory.size(left)} of memory are free: try {_smaller(config)}"
        )


def of_evaluation(config: ConfigDict) -> str:
    """The settings that make an evaluation need less memory, with the values they have now."""
    smaller = [] if config.eval.batch == 1 else [f"config.eval.batch={config.eval.batch}"]
    smaller.append(f"config.data.target.size={tuple(config.data.target.size)}")
    window = "" if tuple(config.eval.window) else ", or a sliding --config.eval.window=HEIGHT,WIDTH"
    return f"try a smaller {' or '.join(smaller)}{window}"


def evaluation_check(config: ConfigDict, devices: Sequence[jax.Device]) -> Callable[[Any], None]:
    """Makes the function that refuses a compiled evaluation for which memory is too short."""

    def check(compiled: Any) -> None:
        what = f"evaluating a batch of config.eval.batch={config.eval.batch}"
        memory.check(compiled, devices, what, lambda _: of_evaluation(config))

    return check


def of_prediction(config: ConfigDict) -> str:
    """The settings that make the prediction of one image need less memory."""
    chosen, parts = config.eval, []
    if tuple(chosen.scales) != (1.0,):
        parts.append("fewer config.eval.scales")
    if chosen.full_resolution:
        parts.append("--config.eval.full_resolution=False")
    else:
        parts.append(f"a smaller config.data.target.size={tuple(config.data.target.size)}")
    if not chosen.window:
        parts.append("a sliding --config.eval.window=HEIGHT,WIDTH")
    return f"try {', '.join([*parts, 'or a smaller image'])}"


@contextlib.contextmanager
def told_with(advise: Callable[[], str]) -> Iterator[None]:
    """Turns an allocator's error within the block into a UserError: one line, with what to do."""
    try:
        yield
    except Exception as error:
        if said := memory.ran_out(error):
            raise UserError(f"memory ran out ({said}): {advise()}") from error
        raise


@contextlib.contextmanager
def told(
    config: ConfigDict, devices: int = 1, how: str = "", *, evaluating: bool = False
) -> Iterator[None]:
    """Turns an allocator's error within the block into one line with the remedies.

    Args:
      config, devices, how: see `remedies`.
      evaluating: whether the block evaluates only.

    Raises:
      UserError: memory ran out.
    """

    def advise() -> str:
        what = of_evaluation(config)
        if evaluating:
            return what
        training = remedies(config, devices, how)
        return f"{training}; if an evaluation was under way, {what}"

    with told_with(advise):
        yield
