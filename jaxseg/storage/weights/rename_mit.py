"""MiT encoders, alone or below a SegFormer or DAFormer head, in this project's names and layouts.

The names of three codebases: NVIDIA's, who published them ('block1.0.attn.kv.weight'; MIC has the
same), mmsegmentation's from 0.20 on ('layers.0.1.0.attn.attn.in_proj_weight'), and Hugging Face's
('segformer.encoder.block.0.0.attention.self.key.weight'). The last two are first brought to the
first.

SegFormer's head mixes the embedded stages from coarse to fine with NVIDIA and Hugging Face, from
fine to coarse with MIC, mmsegmentation and here. mmsegmentation's, from 0.20 on, embeds by
convolutions with norm and ReLU instead of linear layers.
"""

import re
from collections.abc import Iterable

import numpy as np

from jaxseg.storage.weights.tables import (
    BATCH_NORM,
    LINEAR,
    NORM,
    Rule,
    Tensors,
    renamed,
    stacked,
    translate,
)

# What a file of an encoder holds in vain, ImageNet's classifier, and what it lacks.
ENCODER_ONLY = (r"^(backbone\.)?(head|classifier)\.", r"^(params|stats)/(main|attention)_head/")
# In vain, too: a layer of SegFormer's head that nothing reads.
UNREAD = (r"^(main|attention)_head\.conv_seg\.",)

_BLOCK, _OURS = r"(?:backbone\.)?block(\d)\.(\d+)\.", "backbone/stage{0}_block{1}/"
_HEAD = r"(main_head|attention_head)\."
ENCODER = (
    Rule(r"(?:backbone\.)?patch_embed(\d)\.proj", "backbone/patch_embed{0}_proj", LINEAR),
    Rule(r"(?:backbone\.)?patch_embed(\d)\.norm", "backbone/patch_embed{0}_norm", NORM),
    Rule(_BLOCK + "(norm[12])", _OURS + "{2}", NORM),
    Rule(_BLOCK + r"attn\.norm", _OURS + "attn/norm", NORM),
    Rule(_BLOCK + r"attn\.(q|kv|sr|proj)", _OURS + "attn/{2}", LINEAR),
    Rule(_BLOCK + r"mlp\.(?:dwconv\.)?(fc1|dwconv|fc2)", _OURS + "mlp/{2}", LINEAR),
    Rule(r"(?:backbone\.)?norm([1-4])", "backbone/norm{0}", NORM),
)
DAFORMER_HEAD = (
    Rule(_HEAD + r"embed_layers\.(\d)\.proj", "{0}/embed{n1}", LINEAR),
    Rule(_HEAD + r"fuse_layer\.(?:bottleneck\.)?conv", "{0}/fuse/conv", LINEAR),
    Rule(_HEAD + r"fuse_layer\.(?:bottleneck\.)?bn", "{0}/fuse/bn", BATCH_NORM),
    Rule(_HEAD + r"fuse_layer\.aspp_modules\.(\d)\.conv", "{0}/branch{1}/conv", LINEAR),
    Rule(_HEAD + r"fuse_layer\.aspp_modules\.(\d)\.bn", "{0}/branch{1}/bn", BATCH_NORM),
    Rule(
        _HEAD + r"fuse_layer\.aspp_modules\.(\d)\.depthwise_conv\.conv",
        "{0}/branch{1}/depthwise_conv",
        LINEAR,
    ),
    Rule(
        _HEAD + r"fuse_layer\.aspp_modules\.(\d)\.depthwise_conv\.bn",
        "{0}/branch{1}/depthwise_bn",
        BATCH_NORM,
    ),
    Rule(
        _HEAD + r"fuse_layer\.aspp_modules\.(\d)\.pointwise_conv\.conv",
        "{0}/branch{1}/pointwise/conv",
        LINEAR,
    ),
    Rule(
        _HEAD + r"fuse_layer\.aspp_modules\.(\d)\.pointwise_conv\.bn",
        "{0}/branch{1}/pointwise/bn",
        BATCH_NORM,
    ),
    Rule(_HEAD + "conv_seg", "{0}/logits", LINEAR),
)
SEGFORMER_HEAD = (
    Rule(_HEAD + r"linear_c\.(\d)\.proj", "{0}/embed{n1}", LINEAR),
    Rule(_HEAD + r"linear_c(\d)\.proj", "{0}/embed{1}", LINEAR),
    Rule(_HEAD + r"linear_fuse\.conv", "{0}/fuse/conv", LINEAR),
    Rule(_HEAD + r"linear_fuse\.bn", "{0}/fuse/bn", BATCH_NORM),
    Rule(_HEAD + "linear_pred", "{0}/logits", LINEAR),
)
MMSEG_HEAD = (
    Rule(_HEAD + r"convs\.(\d)\.conv", "{0}/embed{n1}/conv", LINEAR),
    Rule(_HEAD + r"convs\.(\d)\.bn", "{0}/embed{n1}/bn", BATCH_NORM),
    Rule(_HEAD + r"fusion_conv\.conv", "{0}/fuse/conv", LINEAR),
    Rule(_HEAD + r"fusion_conv\.bn", "{0}/fuse/bn", BATCH_NORM),
    Rule(_HEAD + "conv_seg", "{0}/logits", LINEAR),
)

