"""Cityscapes (Cordts et al., CVPR 2016), fine annotations: 2 975 train, 500 val and 1 525 test
images.

The labels are the `*_gtFine_labelIds.png` files, stored as train ids. The
publishers withhold the test labels: files in their place are not read, and test records have none.

The instances of val (`*_gtFine_instanceIds.png`: 1000 * id + object number where objects are
separate, the id elsewhere), which instance-weighted scores need, are stored if present.

With the option depth='disparity' the records also hold depth in metres, baseline * focal length /
disparity, from the published stereo disparity (`*_disparity.png`: 256 * pixels + 1, 0 = not
measured, semi-global matching) and the camera of each image (`*_camera.json`). Beyond about 100 m
one step of disparity is many metres, so such values mean 'far'; values above 256 m become 256 m.
"""

import json
from pathlib import Path

import numpy as np

from jaxseg.data import codec, labels
from jaxseg.data.conversion import common, published
from jaxseg.data.conversion.convert import Readers
from jaxseg.data.conversion.tree import Files, Tree
from jaxseg.errors import UserError

LABELS = labels.CITYSCAPES
EXPECTED = (
    "cityscapes/leftImg8bit/{train,val}/CITY/*_leftImg8bit.png and "
    "cityscapes/gtFine/{train,val}/CITY/*_gtFine_labelIds.png, or leftImg8bit_trainvaltest.zip and "
    "gtFine_trainvaltest.zip in cityscapes/"
)

_IDS = labels.id_table(LABELS.ids)
_COUNTS = {"train": 2975, "val": 500, "test": 1525}
_BESIDE = {  # for the option depth: folder, file name suffix, archive
    "depth": ("disparity", "_disparity.png", "disparity_trainvaltest.zip"),
    "camera": ("camera", "_camera.json", "camera_trainvaltest.zip"),
}


def config(
    *,
    raw: Path | None = None,
    size: tuple[int, int] | None = None,
    split: str | None = None,
    depth: str = "",
) -> common.Config:
    """Returns the config for one split.

    Args:
      raw: the folder of the published files.
      size: (height, width) to store at; None = as published.
      split: 'train', 'val' or 'test'.
      depth: 'disparity' for metres from stereo, '' for none.

    Raises:
      UserError: an unknown split or kind of depth.
    """
    if depth not in ("", "disparity"):
        raise UserError(f"cityscapes has no depth {depth!r}; choose 'disparity', or '' for none")
    keys, variant = keys_and_variant(split or "train", depth)
    return common.plain_config(
        "cityscapes", _COUNTS, raw=raw, size=size, split=split, keys=keys, variant=variant
    )


def keys_and_variant(split: str, depth: str = "") -> tuple[tuple[str, ...], str]:
    """Returns the keys of a split's records besides id and image, and the name of that variant."""
    more = {"depth": depth, "instances": "instances" if split == "val" else ""}
    keys = ("label",) if split != "test" else ()
    return keys + tuple(filter(more.get, more)), "-".join(filter(None, more.values()))


def find(config: common.Config) -> tuple[Tree, list[Files]]:
    """Finds the files of the config's split; raises UserError if one is missing."""
    split, tops, expected = config.options["split"], ("leftImg8bit", "gtFine"), EXPECTED
    beside = _BESIDE if "depth" in config.keys else {}
    for folder, suffix, archive in beside.values():
        tops += (folder,)
        expected += f", cityscapes/{folder}/{split}/CITY/*{suffix} or {archive}"
    tree = Tree(config.raw, tops, expected)
    images = tree.stems(f"leftImg8bit/{split}", "_leftImg8bit.png")
    if not images:
        raise tree.error(f"holds no images of {split}")
    found = {}
    if "label" in config.keys:
        found["label"] = tree.stems(f"gtFine/{split}", "_gtFine_labelIds.png")
    for kind, (folder, suffix, archive) in beside.items():
        found[kind] = tree.stems(f"{folder}/{split}", suffix)
        if not found[kind]:
            raise tree.error(
                f"holds no {folder}/{split} ({archive}), which the option depth=disparity needs"
            )
    return tree, tree.pair(images, **found, **instances_of(tree, config))


def instances_of(tree: Tree, config: common.Config) -> dict[str, dict[str, str]]:
    """Returns {'instances': files by stem} if the split needs them and there are any, else {}."""
    if "instances" not in config.keys:
        return {}
    found = tree.stems(f"gtFine/{config.options['split']}", "_gtFine_instanceIds.png")
    return {"instances": found} if found else {}


def read_label(data: bytes) -> np.ndarray:
    """Returns uint8 train ids [H, W]."""
    array = codec.decode_ids(data)
    labels.refuse_unknown(array, range(34))
    return labels.lookup(_IDS, array)


def read_camera(data: bytes) -> float:
    """Returns baseline times focal length (metres * pixels) from a camera file."""
    try:
        camera = json.loads(data)
        scale = float(camera["extrinsic"]["baseline"]) * float(camera["intrinsic"]["fx"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"no extrinsic.baseline and intrinsic.fx ({error!r}); fetch it again"
        ) from (error)
    if not 0 < scale < np.inf:
        raise UserError(f"baseline * fx is {scale}, wanted metres * pixels; fetch it again")
    return scale


def read_disparity(data: bytes, scale: float) -> np.ndarray:
    """Returns float32 metres [H, W], 0 = no value; `scale` is from `read_camera`."""
    stored = codec.decode_ids(data).astype(np.float32)
    return np.where(stored > 1, 256 * np.float32(scale) / np.maximum(stored - 1, 1), 0)


Builder = published.builder(
    "cityscapes",
    find=find,
    readers=Readers(label=read_label, depth=read_disparity, camera=read_camera),
)
