"""EfficientNet-Lite's published weights in this project's names and layouts.

Their names come from PyTorch: '_conv_stem' and '_bn0'; '_blocks.<n>.' with '_expand_conv' and
'_bn0', '_depthwise_conv' and '_bn1', '_project_conv' and '_bn2'; for the classifier '_conv_head',
'_bn1' and '_fc'.
"""

import re
from collections.abc import Mapping

import numpy as np

# The classifier, which a segmenter has no use for.
CLASSIFIER_ONLY = (r"^params/(head_conv|head_bn|fc)/", r"^stats/head_bn/")

_BLOCK = re.compile(r"_blocks\.(\d+)\.(\w+)\.(\w+)")
_OUTER = re.compile(r"(_conv_stem|_bn0|_conv_head|_bn1|_fc)\.(\w+)")
_BLOCK_PARTS = {
    **{f"_{part}_conv": f"{part}_conv" for part in ("expand", "depthwise", "project")},
    **{"_bn0": "expand_bn", "_bn1": "depthwise_bn", "_bn2": "project_bn"},
}
_OUTER_PARTS = {
    **{"_conv_stem": "backbone/stem_conv", "_bn0": "backbone/stem_bn"},
    **{"_conv_head": "head_conv", "_bn1": "head_bn", "_fc": "fc"},
}
_LEAVES = {"running_mean": "mean", "running_var": "var", "weight": "kernel", "bias": "bias"}


def is_efficientnet(tensors: Mapping[str, np.ndarray]) -> bool:
    """Whether the names are EfficientNet's."""
    return "_conv_stem.weight" in tensors and "_blocks.0._depthwise_conv.weight" in tensors


def to_ours(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Renames and transposes the tensors of an EfficientNet-Lite.

    Args:
      tensors: {name: array} as `files.load` returns it. A block without expansion has no
        '_expand_conv', and its '_bn0' is then missing too. Names that are not understood stay as
        they are, for `merge` to report.

    Returns:
      {'params/<path>' or 'stats/<path>': array}: kernels [kh, kw, C, K], depthwise ones
      [kh, kw, 1, C], the classifier's matrix [C, K].
    """
    renamed = {}
    for name, array in tensors.items():
        target = _target(name)
        if target is None:
            renamed[name] = array
        elif target.endswith("/kernel"):
            array = array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T
            renamed[target] = np.ascontiguousarray(array)
        else:
            renamed[target] = array
    return renamed


def _target(name: str) -> str | None:
    if match := _BLOCK.fullmatch(name):
        number, part, leaf = match.groups()
        part = _BLOCK_PARTS.get(part)
        part = part and f"backbone/block{number}/{part}"
    elif match := _OUTER.fullmatch(name):
        part, leaf = _OUTER_PARTS[match[1]], match[2]
    else:
        return None
    if not part or leaf not in _LEAVES:
        return None
    kind = "stats" if leaf.startswith("running_") else "params"
    scale = part.endswith("_bn") and leaf == "weight"
    return f"{kind}/{part}/{'scale' if scale else _LEAVES[leaf]}"
