"""The experiments that can be chosen: configs, their presets, and settings with their comments."""

import ast
import re
import shlex
from typing import Any

from ml_collections import ConfigDict
from ml_collections.config_dict import FieldReference

from jaxseg.errors import UserError
from jaxseg.experiment import comments, presets

# The handful that a form shows; all others are listed below it.
FEW = ("train.steps", "train.warmup_steps", "train.batch", "train.eval_every", "optim.gen.lr",
       "net.architecture", "net.backbone", "init.backbone", "seed")  # fmt: skip
OWN = ("name",)  # which a form asks for by itself
# What the configs' sources leave to their names, or say in a longer comment above.
_MORE = {
    "optim.gen.lr": "highest learning rate of the segmenter",
    "init.backbone": "weights to start from: a name of an installed package, or a file",
    "seed": "of the initial values, the order of images and all else that is drawn",
}


def listed() -> list[dict[str, Any]]:
    """Name and title of each config."""
    found = []
    for name in presets.names():
        with open(presets.path_of(name), encoding="utf-8") as file:
            title = ast.get_docstring(ast.parse(file.read())) or ""
        found.append({"name": name, "title": title.split("\n\n")[0].replace("\n", " ")})
    return found


def settings(name: str, preset: str) -> list[dict[str, Any]]:
    """All settings of a config: key, value as text for the command line, comment, few (whether it
    is one of the handful, which come first).

    Raises:
      UserError: no such config or preset.
    """
    if name not in presets.names():
        raise UserError(f"there is no experiment {name!r}")
    config = presets.load(f"{name}:{preset}" if preset else name)
    told = comments.of_configs(presets.folder()) | comments.of_method(config.method.name) | _MORE
    found = [
        {"key": key, "value": _text(value), "comment": comments.of(key, told), "few": key in FEW}
        for key, value in _flat(config, "")
        if key not in OWN
    ]
    return sorted(found, key=lambda s: FEW.index(s["key"]) if s["few"] else len(FEW))


def overrides(text: str) -> list[str]:
    """The settings of a text box as arguments: 'train.steps=20', '--config.seed=1', one or more a
    line; '#' begins a remark.

    Raises:
      UserError: something else.
    """
    words = []
    for line in text.splitlines():
        try:
            words += shlex.split(line, comments=True)
        except ValueError as error:  # a quotation mark without its other one
            raise UserError(f"{line.strip()!r} cannot be read: {str(error).lower()}") from error
    return [_override(word) for word in words]


def _override(word: str) -> str:
    match = re.fullmatch(r"(?:(?:--)?config\.)?([A-Za-z_]\w*(?:\.\w+)*)=(.*)", word, re.DOTALL)
    if not match:
        raise UserError(
            f"{word!r} is no setting: write KEY=VALUE without spaces, as train.steps=700"
        )
    return f"--config.{match[1]}={match[2]}"


def _flat(config: ConfigDict, prefix: str) -> list[tuple[str, Any]]:
    found = []
    for key in config:
        name, value = f"{prefix}{key}", config[key]
        found += _flat(value, name + ".") if isinstance(value, ConfigDict) else [(name, value)]
    return found


def _text(value: Any) -> str:
    value = value.get() if isinstance(value, FieldReference) else value
    return value if isinstance(value, str) else "" if value is None else str(value)
