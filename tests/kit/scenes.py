"""Scenes in Cityscapes' ids, scored by cityscapesScripts."""

import copy

import numpy as np
from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling as official
from PIL import Image

from jaxseg.data import labels
from jaxseg.evaluation.metrics import cityscapes

TRAIN = cityscapes.classes(labels.CITYSCAPES.classes)


SCORED = TRAIN.ids  # the 19 that count


OBJECTS = (24, 25, 26, 27, 28, 29, 30, 31, 32, 33)


SIZE = (48, 64)


def scene(seed, classes, predictable):
    """Label ids, instance ids and prediction, made of blobs: uint8, uint16 and uint8 images."""
    draw = np.random.default_rng(seed)
    label = np.full(SIZE, draw.choice(classes), np.uint8)
    instances = label.astype(np.uint16)
    numbers = {}
    for _ in range(60):
        kind = int(draw.choice(classes))
        top, left = draw.integers(0, SIZE[0]), draw.integers(0, SIZE[1])
        height, width = draw.integers(1, 14, 2)  # tiny ones of one pixel too
        box = (slice(top, top + height), slice(left, left + width))
        label[box] = kind
        instances[box] = kind  # stuff, and groups: no number
        if kind in OBJECTS and draw.random() < 0.8:
            number = numbers.setdefault(kind, 0)  # numbered from 0
            instances[box] = 1000 * kind + number
            numbers[kind] += draw.random() < 0.8  # else one object in two parts
    # An object whose instance map and label image disagree counts by its instance map.
    label[:2, :30] = classes[0]
    prediction = np.where(np.isin(label, predictable), label, draw.choice(predictable, SIZE))
    for _ in range(40):
        top, left = draw.integers(0, SIZE[0]), draw.integers(0, SIZE[1])
        height, width = draw.integers(1, 10, 2)
        prediction[top : top + height, left : left + width] = draw.choice(predictable)
    return label, instances, prediction.astype(np.uint8)


def by_cityscapes(folder, scenes):
    """The scores of cityscapesScripts for these scenes."""
    for i, (label, instances, prediction) in enumerate(scenes):
        Image.fromarray(label).save(folder / f"{i}_labelIds.png")
        Image.fromarray(instances).save(folder / f"{i}_instanceIds.png")
        Image.fromarray(prediction).save(folder / f"{i}_prediction.png")
    args = copy.copy(official.args)
    args.quiet, args.JSONOutput = True, False
    files = range(len(scenes))
    return official.evaluateImgLists(
        [str(folder / f"{i}_prediction.png") for i in files],
        [str(folder / f"{i}_labelIds.png") for i in files],
        args,
    )


EVERYTHING = tuple(range(34))
