"""Losses as plain functions: arrays in, un-reduced arrays out.

Most can be called by a short name, `jaxseg.losses.cross_entropy`; all are in the modules here.
"""

import jaxseg

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
__getattr__ = jaxseg.short_names(__name__, _NAMES)


def __dir__() -> list[str]:
    return sorted({*globals(), *_NAMES})
