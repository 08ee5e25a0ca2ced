"""Converts names and layouts from PyTorch: torchvision's ResNets and VGG-16, and the references'
DeepLabV2.

torchvision: 'layer1.0.conv1.weight', 'bn1.running_mean', 'layer1.0.downsample.0.weight',
'fc.weight'. References (AdaptSegNet, ADVENT): the same trunk, heads 'layer5' (aux) and 'layer6'
(main) with 'conv2d_list.<branch>'. In their file of initial weights every name has a prefix
('Scale.layer1...'), and the only head, 'Scale.layer5', is for the classes of another data set.
`weights/vgg.py` has the names of VGG-16.
"""

import re
from collections.abc import Iterable

import numpy as np

from jaxseg.storage.weights import vgg

# Tensors that need not match: ImageNet's classifier, and heads for another set of classes. fc6 and
# fc7 fit 'vgg16_frontend'; in the other VGGs they keep their initial values, as in AdaptSegNet.
BACKBONE_ONLY = (
    r"(^|\.)(fc|classifier\.6)\.(weight|bias)$",
    r"^params/((aux|main|depth)_head|decoder)/",
    r"^params/backbone/fc[67]/",
)

_LEAVES = {
    "running_mean": "mean",
    "running_var": "var",
    "weight": "kernel",
    "bias": "bias",
}
_BLOCK = re.compile(r"(layer[1-4])\.(\d+)\.(conv[123]|bn[123]|downsample\.[01])\.(\w+)")
_STEM = re.compile(r"(conv1|bn1)\.(\w+)")
_HEAD = re.compile(r"(layer[56]|classifier)\.conv2d_list\.(\d+)\.(weight|bias)")
_PARTS = {"downsample.0": "downsample_conv", "downsample.1": "downsample_bn"}


def prefix_of(names: Iterable[str]) -> str:
    """The common prefix of all names, such as 'Scale.' in 'Scale.conv1.weight', or ''."""
    first = {name.split(".")[0] for name in names}
    return f"{first.pop()}." if len(first) == 1 and first != {"features"} else ""


def to_ours(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Renames and transposes the tensors of a ResNet, a VGG-16 or a DeepLabV2 on either.

    Args:
      tensors: {name: array} as `files.load` returns it. This project's names ('params/...',
        'stats/...') and unknown names are kept unchanged; `merge` reports the latter.

    Returns:
      {'params/<path>' or 'stats/<path>': array} with kernels [kh, kw, C, K].
    """
    prefix = prefix_of(tensors)
    bare = {name: name.removeprefix(prefix) for name in tensors}
    # The only head of a one-level network is 'layer5'; with two levels that is the auxiliary head.
    two_levels = any(name.startswith("layer6.") for name in bare.values())
    heads = {
        "layer5": "aux_head" if two_levels else "main_head",
        "layer6": "main_head",
        "classifier": "main_head",
    }
    numbering = vgg.numbering(bare.values())
    renamed = {}
    for name, array in tensors.items():
        if "/" in name:
            renamed[name] = array
            continue
        target = _target(bare[name], heads)
        if target is None and numbering:
            target = vgg.target(bare[name], numbering)
        if target is not None and target.endswith("/kernel"):
            if array.ndim == 2 and numbering:
                array = vgg.as_convolution(array, target)
            if array.ndim == 4:
                array = np.ascontiguousarray(array.transpose(2, 3, 1, 0))
            else:
                target = None
        renamed[target or name] = array
    return renamed


def flavour(tensors: Iterable[str]) -> str:
    """Guesses the origin of a weights file from its names.

    Origins differ in ways that names and shapes do not show: torchvision's trunk strides in the 3x3
    convolutions and was trained on normalised RGB; the references' strides in the first 1x1 and
    takes BGR in 0..255 minus the mean, as in Caffe.

    Args:
      tensors: the names, or the dictionary, that `files.load` returns.

    Returns:
      'ours': names of this project.
      'reference': the references' DeepLabV2, or one fine-tuned from it: heads named 'conv2d_list',
        or the prefix 'Scale.'.
      'torchvision': a ResNet with classifier and names without prefix ('conv1.weight',
        'fc.weight'). A conversion of Caffe's ResNet that kept the classifier looks the same: a
        reason to warn, not to refuse.
      'unknown': anything else, such as a trunk without classifier and heads, for which torchvision
        and Caffe conversions share every name and shape, and every VGG-16 with ImageNet's
        classifier, because Caffe's is often published with torchvision's names.
    """
    names = set(tensors)
    if any(name.startswith(("params/", "stats/")) for name in names):
        return "ours"
    if any(_HEAD.search(name) for name in names) or (
        names and all(name.startswith("Scale.") for name in names)
    ):
        return "reference"
    if {"conv1.weight", "layer1.0.conv1.weight", "fc.weight"} <= names:
        return "torchvision"
    return "unknown"


def _target(name: str, heads: dict[str, str]) -> str | None:
    if match := _HEAD.fullmatch(name):
        head, branch, leaf = match.groups()
        return f"params/{heads[head]}/branch{branch}/{_LEAVES[leaf]}"
    if match := _BLOCK.fullmatch(name):
        stage, block, part, leaf = match.groups()
        module = f"backbone/{stage}_block{block}/{_PARTS.get(part, part)}"
    elif match := _STEM.fullmatch(name):
        part, leaf = match.groups()
        module = f"backbone/{part}"
    else:
        return None
    if leaf not in _LEAVES:
        return None
    kind = "stats" if leaf.startswith("running_") else "params"
    norm = "bn" in module.split("/")[-1]
    leaf = "scale" if norm and leaf == "weight" else _LEAVES[leaf]
    return f"{kind}/{module}/{leaf}"
