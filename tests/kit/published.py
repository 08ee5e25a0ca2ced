"""Stand-ins for the published weights: state_dicts with the published names and shapes, and values
that depend on these only; and images to run them on.

The logits in fixtures/published_logits.npz were computed by the references' own networks with the
same values, not by code of this project:

- AdaptSegNet: `DeeplabMulti`, `Res_Deeplab` and `DeeplabVGG`; ADVENT: `get_deeplab_v2` with two
  levels; 19 classes, evaluation mode, float32, PyTorch on a CPU;
- input `image(size)` as their data sets hand it on: BGR less (104.00698793, 116.66876762,
  122.67891434), channels first;
- kept as '<file>/<level>/<height>x<width>' are SAMPLES logits at `positions` of the flat [K, h, w].

Values come from `RandomState`, whose stream NumPy has frozen. They are uniform, because normal ones
would depend on the rounding of logarithms.
"""

import math
import zlib

import numpy as np

CLASSES = 19
SAMPLES = 200
SIZES = ((512, 1024), (345, 611))
RESNET101 = ((3, 64), (4, 128), (23, 256), (3, 512))
VGG16 = ((0, 64), (2, 64), (5, 128), (7, 128), (10, 256), (12, 256), (14, 256), (17, 512),
         (19, 512), (21, 512), (23, 512), (25, 512), (27, 512), (29, 1024), (31, 1024))  # fmt: skip
DRAWN = 0.01  # what the references draw the branches of their heads from


def _draw(name, shape, low, high):
    values = np.random.RandomState(zlib.crc32(name.encode())).random_sample(shape)
    return {name: (low + (high - low) * values).astype(np.float32)}


def _kernel(name, out, channels, side, gain=1.0):
    bound = gain * math.sqrt(6 / (channels * side * side))  # He's variance
    return _draw(f"{name}.weight", (out, channels, side, side), -bound, bound)


def _norm(name, width, scale):
    return {
        **_draw(f"{name}.weight", (width,), 0.7 * scale, 1.3 * scale),
        **_draw(f"{name}.bias", (width,), -0.3, 0.3),
        **_draw(f"{name}.running_mean", (width,), -0.5, 0.5),
        **_draw(f"{name}.running_var", (width,), 0.6, 1.6),
    }


def _head(name, channels, trained, gain):
    state = {}
    for branch in range(4):
        part = f"{name}.conv2d_list.{branch}"
        if branch < trained:
            state.update(_kernel(part, CLASSES, channels, 3, gain))
        else:
            random = np.random.RandomState(zlib.crc32(part.encode()))
            kernel = DRAWN * random.standard_normal((CLASSES, channels, 3, 3))
            state[f"{part}.weight"] = kernel.astype(np.float32)
        state.update(_draw(f"{part}.bias", (CLASSES,), -0.5, 0.5))
    return state


def resnet101():
    """The trunk that all ResNets here share."""
    state = {**_kernel("conv1", 64, 3, 7, 1 / 60), **_norm("bn1", 64, 1.0)}
    channels = 64
    for stage, (blocks, width) in enumerate(RESNET101, start=1):
        for block in range(blocks):
            name = f"layer{stage}.{block}"
            for index, (out, into, side) in enumerate(
                ((width, channels, 1), (width, width, 3), (4 * width, width, 1)), start=1
            ):
                state.update(_kernel(f"{name}.conv{index}", out, into, side))
                state.update(_norm(f"{name}.bn{index}", out, 0.2 if index == 3 else 1.0))
            if block == 0:
                state.update(_kernel(f"{name}.downsample.0", 4 * width, channels, 1))
                state.update(_norm(f"{name}.downsample.1", 4 * width, 0.8))
            channels = 4 * width
    return state


def heads(file):
    """The heads of 'adaptsegnet', 'advent' or 'single' (AdaptSegNet, one level)."""
    if file == "single":
        return _head("layer5", 2048, 2, 0.15)
    trained = 2 if file == "adaptsegnet" else 4
    return {**_head("layer5", 1024, trained, 0.15), **_head("layer6", 2048, trained, 0.15)}


def vgg16():
    """AdaptSegNet's VGG-16."""
    state, channels = {}, 3
    for index, width in VGG16:
        name = f"features.{index}"
        state.update(_kernel(name, width, channels, 3, 1 if index else 1 / 60))
        state.update(_draw(f"{name}.bias", (width,), -0.3, 0.3))
        channels = width
    return {**state, **_head("classifier", 1024, 2, 0.5)}


def image(size):
    """uint8 [1, H, W, 3] RGB: patches of plain colour under noise."""
    random = np.random.RandomState(size[0])
    coarse = random.randint(0, 200, (1, -(-size[0] // 24), -(-size[1] // 24), 3))
    patches = coarse.repeat(24, 1).repeat(24, 2)[:, : size[0], : size[1]]
    return (patches + random.randint(0, 56, (1, *size, 3))).astype(np.uint8)


def positions(key, total):
    """SAMPLES flat positions below `total`."""
    return np.random.RandomState(zlib.crc32(key.encode())).randint(0, total, SAMPLES)
