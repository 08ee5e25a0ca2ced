"""Networks: flax modules, and the pure functions made from them.

Short names: `jaxseg.networks.segmenter("deeplabv2", 19, "resnet101")`; everything is in the modules
here.
"""

import importlib
from typing import Any

# Short name -> the module of this package that has it, and its name there if it is another.
_NAMES = {
    "Network": "network",
    **dict.fromkeys(("segmenter", "architectures", "backbones_of"), "named"),
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
