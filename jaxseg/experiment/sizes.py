"""The size at which a user's own images are trained, where the config leaves it to the images."""

import collections
import json
import math
from pathlib import Path

from ml_collections import ConfigDict

from jaxseg.data import raw_files
from jaxseg.errors import UserError
from jaxseg.storage import run_folder

LONGEST = 1024  # pixels of the longer side; larger images are made smaller, in proportion
CROP = 256 * 384  # pixels of a crop: what a laptop trains on in batches of eight
STRIDE = 32  # sides of a crop are multiples of the coarsest features' stride


def settle(config: ConfigDict, workdir: str | Path = "") -> None:
    """Replaces `data.source.size=()` and `data.target.size=()` by the images' own size.

    That is the most frequent size of the training images, made smaller in proportion if it is
    longer than LONGEST. A run in the work folder has settled it already. Where the source's size is
    settled and `augment.source.crop` is empty, images larger than CROP are trained in crops of the
    same shape.

    Args:
      config: changed in place.
      workdir: of the run, if there is one.

    Raises:
      UserError: no images to take the size from.
    """
    own = [side for side in ("target", "source") if tuple(config.data[side].size) == ()]
    for side in own:
        if tuple(config.data[side].size) == ():  # the two may be one setting
            config.data[side].size = _of_run(workdir, side) or _of_images(config, side)
    crop = config.augment.source
    if "source" in own and tuple(crop.crop) == ():
        crop.crop = crop_of(config.data.source.size)


def _of_run(workdir: str | Path, side: str) -> tuple[int, int] | None:
    try:
        saved = json.loads(Path(workdir, run_folder.CONFIG).read_text())["data"][side]["size"]
        height, width = map(int, saved)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return height, width


def _of_images(config: ConfigDict, side: str) -> tuple[int, int]:
    data = config.data[side]
    found = raw_files.sizes(
        data.name,
        data.split,
        records_dir=config.data.records or None,
        raw_dir=config.data.root,
        **data.options.to_dict(),
    )
    if not found:
        raise UserError(
            f"config.data.{side}.size=() stands for the images' own size, but there are no images "
            f"of {data.name} to read it from: give --config.data.{side}.size=HEIGHT,WIDTH"
        )
    return fitted(collections.Counter(found).most_common(1)[0][0])


def fitted(size: tuple[int, int]) -> tuple[int, int]:
    """(height, width) in proportion, no side longer than LONGEST."""
    factor = min(1.0, LONGEST / max(size))
    height, width = (max(1, round(side * factor)) for side in size)
    return height, width


def crop_of(size: tuple[int, int]) -> tuple[int, ...]:
    """(height, width) of crops with the image's shape and about CROP pixels; () if the image has no
    more than that."""
    height, width = size
    factor = math.sqrt(CROP / (height * width))
    if factor >= 1:
        return ()
    return tuple(max(STRIDE, STRIDE * round(side * factor / STRIDE)) for side in size)


def as_trained(config: ConfigDict, own: ConfigDict) -> ConfigDict:
    """The config with the sizes of images that a run was trained at: what it remembers, such as
    pools of images, has them, while its networks take others.
    """
    config = config.copy_and_resolve_references()
    with config.unlocked(), config.ignore_type():
        for side in ("source", "target"):
            for group, key in (("data", "size"), ("augment", "crop")):
                saved = own.get(group, {}).get(side, {})
                if key in saved:
                    config[group][side][key] = saved[key]
    return config
