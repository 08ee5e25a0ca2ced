"""Backbones by name. Each family is a module of this package; segmenters depend on no family.

A family has

- `SIZES`: {name: the numbers of a trunk}, all of one NamedTuple class `Sizes`; no two families
  share a name;
- `STRIDES`: the strides that its last stage may have;
- `make(sizes, *, output_stride, ..., name)`: a flax module whose `__call__(x, train)` maps
  normalised [N, H, W, 3] to `stages.Stages`. It takes those arguments of `OFFERED` that apply to
  it; any further keyword is a setting of its own, `config.net.<keyword>`, with a default;
- `FROM_SCRATCH`, optional: names that are meant to be trained from scratch;
- `ONE_LEVEL`, optional: True if no auxiliary head goes with it.
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
from jaxseg.models import backbones

# What segmenters offer to every family:
# - norm, axis_name, dtype: see `layers.Norm`;
# - initial: 'reference', first values of networks that are loaded afterwards, or 'he', those that
#   train from scratch;
# - conventions: 'caffe' or 'torchvision', whose padding and dilation the published weights expect;
# - remat: whether blocks are computed again in the backward pass.
OFFERED = ("norm", "axis_name", "dtype", "initial", "conventions", "remat")
Backbone = Any  # a name, or a family's `Sizes`


@functools.cache
def _modules() -> tuple[ModuleType, ...]:
    found = [m.name for m in pkgutil.iter_modules(backbones.__path__)]
    modules = [importlib.import_module(f"{backbones.__name__}.{name}") for name in found]
    return tuple(m for m in modules if hasattr(m, "make") and hasattr(m, "SIZES"))


def names() -> list[str]:
    """The names of all backbones, family by family."""
    return [name for family in _modules() for name in family.SIZES]


def family_of(backbone: Backbone) -> ModuleType:
    """The module that a backbone belongs to.

    Raises:
      UserError: no family has it.
    """
    for family in _modules():
        named = isinstance(backbone, str)
        if backbone in family.SIZES if named else isinstance(backbone, family.Sizes):
            return family
    raise UserError(f"config.net.backbone={backbone!r}; choose one of {', '.join(names())}")


def sizes_of(backbone: Backbone) -> Any:
    """The sizes of a backbone, given by name or as `Sizes`."""
    return family_of(backbone).SIZES[backbone] if isinstance(backbone, str) else backbone


def settings_of(backbone: Backbone) -> dict[str, Any]:
    """{setting that only this family has: its default}."""
    return own_settings(family_of(backbone).make, ("output_stride", "name", *OFFERED))


def own_settings(make: Any, shared: tuple[str, ...]) -> dict[str, Any]:
    """{keyword of `make` that is not shared: its default}."""
    return {
        name: parameter.default
        for name, parameter in inspect.signature(make).parameters.items()
        if name not in shared and parameter.default is not parameter.empty
    }


def has_remat(backbone: Backbone) -> bool:
    """Whether it can recompute its blocks in the backward pass."""
    return "remat" in inspect.signature(family_of(backbone).make).parameters


def one_level(backbone: Backbone) -> bool:
    """Whether it allows no auxiliary head."""
    return getattr(family_of(backbone), "ONE_LEVEL", False)


def initial_of(backbone: Backbone) -> str:
    """'he' for backbones to be trained from scratch and those without a name, else 'reference'."""
    if not isinstance(backbone, str):
        return "he"
    return "he" if backbone in getattr(family_of(backbone), "FROM_SCRATCH", ()) else "reference"


def stride_of(backbone: Backbone, wanted: int | None, usual: tuple[int, ...], what: str) -> int:
    """An output stride for a segmenter.

    Args:
      backbone: a name or `Sizes`.
      wanted: `config.net.output_stride`; None for the first of `usual`, or what the backbone has
        that comes closest.
      usual: the strides that the segmenter is meant for.
      what: the segmenter, for messages.

    Raises:
      UserError: the stride is not usual, or, if the backbone has no usual stride, not one of its.
    """
    strides = family_of(backbone).STRIDES
    choices = [stride for stride in usual if stride in strides] or list(strides)
    if wanted is None:
        return min(choices, key=lambda stride: abs(stride - usual[0]))
    if wanted not in choices:
        raise UserError(
            f"config.net.output_stride={wanted}; {what} has {', '.join(map(str, choices))}"
        )
    return wanted


def build(
    backbone: Backbone,
    *,
    output_stride: int,
    norm: str,
    axis_name: str | None,
    dtype: Any,
    initial: str,
    conventions: str,
    remat: bool = False,
    own: Mapping[str, Any] | tuple = (),
    name: str | None = "backbone",
) -> nn.Module:
    """A backbone to be called within a segmenter's compact `__call__`, or by itself.

    Args:
      backbone: a name, or a family's `Sizes`.
      output_stride: of its last stage.
      others: see `OFFERED`. What means nothing to the family is not passed on: norms to one without
        norms; but `remat` is refused, which would change nothing.
      own: settings of the family's own, as a mapping or its items.
      name: of its parameters' group.

    Returns:
      A module whose `__call__(x, train)` returns `stages.Stages`.

    Raises:
      UserError: unknown name or setting, or a stride that it does not have.
    """
    family, own = family_of(backbone), dict(own)
    label = family.__name__.rpartition(".")[2]
    if output_stride not in family.STRIDES:
        raise UserError(
            f"config.net.output_stride={output_stride}; {backbone} has "
            f"{', '.join(map(str, family.STRIDES))}"
        )
    if remat and not has_remat(backbone):
        raise UserError(f"config.net.remat=True: {label} has no blocks to compute again")
    known = settings_of(backbone)
    for key in own:
        if key not in known:
            raise UserError(f"config.net.{key}: {label} has {', '.join(known) or 'no settings'}")
    offered = dict(
        norm=norm, axis_name=axis_name, dtype=dtype, initial=initial, conventions=conventions,
        remat=remat,
    )  # fmt: skip
    taken = inspect.signature(family.make).parameters
    offered = {key: value for key, value in offered.items() if key in taken}
    return family.make(sizes_of(backbone), output_stride=output_stride, **offered, **own, name=name)
