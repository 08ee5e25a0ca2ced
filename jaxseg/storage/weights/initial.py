"""Reads a file of initial weights for each architecture, and lists what it may lack."""

from collections.abc import Mapping

import numpy as np

from jaxseg.storage.weights import (
    hed,
    rename,
    rename_efficientnet,
    rename_torchvision,
    surgery,
    transformers,
)

HEADS = (r"^(params|stats)/((aux|main|depth|attention)_head|decoder)/",)


def to_ours(tensors: Mapping[str, np.ndarray], architecture: str) -> dict[str, np.ndarray]:
    """Renames and transposes the tensors of a file for a network of `architecture`.

    Args:
      tensors: {name: array} as `files.load` returns it.
      architecture: 'fcn' takes Caffe's AlexNet and VGG-16 (`surgery`) and torchvision's VGG-16,
        'deeplabv3' and 'deeplabv3plus' torchvision's ResNets and DeepLabV3, any other what
        `rename` knows. All take EfficientNet-Lite's weights, transformers', HED's and files of
        this project.

    Returns:
      {'params/<path>' or 'stats/<path>': array}; unknown names are kept unchanged.

    Raises:
      UserError: see `surgery.to_ours`.
    """
    if rename.flavour(tensors) == "ours":
        return dict(tensors)
    if rename_efficientnet.is_efficientnet(tensors):
        return rename_efficientnet.to_ours(tensors)
    if transformers.is_one(tensors):
        return transformers.to_ours(tensors)
    if hed.is_hed(tensors):
        return hed.to_ours(tensors)
    if architecture in ("deeplabv3", "deeplabv3plus"):
        return rename_torchvision.to_ours(tensors)
    if architecture == "fcn" and not any(name.startswith("features.") for name in tensors):
        return surgery.to_ours(tensors)
    return rename.to_ours(dict(tensors))


def excused(
    architecture: str, tensors: Mapping[str, np.ndarray] | tuple[()] = ()
) -> tuple[str, ...]:
    """Expressions for what may be left over, missing or of another shape: see `merge.merge`.

    The classifier and the heads; of an FCN the scores, but not fc6 and fc7.

    Args:
      architecture, tensors: see `to_ours`.
    """
    if transformers.is_one(tensors):
        return (*transformers.ENCODER_ONLY, *HEADS)
    if hed.is_hed(tensors):
        return hed.EXCUSED
    if architecture == "fcn":
        return surgery.CLASSIFIER_ONLY
    return (*rename.BACKBONE_ONLY, *HEADS, *rename_efficientnet.CLASSIFIER_ONLY)


def from_torchvision(tensors: Mapping[str, np.ndarray]) -> bool:
    """Whether a file looks like torchvision's ResNet or DeepLabV3."""
    plain = rename.flavour(tensors) == "torchvision"
    return plain or rename_torchvision.settings(tensors) is not None


def from_efficientnet(tensors: Mapping[str, np.ndarray]) -> bool:
    """Whether a file holds an EfficientNet-Lite."""
    return rename_efficientnet.is_efficientnet(tensors)


def from_transformer(tensors: Mapping[str, np.ndarray]) -> bool:
    """Whether a file holds a MiT, a DINOv2 or a DINOv3."""
    return transformers.is_one(tensors)


def from_hed(tensors: Mapping[str, np.ndarray]) -> bool:
    """Whether a file holds the VGG-16 of an edge detector, see `hed`."""
    return hed.is_hed(tensors)
