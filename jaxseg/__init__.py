"""jaxseg: unsupervised domain adaptation for semantic segmentation, in pure JAX.

`jaxseg.load` gives a trained network; `jaxseg.losses`, `jaxseg.metrics` and `jaxseg.networks` have
short names for what methods are built from. Nothing is imported before it is used.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

# Public name -> the module that has it, and its name there; a name alone is a module.
_NAMES = {
    "load": "jaxseg.run.segment:load",
    "Model": "jaxseg.run.segment:Model",
    "Segmentation": "jaxseg.run.segment:Segmentation",
    "Method": "jaxseg.engine.method:Method",
    "State": "jaxseg.engine.method:State",
    "Carry": "jaxseg.engine.method:Carry",
    "UserError": "jaxseg.errors:UserError",
    "losses": "jaxseg.losses",
    "metrics": "jaxseg.evaluation.metrics",
    "networks": "jaxseg.models",
}
__all__ = [*_NAMES]


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first asked for."""
    if name not in _NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, there = _NAMES[name].partition(":")
    found = importlib.import_module(module)
    globals()[name] = value = getattr(found, there) if there else found
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_NAMES})
