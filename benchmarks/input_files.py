"""Generated files in the published layouts of GTA5 and Cityscapes, for `input.py`.

Decoding time depends on file size and image statistics. So the images are scenes of `streets`,
rendered small and enlarged (which makes them as smooth as a camera's optics do), plus sensor noise,
chosen so that a PNG has about 2.3 MB like the published ones (57 GB / 24 966 and 11 GB / 5 000
images).
"""

import concurrent.futures
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from jaxseg.data import codec, labels
from jaxseg.data.streets import scene as streets_scene

EGO_VEHICLE = 1  # Cityscapes' id of the ego vehicle, ignored, at the bottom of the image


class Layout(NamedTuple):
    """How a data set is published, and the size that the papers train on."""

    published: int  # training images
    size: tuple[int, int]  # (height, width) of the files
    training: tuple[int, int]  # (height, width) of the network input in training
    image: str  # path of an image below the data set's folder, by its number
    label: str
    palette: bool  # whether labels are palette PNGs, else grey PNGs; both hold ids
    domain: str  # domain of `streets`
    enlarged: int  # enlargement factor
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
    """Writes the missing files of a data set on all cores.

    Args:
      name: name of the data set and of its folder.
      folder: parent of the data set's folder.
      count: number of images.
      layout: layout of the data set, such as LAYOUTS[name].

    Returns:
      (image path, label path) of each image.
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
    """Renders an image uint8 [H, W, 3] and its label uint8 [H, W] in Cityscapes ids."""
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
    image.save(part, "PNG")  # compression level 6, the default of Pillow and libpng
    os.replace(part, path)


def _label_file(label: np.ndarray, layout: Layout) -> Image.Image:
    image = Image.fromarray(label)
    if layout.palette:
        colours = np.zeros((256, 3), np.uint8)
        for known, train in labels.CITYSCAPES.ids.items():
            colours[known] = labels.CITYSCAPES.palette[train]
        image.putpalette(colours.tobytes())
    return image
