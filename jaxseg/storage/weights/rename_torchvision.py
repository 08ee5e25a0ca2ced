"""torchvision's DeepLabV3 in this project's names and layouts.

torchvision: the ResNet under 'backbone.'; the pyramid 'classifier.0.convs.<branch>.<layer>' with a
1x1 branch 0, dilated branches and image pooling as the last; 'classifier.0.project', the 3x3 in
'classifier.1' and '.2', logits in 'classifier.4'; the head on the third stage 'aux_classifier'.
"""

import re
from collections.abc import Mapping

import numpy as np

from jaxseg.storage.weights import rename

_BRANCH = re.compile(r"classifier\.0\.convs\.(\d+)\.(\d)\.(\w+)")
_LAYER = re.compile(r"(?:classifier\.0\.(project)|(classifier)|(aux_classifier))\.(\d)\.(\w+)")
_CLASSIFIER = {"1": "refine/conv", "2": "refine/bn", "4": "logits"}
_AUXILIARY = {"0": "refine/conv", "1": "refine/bn", "4": "logits"}
_LEAVES = {"running_mean": "mean", "running_var": "var", "weight": "kernel", "bias": "bias"}


def to_ours(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Renames and transposes the tensors of a DeepLabV3 or a ResNet.

    Args:
      tensors: {name: array} as `files.load` returns it. Names that are not understood stay as they
        are, for `merge` to report; so do those of a ResNet's classifier ('fc.weight').

    Returns:
      {'params/<path>' or 'stats/<path>': array} with kernels [kh, kw, C, K].
    """
    matches = [match for name in tensors if (match := _BRANCH.fullmatch(name))]
    # Pooling comes first in its branch, so that its norm is number 2.
    pooled = {match[1] for match in matches if match[2] == "2"}
    renamed, trunk = {}, {}
    for name, array in tensors.items():
        target = _target(name, pooled)
        if target is None:
            trunk[name.removeprefix("backbone.")] = array
        elif not target.endswith("/kernel"):
            renamed[target] = array
        elif array.ndim == 4:
            renamed[target] = np.ascontiguousarray(array.transpose(2, 3, 1, 0))
        else:
            renamed[name] = array
    return {**rename.to_ours(trunk), **renamed}


def settings(tensors: Mapping[str, np.ndarray]) -> dict[str, object] | None:
    """The `models.deeplabv3.DeepLabV3` that a file was made for.

    Args:
      tensors: {name: array} as `files.load` returns it.

    Returns:
      {'num_classes', 'backbone', 'rates', 'aux', 'stride_in', 'preprocess'}, or None when the names
      are not those of torchvision's DeepLabV3. The file does not tell its rates, nor its
      normalisation of images; they are torchvision's.
    """
    logits = tensors.get("classifier.4.weight")
    if logits is None or "classifier.0.convs.0.0.weight" not in tensors:
        return None
    deep = "backbone.layer3.22.conv1.weight" in tensors
    return {
        "num_classes": int(logits.shape[0]),
        "backbone": "resnet101" if deep else "resnet50",
        "rates": (12, 24, 36),
        "aux": any(name.startswith("aux_classifier.") for name in tensors),
        "stride_in": "3x3",
        "preprocess": "imagenet",
    }


def _target(name: str, pooled: set[str]) -> str | None:
    """Path of a head's tensor; the branch whose number is in `pooled` pools the image."""
    if match := _BRANCH.fullmatch(name):
        branch, layer, leaf = match[1], int(match[2]), match[3]
        if branch in pooled:
            module, layer = "main_head/pooling", layer - 1
        else:
            module = f"main_head/branch{branch}"
        part = {0: f"{module}/conv", 1: f"{module}/bn"}.get(layer)
    elif match := _LAYER.fullmatch(name):
        project, main, _, layer, leaf = match.groups()
        if project:
            part = {"0": "main_head/project/conv", "1": "main_head/project/bn"}.get(layer)
        else:
            head, table = ("main_head", _CLASSIFIER) if main else ("aux_head", _AUXILIARY)
            part = f"{head}/{table[layer]}" if layer in table else None
    else:
        return None
    if part is None or leaf not in _LEAVES:
        return None
    kind = "stats" if leaf.startswith("running_") else "params"
    scale = part.endswith("/bn") and leaf == "weight"
    return f"{kind}/{part}/{'scale' if scale else _LEAVES[leaf]}"
