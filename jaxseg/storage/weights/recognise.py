"""Recognises the network of a published weights file by names, shapes and values.

Names and shapes determine the trunk, the output levels and the number of classes. They do not tell
how many of the head's four dilation rates were summed, since a file holds all four branches either
way. ADVENT sums all. AdaptSegNet's released code returns from within its loop and sums the first
two, so that branches 2 and 3 never got a gradient. PyTorch's SGD skips a parameter without gradient
(its weight decay too), so these two branches still hold their initial values from N(0, 0.01).
`untouched` tests for that.
"""

import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxseg.errors import UserError
from jaxseg.models.backbones import resnet
from jaxseg.storage.weights import transformers, vgg
from jaxseg.storage.weights.rename import flavour, prefix_of

RATES = (6, 12, 18, 24)
DRAWN = 0.01  # standard deviation of the heads' initial values
DEVIATIONS = 6.0  # largest deviation, in standard errors, that is put down to chance

_BRANCH = re.compile(r"(layer[56]|classifier)\.conv2d_list\.(\d+)\.weight")
_BLOCK = re.compile(r"layer([1-4])\.(\d+)\.")
_TRUNKS = {"resnet101": "ResNet-101", "resnet50": "ResNet-50", "vgg16": "VGG-16"}


class Recognised(NamedTuple):
    """The network that a weights file belongs to.

    Attributes:
      net: settings to replace in `config.net`: architecture, backbone, aux, rates, summed (0 for
        all), preprocess and, for a ResNet, stride_in. Empty for a file with this project's names,
        for which the config decides.
      num_classes: number of classes of its heads.
      origin: the conclusion, as one line of text.
    """

    net: dict[str, Any]
    num_classes: int
    origin: str


def recognise(tensors: Mapping[str, np.ndarray], path: Any = "weights file") -> Recognised:
    """Recognises AdaptSegNet's and ADVENT's networks, those trained with code built on theirs, and
    the transformers of DAFormer, HRDA, MIC, SegFormer and VFM-UDA (`transformers`).

    Args:
      tensors: {name: array}, from `files.load`.
      path: the file, for messages.

    Returns:
      See `Recognised`. All but the transformers take BGR less the ImageNet mean ('caffe') and have
      their strides on the first 1x1 of a block.

    Raises:
      UserError: the file is none of these.
    """
    if flavour(tensors) == "ours":
        return _ours(tensors, path)
    if transformers.is_one(tensors):
        return _transformer(tensors, path)
    prefix = prefix_of(tensors)
    bare = {name.removeprefix(prefix): array for name, array in tensors.items()}
    trunk = _trunk(bare)
    heads: dict[str, dict[int, np.ndarray]] = {}
    for name, array in bare.items():
        if match := _BRANCH.fullmatch(name):
            heads.setdefault(match[1], {})[int(match[2])] = array
    if not trunk or not heads or ("classifier" in heads) != (trunk == "vgg16"):
        raise UserError(f"{path}: {_complaint(tensors, bare, trunk)}")
    shapes = {kernel.shape for kernels in heads.values() for kernel in kernels.values()}
    classes = {shape[0] for shape in shapes if len(shape) == 4}
    if any(sorted(kernels) != list(range(len(RATES))) for kernels in heads.values()):
        raise UserError(f"{path}: its heads do not have the {len(RATES)} branches of rates {RATES}")
    if len(classes) != 1 or any(len(shape) != 4 for shape in shapes):
        raise UserError(f"{path}: its heads disagree about the number of classes")
    aux = len(heads) == 2
    main = heads["layer6"] if "layer6" in heads else next(iter(heads.values()))
    summed, conclusion = _summed(main, list(heads.values()))
    net = dict(
        architecture="deeplabv2",
        backbone=trunk,
        aux=aux,
        rates=RATES,
        summed=summed,
        preprocess="caffe",
    )
    if trunk in resnet.SIZES:
        net["stride_in"] = "1x1"
    (count,) = classes
    levels = "two levels" if aux else f"one level ({next(iter(heads))})"
    origin = f"DeepLabV2 {_TRUNKS.get(trunk, trunk)}, {levels}, {count} classes; {conclusion}"
    return Recognised(net, count, origin)


def _transformer(tensors: Mapping[str, np.ndarray], path: Any) -> Recognised:
    found = transformers.recognise(tensors)
    if not found.num_classes:
        raise UserError(
            f"{path}: {found.origin}, hence no segmentation; as initial weights it goes to "
            "--config.init.backbone"
        )
    return Recognised(found.net, found.num_classes, found.origin)


