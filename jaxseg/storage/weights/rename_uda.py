"""Checkpoints of self-training: which of their networks is the one that is evaluated.

DAFormer, HRDA and MIC save the student as 'model.', its moving average, the teacher, as
'ema_model.', and the frozen ImageNet network of the feature distance as 'imnet_model.'; VFM-UDA
'network.', 'network_ema.' and others. All evaluate the student.
"""

from typing import NamedTuple

import numpy as np

from jaxseg.storage.weights.tables import Tensors, without

STUDENTS = ("model.", "network.")
OTHERS = {
    "ema_model.": "teacher",
    "imnet_model.": "ImageNet network",
    "network_ema.": "teacher",
    "network_feature_extractor.": "feature extractor",
}


class Networks(NamedTuple):
    """What a checkpoint of self-training holds.

    Attributes:
      student: its tensors, without their prefix.
      others: {what it is: how many tensors}, in the order of the file.
    """

    student: dict[str, np.ndarray]
    others: dict[str, int]


def networks(tensors: Tensors) -> Networks | None:
    """The student of a checkpoint, and what else is in it.

    Args:
      tensors: {name: array} as `files.load` returns it.

    Returns:
      None where no name begins as a student's does.
    """
    prefix = next((p for p in STUDENTS if any(name.startswith(p) for name in tensors)), None)
    if prefix is None:
        return None
    others: dict[str, int] = {}
    for name in tensors:
        if not name.startswith(prefix):
            first = next((what for p, what in OTHERS.items() if name.startswith(p)), "other")
            others[first] = others.get(first, 0) + 1
    return Networks(without(tensors, prefix), others)
