"""Converts the names and layouts of CycleGAN's published generators and discriminators.

A generator is one PyTorch `nn.Sequential`, so that its tensors are numbered by the layers before
them, padding and activations included: 'model.1' is the first convolution, 'model.4' and 'model.7'
halve the size, 'model.10' and the following are residual blocks ('conv_block.1', and 'conv_block.5'
or, with dropout, 6), then two transposed convolutions and the last one. Older files also hold
running statistics of the instance norms, which the authors' own loader ignores.
"""

import re
from collections.abc import Mapping

import numpy as np

_BLOCK = re.compile(r"model\.(\d+)\.conv_block\.(\d+)\.(weight|bias)")
_LAYER = re.compile(r"model\.(\d+)\.(weight|bias)")
_UNUSED = re.compile(r"\.(running_mean|running_var|num_batches_tracked)$")


def is_generator(tensors: Mapping[str, np.ndarray]) -> bool:
    """Whether the names are those of CycleGAN's residual generator."""
    return {"model.1.weight", "model.4.weight"} <= set(tensors) and any(
        map(_BLOCK.fullmatch, tensors)
    )


def sizes(tensors: Mapping[str, np.ndarray]) -> tuple[int, int]:
    """(width, number of residual blocks) of a generator's file."""
    blocks = {match[1] for name in tensors if (match := _BLOCK.fullmatch(name))}
    return len(tensors["model.1.weight"]), len(blocks)


def generator(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A generator's tensors as {'params/<layer>/<leaf>': array} for `models.cyclegan.Generator`.

    Names that are unknown are kept, for `merge` to report.
    """
    _, blocks = sizes(tensors)
    after = 10 + blocks
    layers = {1: "first", 4: "down1", 7: "down2", after: "up1", after + 3: "up2", after + 7: "last"}
    renamed = {}
    for name, array in tensors.items():
        if _UNUSED.search(name):
            continue
        layer = None
        if match := _BLOCK.fullmatch(name):
            place = 1 if match[2] == "1" else 2
            layer, leaf = f"block{int(match[1]) - 9}_conv{place}", match[3]
        elif match := _LAYER.fullmatch(name):
            layer, leaf = layers.get(int(match[1])), match[2]
        if layer is None:
            renamed[name] = array
            continue
        if leaf == "weight":  # a transposed convolution has its inputs first, others outputs
            order = (2, 3, 0, 1) if layer.startswith("up") else (2, 3, 1, 0)
            array = np.ascontiguousarray(array.transpose(order))
        renamed[f"params/{layer}/{'kernel' if leaf == 'weight' else 'bias'}"] = array
    return renamed


def discriminator(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A discriminator's tensors for `models.cyclegan.PatchGan`, whose convolutions are counted."""
    numbers = sorted({int(match[1]) for name in tensors if (match := _LAYER.fullmatch(name))})
    renamed = {}
    for name, array in tensors.items():
        if (match := _LAYER.fullmatch(name)) is None:
            if not _UNUSED.search(name):
                renamed[name] = array
            continue
        layer = f"params/conv{numbers.index(int(match[1])) + 1}"
        if match[2] == "weight":
            renamed[f"{layer}/kernel"] = np.ascontiguousarray(array.transpose(2, 3, 1, 0))
        else:
            renamed[f"{layer}/bias"] = array
    return renamed
