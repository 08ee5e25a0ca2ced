"""DINOv2's and DINOv3's transformers, and VFM-UDA's head, in this project's names and layouts.

The names of their own repositories ('blocks.0.attn.qkv.weight') and Hugging Face's
('encoder.layer.0.attention.attention.query.weight' of DINOv2, 'layer.0.attention.q_proj.weight' of
DINOv3).
"""

import math
import re
from collections.abc import Iterable

import numpy as np

from jaxseg.errors import UserError
from jaxseg.storage.weights.tables import (
    ALONE,
    LINEAR,
    NORM,
    TRANSPOSED,
    Rule,
    Tensors,
    renamed,
    stacked,
    translate,
)

# What files hold in vain: DINOv3's buffers, whose values are known beforehand, and a LayerNorm of
# its training; VFM-UDA's second name for the mask token. What a file of an encoder lacks.
UNREAD = (r"rope_embed\.periods$", r"qkv\.bias_mask$", r"local_cls_norm\.", r"token_masking\.")
ENCODER_ONLY = (*UNREAD, r"^(params|stats)/main_head/")

_BLOCK, _OURS = r"backbone\.blocks\.(\d+)\.", "backbone/block{0}/"
RULES = (
    Rule(r"backbone\.patch_embed\.proj", "backbone/patch_embed", LINEAR),
    Rule(
        r"backbone\.(cls_token|cls_position|positions|mask_token|registers)", "backbone/{0}", ALONE
    ),
    Rule(_BLOCK + "(norm[12])", _OURS + "{1}", NORM),
    Rule(_BLOCK + r"attn\.(qkv|proj)", _OURS + "{1}", LINEAR),
    Rule(_BLOCK + r"ls([12])\.gamma", _OURS + "scale{1}", ALONE),
    Rule(_BLOCK + r"mlp\.(fc1|fc2|gate)", _OURS + "{1}", LINEAR),
    Rule(r"backbone\.norm", "backbone/norm", NORM),
    Rule(r"main_head\.upscale\.0", "main_head/up1", TRANSPOSED),
    Rule(r"main_head\.upscale\.1", "main_head/norm1", NORM),
    Rule(r"main_head\.upscale\.3", "main_head/up2", TRANSPOSED),
    Rule(r"main_head\.upscale\.4", "main_head/norm2", NORM),
    Rule(r"main_head\.upscale\.5", "main_head/refine", LINEAR),
    Rule(r"main_head\.upscale\.6", "main_head/norm3", NORM),
    Rule(r"main_head\.out", "main_head/logits", LINEAR),
)
_HF, _OWN = r"(?:encoder\.)?layer\.(\d+)\.", "blocks.{0}."
HUGGING_FACE = (
    (r"embeddings\.patch_embeddings(\.projection)?", "patch_embed.proj"),
    (r"embeddings\.position_embeddings", "pos_embed"),
    (r"embeddings\.(cls_token|mask_token|register_tokens)", "{0}"),
    (_HF + r"(norm[12])", _OWN + "{1}"),
    (_HF + r"attention\.(qkv)", _OWN + "attn.{1}"),
    (_HF + r"attention\.(output\.dense|o_proj)", _OWN + "attn.proj"),
    (_HF + r"layer_scale([12])\.lambda1", _OWN + "ls{1}.gamma"),
    (_HF + r"mlp\.weights_in", _OWN + "mlp.w12"),
    (_HF + r"mlp\.weights_out", _OWN + "mlp.w3"),
    (_HF + r"mlp\.(fc[12])", _OWN + "mlp.{1}"),
    (_HF + r"mlp\.up_proj", _OWN + "mlp.fc1"),
    (_HF + r"mlp\.down_proj", _OWN + "mlp.fc2"),
    (_HF + r"mlp\.gate_proj", _OWN + "mlp.gate"),
    (r"(layernorm|norm)\b", "norm"),
)
# DINOv3's SwiGLU has three layers, as here; DINOv2's first is two of them, the gate before.
GATED = (
    (r"backbone\.blocks\.(\d+)\.mlp\.w1\b", "backbone.blocks.{0}.mlp.gate"),
    (r"backbone\.blocks\.(\d+)\.mlp\.w2\b", "backbone.blocks.{0}.mlp.fc1"),
    (r"backbone\.blocks\.(\d+)\.mlp\.w3\b", "backbone.blocks.{0}.mlp.fc2"),
)
PREFIXES = (
    (r"encoder\.(?!layer\.)", "backbone."),
    (r"(upscale|out)\.", "main_head.{0}."),
    (r"(token_masking|main_head|backbone)\.", "{0}."),
    ("", "backbone."),
)


def is_dino(names: Iterable[str]) -> bool:
    """Whether the names are those of a DINOv2 or DINOv3, in either way, with or without a head."""
    first = re.compile(
        r"(encoder\.|backbone\.)?(blocks\.0\.ls1\.gamma|(encoder\.)?layer\.0\.layer_scale1\.lambda1)"
    )
    return any(first.fullmatch(name) for name in names)


def to_ours(tensors: Tensors) -> dict[str, np.ndarray]:
    """Renames and transposes a transformer and its head.

    Args:
      tensors: {name: array} as `files.load` returns it; of VFM-UDA's files the student's, without
        'network.'.

    Returns:
      {'params/<path>': array}; names that are not understood stay as they are (below 'backbone.'),
      for `merge` to report.

    Raises:
      UserError: a table of positions that is not square.
    """
    tensors = to_own(tensors)
    rotary = "backbone.pos_embed" not in tensors
    found = {}
    for name, array in tensors.items():
        if name == "backbone.pos_embed":
            found |= _positions(array)
        elif name in ("backbone.register_tokens", "backbone.storage_tokens"):
            found["backbone.registers"] = array[0]
        elif name == "backbone.cls_token":
            found[name] = array[0]
        elif name == "backbone.mask_token":
            found[name] = array.reshape(1, -1)
        elif match := re.fullmatch(r"(backbone\.blocks\.\d+\.mlp)\.w12\.(\w+)", name):
            gate, plain = np.split(array, 2)
            found |= {f"{match[1]}.gate.{match[2]}": gate, f"{match[1]}.fc1.{match[2]}": plain}
        elif rotary and name.endswith(".attn.qkv.bias"):
            query, key, value = np.split(array, 3)  # its file says with a buffer: no bias of keys
            found[name] = np.concatenate([query, np.zeros_like(key), value])
        else:
            found[name] = array
    return translate(renamed(found, GATED), RULES)


def to_own(tensors: Tensors) -> dict[str, np.ndarray]:
    """Both ways brought to the repositories' own names, under 'backbone.' and 'main_head.'."""
    if any(re.match(_HF, name) for name in tensors):
        for parts in (("query", "key", "value"), ("q_proj", "k_proj", "v_proj")):
            names = [_HF + rf"attention\.(?:attention\.)?{part}" for part in parts]
            tensors = stacked(tensors, names, "layer.{0}.attention.qkv")
        tensors = renamed(tensors, HUGGING_FACE)
    return renamed(tensors, PREFIXES)


def _positions(table):
    """The class token's position and the square table of the patches'."""
    count, width = table.shape[1:]
    side = math.isqrt(count - 1)
    if side**2 != count - 1:
        raise UserError(f"weights: pos_embed {table.shape} is no square table and a class token")
    grid = table[0, 1:].reshape(side, side, width)
    return {"backbone.cls_position": table[0, :1], "backbone.positions": grid}
