"""The weights that others offer, and whether their files are here.

Sizes and checksums stand only where they are known for certain: the files in packages were read,
and the names of torchvision's files and of AdaptSegNet's end with the first digits of their
SHA-256. No page and no server fetches any of them: the addresses are for the user.
"""

import hashlib
import os
import threading
from pathlib import Path
from typing import Any

from jaxseg.storage.weights import packaged

TORCHVISION = "https://download.pytorch.org/models/"
BSD = "BSD-3-Clause (torchvision); trained on ImageNet"
NVIDIA = "NVIDIA Source Code License: research and evaluation only"
ADVENT = "https://github.com/valeoai/ADVENT/releases"

# (file, what it is, where it comes from, licence, first digits of the SHA-256)
_OFFERED = (
    ("resnet101-63fe2227.pth", "ResNet-101, ImageNet", TORCHVISION, BSD, "63fe2227"),
    ("resnet50-0676ba61.pth", "ResNet-50, ImageNet", TORCHVISION, BSD, "0676ba61"),
    ("vgg16-397923af.pth", "VGG-16, ImageNet", TORCHVISION, BSD, "397923af"),
    *(
        (f"mit_b{n}.pth", f"MiT-B{n}, ImageNet (SegFormer, DAFormer, HRDA, MIC)",
         "https://github.com/NVlabs/SegFormer", NVIDIA, "")
        for n in (0, 3, 5)
    ),
    *(
        (f"dinov2_vit{s}14_pretrain.pth", f"DINOv2 ViT-{s.upper()}/14",
         "https://github.com/facebookresearch/dinov2", "Apache-2.0", "")
        for s in "sbl"
    ),
    ("GTA2Cityscapes_multi-ed35151c.pth", "AdaptSegNet, GTA5 to Cityscapes",
     "https://github.com/wasidennis/AdaptSegNet", "non-commercial research", "ed35151c"),
    ("gta2cityscapes_advent.pth", "AdvEnt, GTA5 to Cityscapes", ADVENT, "as its page states", ""),
    ("gta2cityscapes_minent.pth", "MinEnt, GTA5 to Cityscapes", ADVENT, "as its page states", ""),
    *(
        (f"{name} (any file name)", f"{name}, GTA5 to Cityscapes and others",
         f"https://github.com/lhoyer/{name}", "as its page states; a MiT inside", "")
        for name in ("DAFormer", "HRDA", "MIC")
    ),
)  # fmt: skip
SUFFIXES = (".pth", ".pt", ".npz", ".safetensors", ".caffemodel", ".h5")
_lock = threading.Lock()
_sums: dict[tuple, str] = {}


def offered(files: list[str]) -> list[dict[str, Any]]:
    """What packages and papers offer.

    Args:
      files: names (paths) of weight files at hand.

    Returns:
      a list of name, what, where, licence, sha256 (or its first digits; ''), bytes (None if
      unknown), here (the path; '' if it is not), backbone (its name in `config.init.backbone`, for
      packages).
    """
    found = []
    for backbone, entry in packaged.FILES.items():
        path = packaged.here(entry)
        found.append({
            "name": os.path.basename(entry.file), "what": f"{entry.backbones[0]}, ImageNet",
            "where": entry.advice, "licence": entry.licence,
            "sha256": entry.sha256, "bytes": path.stat().st_size if path else None,
            "here": str(path or ""), "backbone": backbone,
        })  # fmt: skip
    named = {os.path.basename(path): path for path in files}
    for file, what, where, licence, digits in _OFFERED:
        found.append({"name": file, "what": what, "where": where, "licence": licence,
                      "sha256": digits, "bytes": None, "here": named.get(file, ""),
                      "backbone": ""})  # fmt: skip
    return found


def checksum(path: Path) -> str:
    """The SHA-256 of a file, computed once for each state of it."""
    state = path.stat()
    key = str(path), state.st_size, state.st_mtime_ns
    with _lock:
        if key in _sums:
            return _sums[key]
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    with _lock:
        _sums[key] = digest
    return digest
