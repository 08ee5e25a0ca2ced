"""Segmenters by name. An architecture is a module of this package with

- `make(num_classes, backbone, *, ..., own settings with defaults)`: a flax module whose
  `__call__(images, train)` returns {level: float32 array}. It takes those arguments of `OFFERED`
  that apply to it; any further keyword is a setting of its own, `config.net.<keyword>`;
- `BACKBONES`, optional: {name: ...} of its own backbones, if it does not use those that all others
  share (`backbones.build`).

Whether a setting can be given is read from the signatures: one that neither the architecture nor
its backbone has is refused.
"""

import functools
import importlib
import inspect
import pkgutil
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from flax import linen as nn

from jaxseg.errors import UserError
from jaxseg.models import segmenters
from jaxseg.models.backbones import build as backbones
from jaxseg.models.segmenters.hrda import at_two_scales

# - norm, axis_name, dtype: see `layers.Norm`;
# - remat: see `resnet.ResNet`;
# - trunk: the settings that are the backbone family's own.
OFFERED = ("norm", "axis_name", "dtype", "remat", "trunk")
# Settings in a config's `net` that every network has; all others are an architecture's own or its
# backbone's.
GENERAL = (
    *("architecture", "backbone", "norm", "dtype", "remat"),
    *("init_std", "statistics", "preprocess", "hrda"),
)

# Architectures whose levels lack 'features', the last map of the backbone.
WITHOUT_FEATURES = ("fcn", "unet")


@functools.cache
def _modules() -> dict[str, ModuleType]:
    found = [m.name for m in pkgutil.iter_modules(segmenters.__path__)]
    modules = {name: importlib.import_module(f"{segmenters.__name__}.{name}") for name in found}
    return {name: module for name, module in modules.items() if hasattr(module, "make")}


def find(architecture: str) -> ModuleType:
    """The module of an architecture; UserError that lists them for another name."""
    if architecture not in _modules():
        known = ", ".join(_modules())
        raise UserError(f"config.net.architecture={architecture!r}; choose one of {known}")
    return _modules()[architecture]


def names() -> list[str]:
    """The names of all architectures."""
    return list(_modules())


def backbones_of(architecture: str) -> list[str]:
    """The names that `net.backbone` may have."""
    return list(getattr(find(architecture), "BACKBONES", None) or backbones.names())


def settings_of(architecture: str, backbone: Any) -> dict[str, Any]:
    """{setting that the architecture or its backbone has: its default}.

    Raises:
      UserError: unknown architecture or backbone.
    """
    module, names = find(architecture), backbones_of(architecture)
    if isinstance(backbone, str) and backbone not in names:
        raise UserError(f"config.net.backbone={backbone!r}; choose one of {', '.join(names)}")
    own = backbones.own_settings(module.make, OFFERED)
    return own if hasattr(module, "BACKBONES") else backbones.settings_of(backbone) | own


def unused(net: Mapping[str, Any]) -> list[str]:
    """The settings in a config's `net` that its architecture and backbone do not have.

    Settings with the value None or False count as not set.

    Raises:
      UserError: unknown architecture or backbone.
    """
    known = settings_of(net["architecture"], net["backbone"])
    off = [key for key, value in net.items() if value is None or value is False]
    return [key for key in net if key not in (*GENERAL, *off, *known)]


def build(
    architecture: str,
    num_classes: int,
    backbone: Any,
    *,
    norm: str,
    axis_name: str | None,
    dtype: Any,
    remat: bool = False,
    hrda: tuple[int, int] | None = None,
    **given: Any,
) -> nn.Module:
    """A segmenter's module.

    Args:
      architecture: name of a module of this package.
      num_classes: K.
      backbone: one of `backbones_of(architecture)`, or the numbers themselves.
      others: see `OFFERED`.
      hrda: (height, width) of a window, for the segmenter at two scales: see `hrda.HRDA`.
      given: settings of the architecture's and the backbone's own; None is their default.

    Raises:
      UserError: unknown names, a setting that they do not have (the message lists those they have),
        or a value that cannot work.
    """
    module, known = find(architecture), settings_of(architecture, backbone)
    given = {key: value for key, value in given.items() if value is not None}
    own_trunk = hasattr(module, "BACKBONES")
    if given.get("aux") and (
        "aux" not in known or (not own_trunk and backbones.one_level(backbone))
    ):
        raise UserError(
            f"config.net: {architecture} of {backbone} has one output level: give "
            "--config.net.aux=False"
        )
    for key in unused(dict(given, architecture=architecture, backbone=backbone)):
        raise UserError(
            f"config.net.{key}={given[key]}: {architecture} of {backbone} has no such setting; it "
            f"has {', '.join(known) or 'none'}{_elsewhere(key)}"
        )
    if remat and (own_trunk or not backbones.has_remat(backbone)):
        raise UserError(
            f"config.net.remat=True: {architecture} of {backbone} has no blocks to compute again"
        )
    own = backbones.own_settings(module.make, OFFERED)
    trunk = {key: value for key, value in given.items() if key in known and key not in own}
    given = {key: value for key, value in given.items() if key in own}
    if not own_trunk:  # the module builds its trunk when traced; a mistake is told before
        family = backbones.family_of(backbone)
        family.make(backbones.sizes_of(backbone), output_stride=family.STRIDES[0], **trunk)
    offered = dict(norm=norm, axis_name=axis_name, dtype=dtype)
    if hrda:
        return at_two_scales(module, num_classes, backbone, hrda, remat, trunk, offered, given)
    offered |= dict(remat=remat, trunk=trunk)
    taken = inspect.signature(module.make).parameters
    offered = {key: value for key, value in offered.items() if key in taken}
    return module.make(num_classes, backbone, **offered, **given)


def _elsewhere(key: str) -> str:
    having = [n for n, m in _modules().items() if key in backbones.own_settings(m.make, OFFERED)]
    return f"; {key} is for {', '.join(having)}" if having else ""
