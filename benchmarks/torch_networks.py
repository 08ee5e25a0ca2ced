"""The networks of AdaptSegNet and ADVENT in PyTorch, for comparison in the benchmarks.

Written from the papers: DeepLabV2 on a dilated ResNet with Caffe-style bottlenecks and one head on
each of the last two stages, and a discriminator of five strided convolutions. Modules have the
names of jaxseg's parameters, so that weights are copied by name.
"""

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F


class Bottleneck(nn.Module):
    """Convolutions 1x1 (with the stride), 3x3, and 1x1 to four times the width; a shortcut."""

    def __init__(self, channels: int, width: int, stride: int, dilation: int, project: bool):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 1, stride=stride, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.project = project
        if project:
            self.downsample_conv = nn.Conv2d(channels, 4 * width, 1, stride=stride, bias=False)
            self.downsample_bn = nn.BatchNorm2d(4 * width)

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = F.relu(self.bn2(self.conv2(y)), inplace=True)
        y = self.bn3(self.conv3(y))
        shortcut = self.downsample_bn(self.downsample_conv(x)) if self.project else x
        return F.relu(y + shortcut, inplace=True)


class ResNet(nn.Module):
    """Output stride 8: stages 3 and 4 keep the resolution and dilate by 2 and 4."""

    def __init__(self, blocks: list[int], widths: list[int], stem: int):
        super().__init__()
        self.conv1 = nn.Conv2d(3, stem, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        self.stages, channels = [], stem
        geometry = ((1, 1), (2, 1), (1, 2), (1, 4))
        for stage, (count, width) in enumerate(zip(blocks, widths, strict=True), start=1):
            stride, dilation = geometry[stage - 1]
            names = [f"layer{stage}_block{block}" for block in range(count)]
            for index, name in enumerate(names):
                first = index == 0
                block = Bottleneck(channels, width, stride if first else 1, dilation, first)
                self.add_module(name, block)
                channels = 4 * width
            self.stages.append(names)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        x = F.max_pool2d(x, 3, 2, 1, ceil_mode=True)
        outputs = []
        for names in self.stages:
            for name in names:
                x = getattr(self, name)(x)
            outputs.append(x)
        return outputs[2:]


class Head(nn.Module):
    """Sum of 3x3 convolutions at several dilation rates."""

    def __init__(self, channels: int, classes: int, rates: list[int]):
        super().__init__()
        for index, rate in enumerate(rates):
            conv = nn.Conv2d(channels, classes, 3, padding=rate, dilation=rate)
            self.add_module(f"branch{index}", conv)

    def forward(self, x):
        return sum(branch(x) for branch in self.children())


class DeepLabV2(nn.Module):
    """Normalised images [N, 3, H, W] -> {'main', 'aux': logits [N, K, h, w]} at stride 8."""

    def __init__(
        self, classes: int, rates: list[int], blocks: list[int], widths: list[int], stem: int
    ):
        super().__init__()
        self.backbone = ResNet(blocks, widths, stem)
        self.main_head = Head(4 * widths[3], classes, rates)
        self.aux_head = Head(4 * widths[2], classes, rates)

    def forward(self, images):
        layer3, layer4 = self.backbone(images)
        return {"main": self.main_head(layer4), "aux": self.aux_head(layer3)}


class Discriminator(nn.Module):
    """Maps [N, K, H, W] -> scores [N, 1, h, w]."""

    def __init__(self, classes: int, width: int):
        super().__init__()
        widths = [classes, width, 2 * width, 4 * width, 8 * width, 1]
        for index in range(5):
            conv = nn.Conv2d(widths[index], widths[index + 1], 4, stride=2, padding=1)
            self.add_module(f"conv{index + 1}", conv)

    def forward(self, x):
        first, *rest = self.children()
        x = first(x)
        for conv in rest:
            x = conv(F.leaky_relu(x, 0.2, inplace=True))
        return x


def load(module: nn.Module, arrays: dict[str, np.ndarray]) -> None:
    """Loads all of jaxseg's parameters {'backbone/conv1/kernel': HWIO, ...} into a module."""
    names = {"kernel": "weight", "scale": "weight", "bias": "bias"}
    given = {}
    for path, value in arrays.items():
        *parts, leaf = path.split("/")
        if leaf == "kernel":
            value = value.transpose(3, 2, 0, 1)
        given[".".join((*parts, names[leaf]))] = torch.from_numpy(np.ascontiguousarray(value))
    own = dict(module.named_parameters())
    if set(own) != set(given):
        raise ValueError(f"parameters differ: {sorted(set(own) ^ set(given))[:4]}")
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(given[name])
