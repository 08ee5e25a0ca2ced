"""Convolution by loops in float64."""

import numpy as np


def loop_conv(x, kernel, stride, padding, dilation, groups):
    """Returns the convolution and its pullback (input, kernel), in float64."""
    x, kernel = np.asarray(x, np.float64), np.asarray(kernel, np.float64)
    padded = np.pad(x, ((0, 0), *padding, (0, 0)))
    kh, kw, cin, cout = kernel.shape
    height = (padded.shape[1] - (kh - 1) * dilation[0] - 1) // stride[0] + 1
    width = (padded.shape[2] - (kw - 1) * dilation[1] - 1) // stride[1] + 1
    y, each = np.zeros((len(x), height, width, cout)), cout // groups
    places = [
        (i, j, g, np.s_[:, i * stride[0] : i * stride[0] + (kh - 1) * dilation[0] + 1 : dilation[0],
                        j * stride[1] : j * stride[1] + (kw - 1) * dilation[1] + 1 : dilation[1],
                        g * cin : (g + 1) * cin], np.s_[g * each : (g + 1) * each])
        for i in range(height) for j in range(width) for g in range(groups)
    ]  # fmt: skip
    for i, j, _, patch, out in places:
        y[:, i, j, out] = np.tensordot(padded[patch], kernel[..., out], 3)

    def gradients(dy):
        to_padded, to_kernel = np.zeros_like(padded), np.zeros_like(kernel)
        for i, j, _, patch, out in places:
            to_padded[patch] += np.tensordot(dy[:, i, j, out], kernel[..., out], ((1,), (3,)))
            to_kernel[..., out] += np.tensordot(padded[patch], dy[:, i, j, out], ((0,), (0,)))
        (top, _), (left, _) = padding
        return to_padded[:, top : top + x.shape[1], left : left + x.shape[2]], to_kernel

    return y, gradients