_HF_BLOCK, _MM_BLOCK = (
    r"segformer\.encoder\.block\.(\d)\.(\d+)\.",
    r"(backbone\.)?layers\.(\d)\.1\.(\d+)\.",
)
_HF, _MM = "backbone.block{n0}.{1}.", "{0}block{n1}.{2}."
HUGGING_FACE = (
    (r"segformer\.encoder\.patch_embeddings\.(\d)\.proj", "backbone.patch_embed{n0}.proj"),
    (r"segformer\.encoder\.patch_embeddings\.(\d)\.layer_norm", "backbone.patch_embed{n0}.norm"),
    (_HF_BLOCK + r"layer_norm_(\d)", _HF + "norm{2}"),
    (_HF_BLOCK + r"attention\.self\.query", _HF + "attn.q"),
    (_HF_BLOCK + r"attention\.self\.(kv|sr)", _HF + "attn.{2}"),
    (_HF_BLOCK + r"attention\.self\.layer_norm", _HF + "attn.norm"),
    (_HF_BLOCK + r"attention\.output\.dense", _HF + "attn.proj"),
    (_HF_BLOCK + r"mlp\.dense([12])", _HF + "mlp.fc{2}"),
    (_HF_BLOCK + r"mlp\.dwconv\.dwconv", _HF + "mlp.dwconv.dwconv"),
    (r"segformer\.encoder\.layer_norm\.(\d)", "backbone.norm{n0}"),
    (r"decode_head\.linear_c\.(\d)\.proj", "decode_head.linear_c{n0}.proj"),
    (r"decode_head\.linear_fuse\b", "decode_head.linear_fuse.conv"),
    (r"decode_head\.batch_norm", "decode_head.linear_fuse.bn"),
    (r"decode_head\.classifier", "decode_head.linear_pred"),
)
MMSEG = (
    (r"(backbone\.)?layers\.(\d)\.0\.projection", "{0}patch_embed{n1}.proj"),
    (r"(backbone\.)?layers\.(\d)\.0\.norm", "{0}patch_embed{n1}.norm"),
    (_MM_BLOCK + r"(norm[12])", _MM + "{3}"),
    (_MM_BLOCK + r"attn\.attn\.out_proj", _MM + "attn.proj"),
    (_MM_BLOCK + r"attn\.(sr|norm)", _MM + "attn.{3}"),
    (_MM_BLOCK + r"ffn\.layers\.0", _MM + "mlp.fc1"),
    (_MM_BLOCK + r"ffn\.layers\.1", _MM + "mlp.dwconv.dwconv"),
    (_MM_BLOCK + r"ffn\.layers\.4", _MM + "mlp.fc2"),
    (r"(backbone\.)?layers\.(\d)\.2", "{0}norm{n1}"),
)
HEADS = (
    (r"decode_head\.scale_attention\.", "attention_head."),
    (r"decode_head\.(head\.)?", "main_head."),
)


def is_mit(names: Iterable[str]) -> bool:
    """Whether the names are those of a MiT, in any of the three ways."""
    first = r"(backbone\.|segformer\.encoder\.)?(patch_embed1\.proj|patch_embeddings\.0\.proj"
    first = re.compile(first + r"|layers\.0\.0\.projection)\.weight")
    return any(first.fullmatch(name) for name in names)


def to_nvidia(tensors: Tensors) -> dict[str, np.ndarray]:
    """The three ways brought to NVIDIA's names, heads under 'main_head.' and 'attention_head.'."""
    if any(name.startswith("segformer.") for name in tensors):
        pairs = [_HF_BLOCK + rf"attention\.self\.{part}" for part in ("key", "value")]
        whole = "segformer.encoder.block.{0}.{1}.attention.self.kv"
        tensors = renamed(stacked(tensors, pairs, whole), HUGGING_FACE)
    elif any(re.match(r"(backbone\.)?layers\.0\.0\.projection", name) for name in tensors):
        tensors = renamed(_split_projections(tensors), MMSEG)
    return renamed(tensors, HEADS)


def to_ours(tensors: Tensors) -> dict[str, np.ndarray]:
    """Renames and transposes a MiT and its heads.

    Args:
      tensors: {name: array} as `files.load` returns it, in any of the three ways.

    Returns:
      {'params/<path>' or 'stats/<path>': array}; names that are not understood stay as they are
      (in NVIDIA's way), for `merge` to report.
    """
    tensors = to_nvidia(tensors)
    heads = {".linear_pred.": SEGFORMER_HEAD, ".fusion_conv.": MMSEG_HEAD, "": DAFORMER_HEAD}
    heads = (rules for part, rules in heads.items() if any(part in name for name in tensors))
    found = translate(tensors, ENCODER + next(heads, DAFORMER_HEAD))
    kernel = "params/main_head/fuse/conv/kernel"
    if "main_head.linear_c1.proj.weight" in tensors and kernel in found:
        coarse_to_fine = np.split(found[kernel], 4, axis=2)
        found[kernel] = np.concatenate(coarse_to_fine[::-1], axis=2)
    return found


def _split_projections(tensors):
    """mmsegmentation's query over key over value as NVIDIA's two layers; its 1x1 convolutions as
    linear layers.
    """
    found = {}
    for name, array in tensors.items():
        if match := re.fullmatch(_MM_BLOCK + r"attn\.attn\.in_proj_(weight|bias)", name):
            prefix, stage, block, leaf = match.groups("")
            layer, width = f"{prefix}block{int(stage) + 1}.{block}.attn.", len(array) // 3
            found[f"{layer}q.{leaf}"], found[f"{layer}kv.{leaf}"] = array[:width], array[width:]
        elif re.search(r"\.ffn\.layers\.[04]\.weight$", name) and array.ndim == 4:
            found[name] = array[:, :, 0, 0]
        else:
            found[name] = array
    return found
