"""Losses as plain functions: arrays in, un-reduced arrays out.

Most can be called by a short name, `jaxseg.losses.cross_entropy`; all are in the modules here.
"""

import importlib
from typing import Any

# Short name -> the module of this package that has it, and its name there if it is another.
_NAMES = {
    **dict.fromkeys(("cross_entropy", "weighted_cross_entropy", "focal", "ohem"), "segmentation"),
    **dict.fromkeys(("dice", "lovasz_softmax"), "region"),
    "self_information": "entropy",
    "entropy_map": "entropy:entropy",
    **dict.fromkeys(("vanilla", "least_squares", "r1"), "adversarial"),
    **dict.fromkeys(("class_prior", "size_constraints"), "class_ratio"),
    "class_weights": "balance",
    "berhu": "depth",
}


def __getattr__(name: str) -> Any:
    """Imports a short name, or a module of this package, when it is first asked for."""
    if name in _NAMES:
        module, _, there = _NAMES[name].partition(":")
        return getattr(importlib.import_module(f"{__name__}.{module}"), there or name)
    try:
        return importlib.import_module(f"{__name__}.{name}")
    except ModuleNotFoundError as error:
        if error.name != f"{__name__}.{name}":
            raise
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_NAMES})
