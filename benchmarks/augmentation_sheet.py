"""Draws every augmentation on one labelled contact sheet.

    python benchmarks/augmentation_sheet.py

Each picture is what a training batch would hold: host augmentations by `transforms.augment_sample`,
mixing on the device by `mixing`, both with fixed keys, on scenes of `streets`. Labels are shown
below the images where the augmentation changes them.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import numpy as np
from PIL import Image

from jaxseg.data import transforms
from jaxseg.data.labels import CITYSCAPES, colorize
from jaxseg.data.streets import scene as streets_scene
from jaxseg.methods.parts import mixing
from jaxseg.report import paint

Sample = dict[str, np.ndarray]
SIZE = (160, 320)
WIDTH = 1032  # width of the sheet in pixels
SEED, MAIN = 5, 14  # sequence of `streets` scenes, and index of the augmented scene

# caption, settings, key
GEOMETRY = (
    ("image", {}, 0),
    ("flip", dict(flip=1.0), 0),
    ("scale 0.6, filled up", dict(scale=(0.6, 0.6)), 1),
    ("scale 1.8", dict(scale=(1.8, 1.8)), 2),
    ("crop", dict(crop=(60, 120)), 29),
    ("crop, no class > 0.4", dict(crop=(60, 120), crop_cap=0.4), 29),
)
COLOUR = (
    ("brightness 0.3", dict(brightness=0.3), 4),
    ("contrast 0.3", dict(contrast=0.3), 4),
    ("saturation 0.3", dict(saturation=0.3), 4),
    ("hue 0.1", dict(hue=0.1), 4),
    ("MiniCity: all 0.3", dict(jitter=0.3, hue=0.3), 4),
    ("blur, sigma 2", dict(blur=1.0, blur_sigma=(2.0, 2.0)), 0),
    ("noise, up to 30", dict(noise=30.0), 1),
)
# Of a rendered scene, with the photographic one as the reference.
LOOKS = (
    ("rendered", {}, 0),
    ("colours in Lab", dict(lab=1.0), 0),
    ("histograms", dict(histogram=1.0), 0),
    ("FDA, beta 0.05", dict(fda=0.05), 0),
)
# caption, partner, function of (key, images, labels), key
MIXING = (
    ("partner", 11, None, 0),
    ("CutMix", 11, mixing.cutmix, 1),
    ("ClassMix", 11, lambda *args: mixing.classmix(*args, num_classes=19), 0),
    ("CopyBlob, all pairs", 11, mixing.copy_blob, 0),
)
PAIRS = (
    ("CopyBlob wall to sidewalk", 50, 0, 0),
    ("CopyBlob fence to sidewalk", 33, 1, 0),
    ("CopyBlob bus to road", 11, 2, 0),
    ("CopyBlob train to road", 35, 3, 0),
)


def scene(index: int, domain: str = "photographic") -> Sample:
    """Renders image and label of scene `index` at SIZE."""
    rendered = streets_scene.render(SEED, index, domain, SIZE)
    return {"image": rendered["image"], "label": rendered["label"]}


def mixed(function: Callable | None, partner: int, key: int) -> Sample:
    """Mixes a partner into the main scene; without a function, returns the partner itself."""
    if function is None:
        return scene(partner)
    batch = [scene(MAIN), scene(partner)]
    images, labels = (np.stack([s[name] for s in batch]) for name in ("image", "label"))
    images, labels = jax.jit(function)(jax.random.PRNGKey(key), images, labels)
    return {"image": np.asarray(images[0]), "label": np.asarray(labels[0])}


def strip(captions: Sequence[str], samples: Sequence[Sample], *, labels: bool = True) -> np.ndarray:
    """Draws captions, images and, below them, labels; uint8 [h, WIDTH, 3]."""
    gap = 6
    rows = [[sample["image"] for sample in samples]]
    if labels:
        rows.append([colorize(sample["label"], CITYSCAPES) for sample in samples])
    picture = paint.grid(rows, captions, (WIDTH - gap) // len(samples) - gap, gap)
    widths = [(0, 0), (0, WIDTH - picture.shape[1]), (0, 0)]
    return np.pad(picture, widths, constant_values=255)


def sheet() -> np.ndarray:
    """Draws all augmentations, uint8 [H, WIDTH, 3]."""
    main, strips = scene(MAIN), []
    for table in (GEOMETRY, COLOUR, LOOKS):
        looks = table is LOOKS
        before = scene(MAIN, "rendered") if looks else main
        reference = main["image"] if looks else None
        samples = [
            transforms.augment_sample(
                before,
                np.random.default_rng(key),
                **transforms.check_augment(settings),
                reference=reference,
            )
            for _, settings, key in table
        ]
        strips.append(strip([row[0] for row in table], samples, labels=table is GEOMETRY))
    pairs = [
        (caption, partner, lambda *args, i=i: mixing.copy_blob(*args, mixing.PAIRS[i : i + 1]), key)
        for caption, partner, i, key in PAIRS
    ]
    for table in (MIXING, pairs):
        samples = [mixed(function, partner, key) for _, partner, function, key in table]
        strips.append(strip([row[0] for row in table], samples))
    return np.concatenate([*strips, paint.legend(CITYSCAPES, WIDTH)])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("docs/augmentations.jpg"))
    parser.add_argument("--quality", type=int, default=20, help="JPEG quality, 1 to 95")
    arguments = parser.parse_args()
    picture = sheet()
    try:
        Image.fromarray(picture).save(arguments.output, "JPEG", quality=arguments.quality)
    except OSError as error:
        print(f"cannot write {arguments.output}: {error.strerror}", file=sys.stderr)
        return 2
    print(f"{arguments.output}: {picture.shape[1]} x {picture.shape[0]} pixels")
    return 0


if __name__ == "__main__":
    sys.exit(main())