def untouched(kernel: np.ndarray, std: float = DRAWN) -> bool:
    """Whether values still are as drawn from N(0, std), by four statistics with known errors.

    With z = value / std over n values, training changes all of these:

    - mean z^2 is 1 with a standard error of sqrt(2 / n): 0.24 % for a branch of a main head with 19
      classes, 0.34 % for one of an auxiliary head or a VGG. Weight decay alone changes it by a
      quarter or more over the papers' schedules.
    - mean z^4 is 3, error sqrt(96 / n). Trained kernels have heavy tails.
    - mean z over all is 0, error 1 / sqrt(n).
    - mean z of each class's n / K values is 0, error sqrt(K / n). The kernel's input features are
      not negative, so when training first learns which classes are rare, all values of a class move
      in the same direction.

    All must lie within six standard errors. Untouched values fail this in fewer than one file in a
    million; trained values could pass it only if they had no structure at all.

    Args:
      kernel: [K, C, kh, kw].
      std: of the distribution.
    """
    values = np.asarray(kernel, np.float64).reshape(len(kernel), -1) / std
    n = values.size
    squares = values**2
    scores = (
        (squares.mean() - 1) * math.sqrt(n / 2),
        ((squares**2).mean() - 3) * math.sqrt(n / 96),
        values.mean() * math.sqrt(n),
        np.abs(values.mean(1)).max() * math.sqrt(values.shape[1]),
    )
    return bool(max(map(abs, scores)) < DEVIATIONS)


def _summed(main: dict[int, np.ndarray], heads: list[dict[int, np.ndarray]]) -> tuple[int, str]:
    """(`config.net.summed`, why). The main head decides: it is the one that predicts."""

    def drawn(kernels):
        return [branch for branch in sorted(kernels) if untouched(kernels[branch])]

    found = drawn(main)
    alike = all(drawn(kernels) == found for kernels in heads)
    note = "" if alike else ", unlike those of its other head"
    if found == [2, 3]:
        return 2, (
            f"branches 2 and 3 of its head are as drawn at first, N(0, {DRAWN}){note}, so the "
            "first two rates are summed, as in AdaptSegNet's released code"
        )
    if not found:
        comma = "," if note else ""
        return 0, (
            f"all four branches of its head were trained{note}{comma} and are summed, as in ADVENT"
        )
    which = "the branches" if len(found) == len(main) else f"branches {found}"
    return 0, f"{which} of its head were never trained{note}; all four rates are summed"


def _trunk(bare: Mapping[str, np.ndarray]) -> str:
    if vgg.numbering(bare) == "reference":
        return "vgg16"
    blocks: dict[int, set[int]] = {stage: set() for stage in range(1, 5)}
    for name in bare:
        if match := _BLOCK.match(name):
            blocks[int(match[1])].add(int(match[2]))
    counts = tuple(len(found) for found in blocks.values())
    for name, sizes in resnet.SIZES.items():
        # The small trunks have as many blocks as other ResNets (18 has 2, 2, 2, 2), but a thinner
        # stem.
        ours = name in resnet.FROM_SCRATCH
        if counts == sizes.blocks and not (ours and _stem(bare) != sizes.stem):
            return name
    return ""


def _stem(bare: Mapping[str, np.ndarray]) -> int:
    return len(bare["conv1.weight"]) if "conv1.weight" in bare else 0


def _complaint(tensors: Mapping, bare: Mapping, trunk: str) -> str:
    known = "AdaptSegNet's or ADVENT's DeepLabV2"
    if trunk or vgg.numbering(bare):
        return (
            f"a trunk without the heads of {known}, hence no segmentation; as initial weights it "
            "goes to --config.init.backbone"
        )
    first = bare.get("conv1.weight")
    if first is not None and first.shape[2:] == (4, 4):
        return f"a discriminator, not a segmentation network; choose the file of {known}"
    names = ", ".join(list(tensors)[:3])
    return (
        f"not recognised as {known} on ResNet-101, ResNet-50 or VGG-16, nor as one of the "
        f"transformers that docs/weights.md names; it has {names}"
    )


def _ours(tensors: Mapping[str, np.ndarray], path: Any) -> Recognised:
    heads = re.compile(r"params/main_head/(branch0/)?kernel")
    kernel = next((array for name, array in tensors.items() if heads.fullmatch(name)), None)
    if kernel is None or kernel.ndim != 4:
        raise UserError(f"{path}: this project's names, but without a main_head")
    return Recognised({}, kernel.shape[3], "names of this project; the network is the config's")
