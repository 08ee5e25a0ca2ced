"""Networks: flax modules, and the pure functions made from them.

Short names: `jaxseg.networks.segmenter("deeplabv2", 19, "resnet101")`; everything is in the modules
here.
"""

import jaxseg

# Short name -> the module of this package that has it, and its name there if it is another.
_NAMES = {
    "Network": "network",
    **dict.fromkeys(("segmenter", "architectures", "backbones_of"), "named"),
}
__getattr__ = jaxseg.short_names(__name__, _NAMES)


def __dir__() -> list[str]:
    return sorted({*globals(), *_NAMES})
