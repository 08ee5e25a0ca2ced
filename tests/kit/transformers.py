"""Stand-ins for published transformers: state_dicts with the references' names and shapes, and
values that depend on these only.

The outputs in fixtures/transformers.npz were computed by the references' own networks with the
same values, not by code of this project: MiT, the DAFormer, SegFormer
and HRDA heads of MIC's repository, DINOv2's, DINOv3's and VFM-UDA's, of the small sizes below, in
evaluation mode, float32, PyTorch on a CPU; input `published.image(size)`, normalised with
ImageNet's mean and standard deviation. Kept as '<network>/<output>/<height>x<width>' are values at
`published.positions` of the flat [K, h, w].
"""

import math
import zlib

import numpy as np

CLASSES = 5
CHANNELS = 16  # of the heads on MiT
WIDTHS, HEADS, REDUCTIONS = (16, 32, 48, 64), (1, 2, 3, 4), (8, 4, 2, 1)  # mit_tiny


def values(shapes):
    """{name: float32 array} from {name: shape}."""
    return {name: _value(name, shape) for name, shape in shapes.items()}


def _value(name, shape):
    random = np.random.RandomState(zlib.crc32(name.encode())).random_sample(shape)
    leaf = name.split(".")[-1]
    if leaf == "running_var":
        low, high = 0.6, 1.6
    elif leaf in ("gamma", "lambda1") or (leaf == "weight" and len(shape) == 1):
        low, high = 0.7, 1.3
    elif leaf in ("bias", "running_mean"):
        low, high = -0.3, 0.3
    elif leaf == "weight":
        high = math.sqrt(3 / math.prod(shape[1:]))
        low = -high
    else:  # tokens and positions
        low, high = -1.0, 1.0
    return (low + (high - low) * random).astype(np.float32)


def layer(name, *shape, bias=True):
    return {f"{name}.weight": shape} | ({f"{name}.bias": shape[:1]} if bias else {})


def batch_norm(name, width):
    return {
        f"{name}.{leaf}": (width,) for leaf in ("weight", "bias", "running_mean", "running_var")
    }


def conv_norm(name, *shape, conv="conv", bn="bn"):
    return {f"{name}.{conv}.weight": shape, **batch_norm(f"{name}.{bn}", shape[0])}


def mit(prefix=""):
    """mit_tiny in NVIDIA's names."""
    shapes, before = {}, 3
    for stage, (width, reduction) in enumerate(zip(WIDTHS, REDUCTIONS, strict=True), start=1):
        side = 7 if stage == 1 else 3
        embed, block = f"{prefix}patch_embed{stage}", f"{prefix}block{stage}.0"
        shapes |= layer(f"{embed}.proj", width, before, side, side) | layer(f"{embed}.norm", width)
        shapes |= layer(f"{block}.norm1", width) | layer(f"{block}.attn.q", width, width)
        shapes |= layer(f"{block}.attn.kv", 2 * width, width)
        shapes |= layer(f"{block}.attn.proj", width, width)
        if reduction > 1:
            shapes |= layer(f"{block}.attn.sr", width, width, reduction, reduction)
            shapes |= layer(f"{block}.attn.norm", width)
        shapes |= layer(f"{block}.norm2", width) | layer(f"{block}.mlp.fc1", 4 * width, width)
        shapes |= layer(f"{block}.mlp.dwconv.dwconv", 4 * width, 1, 3, 3)
        shapes |= layer(f"{block}.mlp.fc2", width, 4 * width)
        shapes |= layer(f"{prefix}norm{stage}", width)
        before = width
    return shapes


def daformer(fusion="sepaspp", prefix="decode_head."):
    """MIC's DAFormerHead on mit_tiny."""
    shapes, all_maps, fuse = {}, 4 * CHANNELS, f"{prefix}fuse_layer"
    for index, width in enumerate(WIDTHS):
        shapes |= layer(f"{prefix}embed_layers.{index}.proj", CHANNELS, width)
    shapes |= layer(f"{prefix}conv_seg", CLASSES, CHANNELS, 1, 1)
    if fusion == "conv1":
        return shapes | conv_norm(fuse, CHANNELS, all_maps, 1, 1)
    shapes |= conv_norm(f"{fuse}.aspp_modules.0", CHANNELS, all_maps, 1, 1)
    for index in (1, 2, 3):
        branch = f"{fuse}.aspp_modules.{index}"
        if fusion == "aspp":
            shapes |= conv_norm(branch, CHANNELS, all_maps, 3, 3)
        else:
            shapes |= conv_norm(f"{branch}.depthwise_conv", all_maps, 1, 3, 3)
            shapes |= conv_norm(f"{branch}.pointwise_conv", CHANNELS, all_maps, 1, 1)
    return shapes | conv_norm(f"{fuse}.bottleneck", CHANNELS, 4 * CHANNELS, 3, 3)


