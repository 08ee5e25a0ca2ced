"""EfficientNet-Lite with a feature pyramid in PyTorch: what `step.py --size=lite0` compares with.

It is the network of jaxseg's `backbones/efficientnet.py` and `segmenters/fpn.py`, of PyTorch's own
layers. Modules are named as jaxseg's parameters, so that weights go over by name.
"""

import torch
from torch import nn
from torch.nn import functional as F

KERNELS = (3, 3, 5, 3, 5, 5, 3)
STEPS = (1, 2, 2, 2, 1, 2, 1)
ENDS = (1, 2, 4, 6)


class SameConv(nn.Conv2d):
    """Convolution padded as TensorFlow's 'SAME'; where the zeros come in pairs, by itself."""

    def forward(self, x):
        edges = []
        for size in (x.shape[3], x.shape[2]):
            kernel, stride = self.kernel_size[0], self.stride[0]
            total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            edges += [total // 2, total - total // 2]
        if edges[0] == edges[1] and edges[2] == edges[3]:
            padding = edges[2], edges[0]
            return F.conv2d(x, self.weight, None, self.stride, padding, 1, self.groups)
        return F.conv2d(F.pad(x, edges), self.weight, None, self.stride, 0, 1, self.groups)


def norm(width):
    """BatchNorm as the published networks have it."""
    return nn.BatchNorm2d(width, eps=1e-3, momentum=0.01)


class Block(nn.Module):
    """Inverted residual block."""

    def __init__(self, channels: int, width: int, expand: bool, kernel: int, stride: int):
        super().__init__()
        self.expands, inner = expand, channels
        if expand:
            inner = 6 * channels
            self.expand_conv = nn.Conv2d(channels, inner, 1, bias=False)
            self.expand_bn = norm(inner)
        self.depthwise_conv = SameConv(inner, inner, kernel, stride, groups=inner, bias=False)
        self.depthwise_bn = norm(inner)
        self.project_conv = nn.Conv2d(inner, width, 1, bias=False)
        self.project_bn = norm(width)
        self.adds = stride == 1 and channels == width

    def forward(self, x):
        y = x
        if self.expands:
            y = F.relu6(self.expand_bn(self.expand_conv(y)), inplace=True)
        y = F.relu6(self.depthwise_bn(self.depthwise_conv(y)), inplace=True)
        y = self.project_bn(self.project_conv(y))
        return x + y if self.adds else y


class EfficientNet(nn.Module):
    """Maps images to the four stages."""

    def __init__(self, blocks: list[int], widths: list[int], stem: int):
        super().__init__()
        self.stem_conv = SameConv(3, stem, 3, 2, bias=False)
        self.stem_bn = norm(stem)
        self.groups, channels, number = [], stem, 0
        for group, (count, width) in enumerate(zip(blocks, widths, strict=True)):
            names = []
            for index in range(count):
                stride = STEPS[group] if index == 0 else 1
                block = Block(channels, width, group > 0, KERNELS[group], stride)
                self.add_module(f"block{number}", block)
                names.append(f"block{number}")
                channels, number = width, number + 1
            self.groups.append(names)

    def forward(self, x):
        x, stages = F.relu6(self.stem_bn(self.stem_conv(x)), inplace=True), []
        for group, names in enumerate(self.groups):
            for name in names:
                x = getattr(self, name)(x)
            if group in ENDS:
                stages.append(x)
        return stages


class ConvNorm(nn.Module):
    """3x3 convolution, BatchNorm and ReLU."""

    def __init__(self, channels: int, width: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(width)

    def forward(self, x):
        return F.relu(self.bn(self.conv(x)), inplace=True)


class Decoder(nn.Module):
    """Sums the stages from coarse to fine and refines the sum."""

    def __init__(self, widths: list[int], channels: int):
        super().__init__()
        for number, width in enumerate(widths, start=1):
            self.add_module(f"lateral{number}", nn.Conv2d(width, channels, 1))
        self.pooling = nn.Conv2d(widths[-1], channels, 1)
        self.refine1 = ConvNorm(channels, channels)
        self.refine2 = ConvNorm(channels, channels)

    def forward(self, stages):
        x = self.lateral4(stages[3])
        x = x + F.relu(self.pooling(stages[3].mean((2, 3), keepdim=True)))
        for number in (3, 2, 1):
            lateral = getattr(self, f"lateral{number}")(stages[number - 1])
            x = lateral + F.interpolate(x, lateral.shape[2:], mode="bilinear", align_corners=False)
        return self.refine2(self.refine1(x))


class AuxiliaryHead(nn.Module):
    """3x3 to a quarter of the channels, 1x1 to logits."""

    def __init__(self, channels: int, classes: int):
        super().__init__()
        self.refine = ConvNorm(channels, channels // 4)
        self.logits = nn.Conv2d(channels // 4, classes, 1)

    def forward(self, x):
        return self.logits(self.refine(x))


class LiteFPN(nn.Module):
    """Normalised images [N, 3, H, W] -> {'main': logits at stride 4, 'aux': at stride 16}."""

    def __init__(
        self, classes: int, channels: int, blocks: list[int], widths: list[int], stem: int
    ):
        super().__init__()
        self.backbone = EfficientNet(blocks, widths, stem)
        self.decoder = Decoder([widths[group] for group in ENDS], channels)
        self.main_head = nn.Conv2d(channels, classes, 1)
        self.aux_head = AuxiliaryHead(widths[ENDS[2]], classes)

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        stages = self.backbone(images)
        return {"main": self.main_head(self.decoder(stages)), "aux": self.aux_head(stages[2])}
