"""Metrics: NumPy functions of counts and maps.

Short names: `jaxseg.metrics.mean_iou(jaxseg.metrics.confusion_matrix(...))`; all functions are in
the modules here.
"""

import jaxseg

# Short name -> the module of this package that has it, and its name there if it is another.
_NAMES = {
    "confusion_matrix": "confusion:confusion",
    **dict.fromkeys(
        ("iou", "mean_iou", "pixel_accuracy", "class_accuracy", "frequency_weighted_iou"),
        "confusion",
    ),
    **dict.fromkeys(("boundary_counts", "boundary_iou"), "boundary"),
}
__getattr__ = jaxseg.short_names(__name__, _NAMES)


def __dir__() -> list[str]:
    return sorted({*globals(), *_NAMES})