def segformer(prefix="decode_head."):
    """MIC's SegFormerHead on mit_tiny, with its unused layer."""
    shapes = layer(f"{prefix}conv_seg", CLASSES, CHANNELS, 1, 1)
    for index, width in enumerate(WIDTHS):
        shapes |= layer(f"{prefix}linear_c.{index}.proj", CHANNELS, width)
    shapes |= conv_norm(f"{prefix}linear_fuse", CHANNELS, 4 * CHANNELS, 1, 1)
    return shapes | layer(f"{prefix}linear_pred", CLASSES, CHANNELS, 1, 1)


def mmseg_segformer(prefix="decode_head."):
    """mmsegmentation's SegformerHead, from 0.20 on, on mit_tiny."""
    shapes = layer(f"{prefix}conv_seg", CLASSES, CHANNELS, 1, 1)
    for index, width in enumerate(WIDTHS):
        shapes |= conv_norm(f"{prefix}convs.{index}", CHANNELS, width, 1, 1)
    return shapes | conv_norm(f"{prefix}fusion_conv", CHANNELS, 4 * CHANNELS, 1, 1)


def hrda():
    """MIC's HRDAHead of DAFormer heads on mit_tiny."""
    attention = daformer("conv1", "decode_head.scale_attention.")
    return daformer(prefix="decode_head.head.") | attention


def dinov2(width=32, blocks=4, side=4, registers=0, gated=False, prefix=""):
    """DINOv2 in the names of its hub; two heads."""
    shapes = {"cls_token": (1, 1, width), "mask_token": (1, width)}
    shapes["pos_embed"] = (1, 1 + side**2, width)
    if registers:
        shapes["register_tokens"] = (1, registers, width)
    shapes |= layer("patch_embed.proj", width, 3, 14, 14)
    for index in range(blocks):
        shapes |= _block(f"blocks.{index}", width)
        mlp = f"blocks.{index}.mlp"
        if gated:
            hidden = (int(4 * width * 2 / 3) + 7) // 8 * 8
            shapes |= layer(f"{mlp}.w12", 2 * hidden, width) | layer(f"{mlp}.w3", width, hidden)
        else:
            shapes |= layer(f"{mlp}.fc1", 2 * width, width) | layer(f"{mlp}.fc2", width, 2 * width)
    shapes |= layer("norm", width)
    return {prefix + name: shape for name, shape in shapes.items()}


def dinov3(width=32, blocks=4, gated=False):
    """DINOv3 in its own names but for the buffers; two heads."""
    shapes = {"cls_token": (1, 1, width), "mask_token": (1, width)}
    shapes |= {"storage_tokens": (1, 4, width)} | layer("patch_embed.proj", width, 3, 16, 16)
    for index in range(blocks):
        shapes |= _block(f"blocks.{index}", width)
        mlp, hidden = f"blocks.{index}.mlp", 128 if gated else 64
        for name in ("w1", "w2") if gated else ("fc1",):
            shapes |= layer(f"{mlp}.{name}", hidden, width)
        shapes |= layer(f"{mlp}.{'w3' if gated else 'fc2'}", width, hidden)
    return shapes | layer("norm", width)


def _block(name, width):
    return {
        **layer(f"{name}.norm1", width),
        **layer(f"{name}.attn.qkv", 3 * width, width),
        **layer(f"{name}.attn.proj", width, width),
        f"{name}.ls1.gamma": (width,),
        **layer(f"{name}.norm2", width),
        f"{name}.ls2.gamma": (width,),
    }


def vfm(prefix="network."):
    """VFM-UDA's network on a DINOv2 of 32 channels."""
    return {
        **dinov2(prefix=f"{prefix}encoder."),
        f"{prefix}upscale.0.weight": (32, 16, 2, 2),
        **layer(f"{prefix}upscale.1", 16),
        f"{prefix}upscale.3.weight": (16, 8, 2, 2),
        **layer(f"{prefix}upscale.4", 8),
        f"{prefix}upscale.5.weight": (8, 8, 3, 3),
        **layer(f"{prefix}upscale.6", 8),
        f"{prefix}out.weight": (CLASSES, 8, 1, 1),
        f"{prefix}token_masking.mask_token": (1, 32),
    }
