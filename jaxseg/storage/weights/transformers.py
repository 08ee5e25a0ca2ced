"""Weights of transformers, and checkpoints of self-training on them: which network a file was made
for, and its tensors under this project's names.
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxseg.errors import UserError
from jaxseg.models.backbones import dinov2, dinov3, mit
from jaxseg.storage.weights import rename_dino, rename_mit, rename_uda
from jaxseg.storage.weights.tables import Tensors

UNREAD = (*rename_mit.UNREAD, *rename_dino.UNREAD)
ENCODER_ONLY = (*rename_mit.ENCODER_ONLY, *rename_dino.ENCODER_ONLY, *rename_mit.UNREAD)
WINDOW = (512, 512)  # HRDA's and MIC's; a file does not tell it
SIZES_OF_HRDA = "made for the image sizes of the presets with +hrda"

UNPUBLISHED = r"main_head\.(fuse_layer\.(in_conv|global_relation)|embed_layers\.3\.[01])\."

ONE_LEVEL = dict(aux=False, depth=False, fusion=False, hrda=None)


class Found(NamedTuple):
    """What a file was made for.

    Attributes:
      net: settings of `config.net`; without 'architecture' where it is an encoder alone.
      num_classes: of its head, 0 without one.
      origin: what was concluded, in words.
    """

    net: dict[str, Any]
    num_classes: int
    origin: str


def student(tensors: Tensors) -> Mapping[str, np.ndarray]:
    """The tensors of the network that is evaluated: of a checkpoint of self-training the student's
    alone, without their prefix.
    """
    found = rename_uda.networks(tensors)
    return tensors if found is None else found.student


def is_one(tensors: Tensors) -> bool:
    """Whether the file is of a MiT, a DINOv2 or a DINOv3, with or without a head."""
    names = student(tensors)
    return rename_mit.is_mit(names) or rename_dino.is_dino(names)


def to_ours(tensors: Tensors) -> dict[str, np.ndarray]:
    """{'params/<path>' or 'stats/<path>': array} of the network that is evaluated; see
    `rename_mit.to_ours` and `rename_dino.to_ours`.
    """
    own = student(tensors)
    return (rename_mit if rename_mit.is_mit(own) else rename_dino).to_ours(own)


def recognise(tensors: Tensors) -> Found:
    """The network that a file was made for, and what else is in the file.

    Args:
      tensors: a file for which `is_one` holds.

    Raises:
      UserError: an encoder of no known size, or a head that is not known.
    """
    own = student(tensors)
    found = _mit(own) if rename_mit.is_mit(own) else _dino(own)
    others = getattr(rename_uda.networks(tensors), "others", {})
    if not others:
        return found
    beside = ", ".join(f"{what} ({count} tensors)" for what, count in others.items())
    return found._replace(origin=f"{found.origin}; the student of it, beside it: {beside}")


def _mit(tensors):
    own = rename_mit.to_nvidia(tensors)
    encoder = {name.removeprefix("backbone."): array for name, array in own.items()}
    widths = tuple(len(encoder[f"patch_embed{stage}.proj.bias"]) for stage in range(1, 5))
    blocks = tuple(_count(encoder, rf"block{stage}\.(\d+)\.") for stage in range(1, 5))
    backbone = _name_of(mit.SIZES, (widths, blocks), "MiT", lambda s: (s.widths, s.blocks))
    net, label = dict(backbone=backbone, norm="local", preprocess="imagenet"), _label(backbone)
    if "main_head.linear_pred.weight" in own:
        net |= dict(architecture="segformer")
        net |= dict(channels=len(own["main_head.linear_fuse.bn.bias"]))
        logits, name = own["main_head.linear_pred.bias"], f"SegFormer on {label}"
    elif "main_head.fusion_conv.bn.bias" in own:
        net |= dict(architecture="segformer", embed="conv")
        net |= dict(channels=len(own["main_head.fusion_conv.bn.bias"]))
        logits, name = own["main_head.conv_seg.bias"], f"mmsegmentation's SegFormer on {label}"
    elif first := next((name for name in own if re.match(UNPUBLISHED, name)), None):
        raise UserError(
            f"weights: DAFormer on {label} with ISA fusion or with context on the last stage alone "
            f"({first}): ablations of its paper, of which no weights were published, and which are "
            "not built here"
        )
    elif "main_head.embed_layers.0.proj.bias" in own:
        context = "sepaspp" if any(".depthwise_conv." in name for name in own) else "aspp"
        context = context if "main_head.fuse_layer.bottleneck.bn.bias" in own else "conv1"
        net |= dict(architecture="daformer", context=context)
        net |= dict(channels=len(own["main_head.embed_layers.0.proj.bias"]))
        logits, name = own["main_head.conv_seg.bias"], f"DAFormer on {label}"
    elif any(name.startswith("main_head.") for name in own):
        first = next(name for name in own if name.startswith("main_head."))
        raise UserError(f"weights: a head that is not known ({first}) on {label}")
    else:
        return Found(net, 0, f"{label} without a head")
    net |= ONE_LEVEL
    if any(name.startswith("attention_head.") for name in own):
        net, name = net | dict(hrda=WINDOW), f"{name} at two scales (HRDA), {SIZES_OF_HRDA}"
    return Found(net, len(logits), f"{name}, {len(logits)} classes")


def _dino(tensors):
    own = rename_dino.to_own(tensors)
    table = own.get("backbone.pos_embed")
    registers = any(name.endswith("register_tokens") for name in own)
    numbers = (
        own["backbone.cls_token"].shape[-1],
        _count(own, r"backbone\.blocks\.(\d+)\."),
        any(re.search(r"\.mlp\.(w3|gate)\.", name) for name in own),
        registers and table is not None,
    )
    sizes, family = (dinov3.SIZES, "DINOv3") if table is None else (dinov2.SIZES, "DINOv2")
    backbone = _name_of(
        sizes, numbers, family,
        lambda s: (s.width, s.blocks, s.gated, s.registers > 0 and s.side > 0),
    )  # fmt: skip
    net, label = dict(backbone=backbone, preprocess="imagenet"), _label(backbone)
    logits = own.get("main_head.out.weight")
    if logits is None:
        return Found(net, 0, f"{label} without a head")
    net |= dict(architecture="vfm", **ONE_LEVEL)
    return Found(net, len(logits), f"VFM-UDA on {label}, {len(logits)} classes")


def _name_of(sizes, numbers, family, of):
    names = [name for name, each in sizes.items() if of(each) == numbers]
    if not names:
        told = ", ".join(map(str, numbers))
        raise UserError(f"weights: a {family} of sizes ({told}) is none of {', '.join(sizes)}")
    return names[0]


def _count(names, pattern):
    return len({match[1] for name in names if (match := re.match(pattern, name))})


def _label(backbone):
    family, _, size = backbone.partition("_")
    return f"{dict(mit='MiT', dinov2='DINOv2', dinov3='DINOv3')[family]} {size}"
