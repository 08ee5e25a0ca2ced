"""Generated files in the published layouts of GTA5 and Cityscapes, for `input.py`.

What matters to a decoder is how many bytes an image has and how they came about, so the pictures
are scenes of the project's own `streets`, rendered small and enlarged (which makes them as smooth
as a camera's optics do), plus the noise of a sensor, chosen so that a PNG has about the 2.3 MB of
the published ones (57 GB / 24 966 and 11 GB / 5 000 images).
"""

import concurrent.futures
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from jaxseg.data import codec, labels
from jaxseg.data.streets import scene as streets_scene

EGO_VEHICLE = 1  # Cityscapes' id of what is ignored at the bottom of the picture


class Layout(NamedTuple):
    """How a data set is published, and what the papers train on."""

    published: int  # training images
    size: tuple[int, int]  # (height, width) of the files
    training: tuple[int, int]  # (height, width) that networks are trained on
    image: str  # path of an image by its number, below the data set's folder
    label: str
    palette: bool  # labels are palette PNGs, else grey ones; ids in both
    domain: str  # of `streets`
    enlarged: int  # times
    noise: float  # standard deviation, grey levels


_CITY = "{kind}/train/streets/streets_{{:06d}}_000019_{suffix}.png"
LAYOUTS = {
    "gta5": Layout(
        24966, (1052, 1914), (720, 1280), "images/{:05d}.png", "labels/{:05d}.png",
        palette=True, domain="rendered", enlarged=2, noise=0.8,
    ),
    "cityscapes": Layout(
        2975, (1024, 2048), (512, 1024), _CITY.format(kind="leftImg8bit", suffix="leftImg8bit"),
        _CITY.format(kind="gtFine", suffix="gtFine_labelIds"),
        palette=False, domain="photographic", enlarged=4, noise=0.4,
    ),
}  # fmt: skip


def write(name: str, folder: Path, count: int, layout: Layout) -> list[tuple[str, str]]:
    """Writes the files of a data set that are not there yet, over all cores.

    Args:
      name: of the data set; the files lie in a folder of this name.
      folder: that holds one folder per data set.
      count: images.
      layout: of the data set, such as LAYOUTS[name].

    Returns:
      (image, label) paths of each.
    """

    def one(number: int) -> tuple[str, str]:
        paths = [folder / name / path.format(number) for path in (layout.image, layout.label)]
        if not all(path.exists() for path in paths):
            image, label = picture(layout, number)
            _save(Image.fromarray(image), paths[0])
            _save(_label_file(label, layout), paths[1])
        return str(paths[0]), str(paths[1])

    with concurrent.futures.ThreadPoolExecutor() as pool:
        return list(pool.map(one, range(1, count + 1)))


def picture(layout: Layout, number: int) -> tuple[np.ndarray, np.ndarray]:
    """An image uint8 [H, W, 3] and its label uint8 [H, W] in Cityscapes' published ids."""
    height, width = layout.size
    small = (height // layout.enlarged, width // layout.enlarged)
    scene = streets_scene.render(0, number, layout.domain, small)
    image = codec.resize_image(scene["image"], layout.size).astype(np.float32)
    rng = np.random.default_rng(number)
    image += layout.noise * rng.standard_normal(image.shape, np.float32)
    published = np.zeros(256, np.uint8)
    for known, train in labels.CITYSCAPES.ids.items():
        published[train] = known
    label = published[codec.resize_nearest(scene["label"], layout.size)]
    label[-height // 20 :] = EGO_VEHICLE
    return np.clip(np.round(image), 0, 255).astype(np.uint8), label


def _save(image: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    image.save(part, "PNG")  # at level 6, which is libpng's default as well as Pillow's
    os.replace(part, path)


def _label_file(label: np.ndarray, layout: Layout) -> Image.Image:
    image = Image.fromarray(label)
    if layout.palette:
        colours = np.zeros((256, 3), np.uint8)
        for known, train in labels.CITYSCAPES.ids.items():
            colours[known] = labels.CITYSCAPES.palette[train]
        image.putpalette(colours.tobytes())
    return image
