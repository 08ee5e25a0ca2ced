"""jaxseg: unsupervised domain adaptation for semantic segmentation, in pure JAX.

`jaxseg.load` gives a trained network; `jaxseg.losses`, `jaxseg.metrics` and `jaxseg.networks` have
short names for what methods are built from. Nothing is imported before it is used.
"""

import importlib
from collections.abc import Callable, Mapping
from typing import Any

__version__ = "0.1.0"


def short_names(package: str, names: Mapping[str, str]) -> Callable[[str], Any]:
    """Returns a package's `__getattr__`: its short names, and its modules by their own names, which
    are imported when they are first asked for.

    Args:
      package: its full name, `__name__`.
      names: short name -> the module below the package that has it; after a colon the name it has
        there, if that is another. A colon with nothing behind it is the module itself.

    Returns:
      a function from a name to what it stands for; it raises AttributeError for an unknown one.
    """

    def find(name: str) -> Any:
        if name in names:
            module, colon, there = names[name].partition(":")
            found = importlib.import_module(f"{package}.{module}")
            return found if colon and not there else getattr(found, there or name)
        try:
            return importlib.import_module(f"{package}.{name}")
        except ModuleNotFoundError as error:
            if error.name != f"{package}.{name}":
                raise
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return find


# Public name -> the module that has it, see `short_names`.
_NAMES = {
    "load": "run.segment",
    "Model": "run.segment",
    "Segmentation": "run.segment",
    "Method": "engine.method",
    "State": "engine.method",
    "Carry": "engine.method",
    "UserError": "errors",
    "losses": "losses:",
    "metrics": "evaluation.metrics:",
    "networks": "models:",
}
__all__ = [*_NAMES]
__getattr__ = short_names(__name__, _NAMES)


def __dir__() -> list[str]:
    return sorted({*globals(), *_NAMES})
