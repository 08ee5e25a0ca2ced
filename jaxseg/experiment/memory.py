"""What to do about an experiment that does not fit into memory: the settings that help."""

import contextlib
from collections.abc import Iterator

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
    smaller = [] if train.batch == 1 else [f"config.train.batch={train.batch}"]
    side = "source" if tuple(config.augment.source.crop) else "target"
    if side == "source":
        smaller.append(f"config.augment.source.crop={tuple(config.augment.source.crop)}")
    else:
        smaller.append(f"config.data.target.size={tuple(config.data.target.size)}")
    parts.append(f"a smaller {' or '.join(smaller)}")
    if not config.net.remat and _has_remat(config.net):
        parts.append("--config.net.remat=True (more time)")
    if config.net.dtype == "float32" and routes.current() != "cpu":  # a CPU computes in float32
        parts.append("--config.net.dtype=bfloat16")
    return "try " + ", ".join(parts[:-1]) + f" or {parts[-1]}" if parts[1:] else f"try {parts[0]}"


def _has_remat(net: ConfigDict) -> bool:
    own_trunk = hasattr(segmenters.find(net.architecture), "BACKBONES")
    return not own_trunk and backbones.has_remat(net.backbone)


def of_evaluation(config: ConfigDict) -> str:
    """The settings that make an evaluation need less memory, with the values they have now."""
    smaller = [] if config.eval.batch == 1 else [f"config.eval.batch={config.eval.batch}"]
    smaller.append(f"config.data.target.size={tuple(config.data.target.size)}")
    window = "" if tuple(config.eval.window) else ", or a sliding --config.eval.window=HEIGHT,WIDTH"
    return f"try a smaller {' or '.join(smaller)}{window}"


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
    try:
        yield
    except Exception as error:
        said = memory.ran_out(error)
        if not said:
            raise
        what = of_evaluation(config)
        if not evaluating:
            what = f"{remedies(config, devices, how)}; if an evaluation was under way, {what}"
        raise UserError(f"memory ran out ({said}): {what}") from error
