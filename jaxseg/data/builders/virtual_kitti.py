"""Virtual KITTI 1.3.1 (Gaidon et al., CVPR 2016) and 2 (Cabon et al., arXiv 2001.10773).

Five rendered worlds, each a copy of a street in KITTI, in ten variations of view, weather and time
of day: 2 126 frames per variation, 21 260 in all, of 375x1242 pixels. Version 2 adds a second
camera, which is not read (Camera_0 is the left one, as in version 1.3.1).

Labels are colours. In version 1.3.1 each video has a text file of its colours, one line for each
vehicle ('Car:12 r g b'); in version 2 the colours are the same everywhere. They are stored as
Cityscapes train ids (see `labels.VIRTUAL_KITTI_NAMES`), of which 10 occur: `labels.VIRTUAL_KITTI`.
Depth is a 16-bit PNG in centimetres along the optical axis. The largest value, 655.35 m, is the far
plane and hence the sky; it is stored as 'no value'. Other values beyond 256 m are stored as 256 m.

The papers use no split: 'train' is everything. To choose a snapshot by source validation, 'val' is
world 0002 (Scene02) and 'train_rest' the four others, so that no street is in both.

Written from published descriptions and from programs that read the files; the files themselves were
not available. Not checked: that every class occurs in world 0002, that no other colours occur (a
few such pixels are ignored, more than 1 % are an error), and how the papers treat vans.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from jaxseg.data import codec, labels
from jaxseg.data.conversion import common, published
from jaxseg.data.conversion.convert import Readers
from jaxseg.data.conversion.tree import Files, Tree
from jaxseg.errors import UserError

LABELS = labels.CITYSCAPES
EXPECTED = {
    "1.3.1": "virtual_kitti/vkitti_1.3.1_{rgb,depthgt,scenegt}/WORLD/VARIATION/NNNNN.png and "
    "virtual_kitti/vkitti_1.3.1_scenegt/WORLD_VARIATION_scenegt_rgb_encoding.txt, unpacked",
    "2": "virtual_kitti/SceneNN/VARIATION/frames/rgb/Camera_0/rgb_NNNNN.jpg, "
    "frames/depth/Camera_0/depth_NNNNN.png and "
    "frames/classSegmentation/Camera_0/classgt_NNNNN.png, unpacked",
}
FRAMES = {"0001": 447, "0002": 233, "0006": 270, "0018": 339, "0020": 837}  # frames per variation
VARIATIONS = (
    *("15-deg-left", "15-deg-right", "30-deg-left", "30-deg-right", "clone"),
    *("fog", "morning", "overcast", "rain", "sunset"),
)
HELD_OUT = "0002"

_COUNTS = {
    "train": sum(FRAMES.values()),
    "train_rest": sum(FRAMES.values()) - FRAMES[HELD_OUT],
    "val": FRAMES[HELD_OUT],
}
# Colours of version 2; 1.3.1 has the same except for vehicles and a slightly other guard rail.
_COLOURS = {
    **{"Terrain": (210, 0, 200), "Sky": (90, 200, 255), "Tree": (0, 199, 0)},
    **{"Vegetation": (90, 240, 0), "Building": (140, 140, 140), "Road": (100, 60, 100)},
    **{"GuardRail": (250, 100, 255), "TrafficSign": (255, 255, 0)},
    **{"TrafficLight": (200, 200, 0), "Pole": (255, 130, 0), "Misc": (80, 80, 80)},
    **{"Truck": (160, 60, 60), "Car": (255, 127, 80), "Van": (0, 139, 139)},
    **{"Undefined": (0, 0, 0)},
}
_UNLISTED = 0.01  # largest allowed share of pixels with other colours in an image
_FRAME = re.compile(r"Scene(\d\d)/([^/]+)/frames/\w+/Camera_0/\w+_(\d+)\.\w+")


def config(
    *,
    raw: Path | None = None,
    size: tuple[int, int] | None = None,
    split: str | None = None,
    version: str = "1.3.1",
    variations: Sequence[str] = (),
) -> common.Config:
    """Returns the config for one split of one version.

    Args:
      raw: the folder of the published files, archives unpacked.
      size: (height, width) to store at; None = as published.
      split: 'train' (all worlds), 'train_rest' or 'val'.
      version: '1.3.1' or '2'.
      variations: names from VARIATIONS, such as ('clone',); empty for all ten.

    Raises:
      UserError: an unknown split, version or variation.
    """
    if version not in EXPECTED:
        raise UserError(
            f"virtual_kitti has no version {version!r}; choose one of {', '.join(EXPECTED)}"
        )
    variations = (variations,) if isinstance(variations, str) else tuple(variations)
    for variation in variations:
        if variation not in VARIATIONS:
            raise UserError(
                f"virtual_kitti has no variation {variation!r}; choose from {', '.join(VARIATIONS)}"
            )
    chosen = sorted({*variations} or VARIATIONS)
    counts = {split: count * len(chosen) for split, count in _COUNTS.items()}
    keys = ("label", "depth")
    plain = common.plain_config("virtual_kitti", counts, raw=raw, size=size, split=split, keys=keys)
    title = "_".join(chosen) if len(chosen) < len(VARIATIONS) else "all"
    options = {**plain.options, "version": version, "variations": chosen}
    return dataclasses.replace(plain, name=f"{version}-{title}-{plain.name}", options=options)


def find(config: common.Config) -> tuple[Tree, list[Files]]:
    """Finds the files of the config's split; raises UserError if one is missing."""
    version, variations = config.options["version"], config.options["variations"]
    expected = EXPECTED[version]
    if version == "1.3.1":
        parts = tuple(f"vkitti_1.3.1_{part}" for part in ("rgb", "depthgt", "scenegt"))
        tree = Tree(config.raw, parts, expected)
        found = [tree.stems(part, ".png") for part in parts]
    else:
        tree = Tree(config.raw, tuple(f"Scene{world[2:]}" for world in FRAMES), expected)
        found = [
            _frames(tree, folder, start, end)
            for folder, start, end in (
                ("rgb", "rgb", ".jpg"),
                ("depth", "depth", ".png"),
                ("classSegmentation", "classgt", ".png"),
            )
        ]
    images, depth, label = (
        {s: p for s, p in files.items() if _of(s, variations)} for files in found
    )
    if lacking := [v for v in variations if not any(_of(stem, (v,)) for stem in images)]:
        raise tree.error(f"holds no images of {', '.join(lacking)}")
    videos = {stem.rsplit("/", 1)[0] for stem in images}  # other videos may be incomplete
    depth, label = (
        {stem: path for stem, path in files.items() if stem.rsplit("/", 1)[0] in videos}
        for files in (depth, label)
    )
    more = {} if version == "2" else {"colours": _encodings(tree, images)}
    pairs = tree.pair(images, label=label, depth=depth, **more)
    pairs = [
        files._replace(id=stem.replace("/", "_"))
        for stem, files in zip(images, pairs, strict=True)
        if _in_split(stem, config.options["split"])
    ]
    if not pairs:
        raise tree.error(f"holds no images of {config.options['split']!r}")
    return tree, pairs


