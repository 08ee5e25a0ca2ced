"""KITTI semantic segmentation 2015 (Alhaija et al., IJCV 2018; Geiger et al., CVPR 2012).

200 labelled images ('training', about 375x1242 pixels, four sizes) and 200 unlabelled ones
('testing'), the left images of the 2015 stereo benchmark. Labels have the ids of Cityscapes and are
stored as train ids; `labels.VIRTUAL_KITTI` are the 10 classes scored in Virtual KITTI to KITTI.

There is no published validation split. For adaptation 'train' is the unlabelled images and 'val'
all labelled ones. For supervised training the labelled images are split: 'val_rest' holds those
whose number is a multiple of 5 (40) and 'train_rest' the others (160).

With the option depth='disparity' the records of labelled images also hold depth in metres: focal
length times baseline, over disparity. The disparity is the stereo benchmark's (disp_occ_0, units of
1/256 pixel, 0 = not measured); focal length times baseline is the difference of the fourth values
of P_rect_02 and P_rect_03 in each image's calibration. Unlabelled images have no depth.

Written from the data set's published description; the files themselves were not available. Not
checked: that 'train' and 'val' are those of the papers on adaptation.
"""

from pathlib import Path

import numpy as np

from jaxseg.data import codec, labels
from jaxseg.data.builders.cityscapes import read_label
from jaxseg.data.conversion import common, published
from jaxseg.data.conversion.convert import Readers
from jaxseg.data.conversion.tree import Files, Tree
from jaxseg.errors import UserError

LABELS = labels.CITYSCAPES
EXPECTED = (
    "kitti/training/{image_2,semantic}/NNNNNN_10.png and kitti/testing/image_2/NNNNNN_10.png, or "
    "data_semantics.zip in kitti/"
)
HELD_OUT = 5  # every 5th image is 'val_rest'

_COUNTS = {"train": 200, "val": 200, "train_rest": 160, "val_rest": 40}
_DISPARITY = (  # folder, file name suffix, archive
    ("depth", "training/disp_occ_0", "_10.png", "data_scene_flow.zip"),
    ("camera", "training/calib_cam_to_cam", ".txt", "data_scene_flow_calib.zip"),
)


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
      split: 'train' (unlabelled), 'val', 'train_rest' or 'val_rest'.
      depth: 'disparity' for metres from the stereo benchmark, '' for none.

    Raises:
      UserError: an unknown split or kind of depth.
    """
    if depth not in ("", "disparity"):
        raise UserError(f"kitti has no depth {depth!r}; choose 'disparity', or '' for none")
    labelled = (split or "train") != "train"
    keys = ("label",) if labelled else ()
    if depth and labelled:
        keys += ("depth",)
    return common.plain_config(
        "kitti", _COUNTS, raw=raw, size=size, split=split, keys=keys,
        variant=depth if labelled else "",
    )  # fmt: skip


def find(config: common.Config) -> tuple[Tree, list[Files]]:
    """Finds the files of the config's split; raises UserError if one is missing."""
    split, expected = config.options["split"], EXPECTED
    beside = _DISPARITY if "depth" in config.keys else ()
    for _, folder, suffix, archive in beside:
        expected += f", kitti/{folder}/NNNNNN{suffix} or {archive}"
    tree = Tree(config.raw, ("training", "testing"), expected)
    top = "testing" if split == "train" else "training"
    images = tree.stems(f"{top}/image_2", "_10.png")
    if not images:
        raise tree.error(f"holds no images in {top}/image_2")
    if split == "train":
        return tree, tree.pair(images)
    found = {"label": tree.stems("training/semantic", "_10.png")}
    for kind, folder, suffix, archive in beside:
        found[kind] = tree.stems(folder, suffix)
        if not found[kind]:
            raise tree.error(
                f"holds no {folder} ({archive}), which the option depth=disparity needs"
            )
    pairs = tree.pair(images, **found)
    if split == "val":
        return tree, pairs
    if odd := [files.image for files in pairs if not files.id.isdecimal()]:
        raise UserError(
            f"{odd[0]}: not a number, by which images are held out; use the split 'val'"
        )
    pairs = [f for f in pairs if (int(f.id) % HELD_OUT == 0) == (split == "val_rest")]
    if not pairs:
        raise tree.error(f"holds no images of {split}")
    return tree, pairs


def read_camera(data: bytes) -> float:
    """Returns baseline times focal length (metres * pixels) from a calibration file."""
    values = {}
    for line in data.decode("utf-8", "replace").splitlines():
        name, _, numbers = line.partition(":")
        values[name] = numbers.split()
    try:
        left, right = (float(values[name][3]) for name in ("P_rect_02", "P_rect_03"))
    except (KeyError, IndexError, ValueError) as error:
        raise UserError("no P_rect_02 and P_rect_03 of 12 numbers; fetch it again") from error
    if not 0 < left - right < np.inf:
        raise UserError(f"focal length * baseline is {left - right}; fetch it again")
    return left - right


def read_disparity(data: bytes, scale: float) -> np.ndarray:
    """Returns float32 metres [H, W], 0 = no value; `scale` is from `read_camera`."""
    stored = codec.decode_ids(data).astype(np.float32)
    return np.where(stored > 0, 256 * np.float32(scale) / np.maximum(stored, 1), 0)


Builder = published.builder(
    "kitti",
    find=find,
    readers=Readers(label=read_label, depth=read_disparity, camera=read_camera),
)
