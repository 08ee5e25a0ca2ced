"""U-Net: sizes, and a float64 transcription at an odd size."""

import jax
import numpy as np
import pytest
from kit.oracle64 import conv, count, drawn, output_shapes, pool, shapes

from jaxseg.models.network import network
from jaxseg.models.segmenters.unet import SIZES, UNet
from jaxseg.resize import resize_matrix


def test_parameters_by_hand():
    params, stats = shapes(UNet(19), (32, 32))
    assert set(params) == {"backbone", "main_head"}
    down = [(3, 64), (64, 128), (128, 256), (256, 512), (512, 512)]
    up = [(512 + 512, 256), (256 + 256, 128), (128 + 128, 64), (64 + 64, 64)]
    expected = 0
    for into, out in down + up:  # two 3x3 convolutions without bias, each with scale and bias
        expected += 9 * into * out + 2 * out + 9 * out * out + 2 * out
    assert count(params) == expected + 64 * 19 + 19
    assert count(stats) == 4 * sum(out for _, out in down + up)


@pytest.mark.parametrize("size", [(576, 1152), (120, 160), (121, 163), (17, 16), (1, 2)])
def test_any_size(size):
    assert output_shapes(UNet(5, "small"), size, 2) == {"main": (2, *size, 5)}


def test_small_is_listed_and_others_are_refused():
    assert set(SIZES) == {"unet", "small", "tiny"}
    with pytest.raises(ValueError, match="big"):
        shapes(UNet(3, "big"), (32, 32))


def numpy_unet(params, stats, x, depth):
    def block(p, s, x):
        for name in ("first", "second"):
            q, t = p[name], s[name]["bn"]
            y = conv(x, q["conv"]["kernel"], padding=1)
            y = (y - t["mean"]) / np.sqrt(t["var"] + 1e-5)
            x = np.maximum(y * q["bn"]["scale"] + q["bn"]["bias"], 0)
        return x

    levels = []
    for index in range(1, depth + 1):
        x = pool(x, 2, 2) if levels else x
        x = block(params["backbone"][f"level{index}"], stats["backbone"][f"level{index}"], x)
        levels.append(x)
    for index in range(depth - 1, 0, -1):
        skip = levels[index - 1]
        rows, columns = (resize_matrix(n, 2 * n, align_corners=False) for n in x.shape[1:3])
        x = np.einsum("Hh,Ww,nhwc->nHWc", rows, columns, x)
        x = np.concatenate([skip, x[:, : skip.shape[1], : skip.shape[2]]], -1)
        name = f"level{index}"
        x = block(params["main_head"][name], stats["main_head"][name], x)
    return conv(x, params["main_head"]["logits"]["kernel"], params["main_head"]["logits"]["bias"])


def test_logits_against_float64():
    module = UNet(3, (3, 4, 5))
    params, stats = drawn(module, (16, 16))
    x = np.random.default_rng(0).normal(size=(2, 11, 14, 3)).astype(np.float32)
    outputs, _ = jax.jit(network(module).apply, static_argnums=3)(params, stats, x, False)
    expected = numpy_unet(params, stats, x, 3)
    assert outputs["main"].shape == (2, 11, 14, 3)
    np.testing.assert_allclose(outputs["main"], expected, atol=1e-5 * np.abs(expected).max())