def _frames(tree: Tree, folder: str, start: str, end: str) -> dict[str, str]:
    """Finds one kind of version 2's left-camera files: {'WORLD/VARIATION/NNNNN': path}."""
    found = {}
    for world in FRAMES:
        for path in tree.stems(f"Scene{world[2:]}", end).values():
            frame = _FRAME.fullmatch(path)
            if frame and f"/frames/{folder}/Camera_0/{start}_" in path:
                found[f"00{frame[1]}/{frame[2]}/{frame[3]}"] = path
    return found


def _encodings(tree: Tree, images: Mapping[str, str]) -> dict[str, str]:
    """Finds the colour table of each image's video: {stem of the image: path of the table}."""
    files = tree.stems("vkitti_1.3.1_scenegt", "_scenegt_rgb_encoding.txt")
    found = {}
    for stem in images:
        world, variation, _ = stem.split("/")
        if f"{world}_{variation}" not in files:
            raise tree.error(
                f"has no vkitti_1.3.1_scenegt/{world}_{variation}_scenegt_rgb_encoding.txt"
            )
        found[stem] = files[f"{world}_{variation}"]
    return found


def _of(stem: str, variations: Sequence[str]) -> bool:
    """Whether a stem belongs to a known world and to one of the variations."""
    parts = stem.split("/")
    return len(parts) == 3 and parts[0] in FRAMES and parts[1] in variations


def _in_split(stem: str, split: str) -> bool:
    return split == "train" or (split == "val") == stem.startswith(f"{HELD_OUT}/")


def read_colours(data: bytes) -> dict[tuple[int, int, int], int]:
    """Parses a colour table (heading, lines 'Name[:number] r g b') to {colour: id or IGNORE}."""
    colours = {}
    for number, line in enumerate(data.decode("utf-8", "replace").splitlines()[1:], 2):
        words = line.split()
        if not words:
            continue
        values = words[1:]
        if len(values) != 3 or not all(v.isdecimal() and int(v) < 256 for v in values):
            raise UserError(f"line {number} is {line!r}, wanted a name and three values 0 to 255")
        colours[tuple(map(int, values))] = _train_id(words[0].split(":")[0])
    if not colours:
        raise UserError("no colours in it; fetch it again")
    return colours


def _train_id(name: str) -> int:
    """Returns the train id of a class by its published name."""
    if name not in labels.VIRTUAL_KITTI_NAMES:
        raise UserError(f"unknown class {name!r}; known: {', '.join(labels.VIRTUAL_KITTI_NAMES)}")
    title = labels.VIRTUAL_KITTI_NAMES[name]
    return labels.IGNORE if title is None else LABELS.classes.index(title)


_SAME_EVERYWHERE = {colour: _train_id(name) for name, colour in _COLOURS.items()}


def read_label(
    data: bytes, colours: Mapping[tuple[int, int, int], int] = _SAME_EVERYWHERE
) -> np.ndarray:
    """Returns uint8 train ids [H, W]; raises UserError if over 1 % have other colours."""
    image = codec.decode_image(data)
    ids, unlisted = labels.lookup_colours(colours, image)
    if unlisted.mean() > _UNLISTED:
        found, counts = np.unique(image[unlisted], axis=0, return_counts=True)
        most = counts.argmax()
        raise UserError(
            f"unknown colour {' '.join(map(str, found[most]))} in {counts[most]} pixels; is the "
            f"option version right, and are labels and colours from the same download?"
        )
    return ids


def read_depth(data: bytes) -> np.ndarray:
    """Returns float32 metres [H, W], 0 = no value."""
    centimetres = codec.decode_ids(data)
    return np.where(centimetres == 65535, 0, centimetres).astype(np.float32) / 100


Builder = published.builder(
    "virtual_kitti",
    find=find,
    readers=Readers(label=read_label, depth=read_depth, colours=read_colours),
)
