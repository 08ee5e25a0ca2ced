"""The experiments that can be chosen: configs, their presets, and settings with their comments.

A comment stands once, beside the setting's default in the configs' source, and is read from there.
"""

import ast
import importlib
import json
import re
import shlex
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from ml_collections import ConfigDict
from ml_collections.config_dict import FieldReference

from jaxseg.errors import UserError
from jaxseg.web import launcher

# The handful that a form shows; all others are listed below it.
FEW = ("train.steps", "train.warmup_steps", "train.batch", "train.eval_every", "optim.gen.lr",
       "net.architecture", "net.backbone", "init.backbone", "seed")  # fmt: skip
# What a form names itself.
OWN = ("name",)
_COMMENT = re.compile(r"\s+(?:(\w+)=.*,|config\.(\w+) = .*?)\s+# (.+)$")
_GROUP = re.compile(
    r"\s+config\.([\w.]+)\s*=\s*ConfigDict\(|def (\w+)\(|\s+(gen|disc|shared) = dict\("
)
_FUNCTIONS = {"augmentation": "augment", "network": "net", "discriminator": "disc",
              "translator": "translator", "optimisers": "optim"}  # fmt: skip


def listed() -> list[dict[str, Any]]:
    """Name, title and presets of each config."""
    found = []
    for path in sorted(launcher.configs().glob("*.py")):
        module = _module(path.stem)
        if hasattr(module, "get_config"):
            title = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
            sentence = title.split("\n\n")[0].replace("\n", " ")
            found.append({"name": path.stem, "title": sentence, "presets": _presets(module)})
    return found


def settings(name: str, preset: str) -> list[dict[str, Any]]:
    """All settings of a config: key, value as text for the command line, comment, few (whether it
    is one of the handful, which come first).

    Raises:
      UserError: no such config or preset.
    """
    module = _module(name)
    if not hasattr(module, "get_config"):
        raise UserError(f"there is no config {name!r}")
    try:
        config = module.get_config(preset) if preset else module.get_config()
    except ValueError as error:
        raise UserError(str(error)) from error
    comments = _comments()
    found = [
        {"key": key, "value": _text(value), "comment": _comment(comments, key), "few": key in FEW}
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
    try:
        words = [w for line in text.splitlines() for w in shlex.split(line, comments=True)]
    except ValueError as error:
        raise UserError(f"the settings cannot be read: {error}") from error
    return [_override(word) for word in words]


def _override(word: str) -> str:
    match = re.fullmatch(r"(?:--)?(?:config\.)?([A-Za-z_]\w*(?:\.\w+)*)=(.*)", word, re.DOTALL)
    if not match:
        raise UserError(f"{word!r} is no setting: write KEY=VALUE, as train.steps=700")
    return f"--config.{match[1]}={match[2]}"


def _module(name: str) -> ModuleType:
    """A config's module; its folder's parent is put on the path, as launch.py's own folder is."""
    if not re.fullmatch(r"\w+", name) or not (launcher.configs() / f"{name}.py").is_file():
        raise UserError(f"there is no config {name!r}")
    parent = str(launcher.configs().parent)
    if parent not in sys.path:
        sys.path.insert(0, parent)
    return importlib.import_module(f"{launcher.configs().name}.{name}")


def _presets(module: ModuleType) -> list[str]:
    """The presets, from the message about one that does not exist."""
    try:
        module.get_config("?")
    except ValueError as error:
        return str(error).partition("choose one of ")[2].split(", ")
    return []


def _flat(config: ConfigDict, prefix: str) -> list[tuple[str, Any]]:
    found = []
    for key in config:
        value = config[key]
        name = f"{prefix}{key}"
        found += _flat(value, name + ".") if isinstance(value, ConfigDict) else [(name, value)]
    return found


def _text(value: Any) -> str:
    value = value.get() if isinstance(value, FieldReference) else value
    return value if isinstance(value, str) else "" if value is None else str(value)


def _comments() -> dict[tuple[str, str], str]:
    """(first part of a key, last part) -> comment, from the source of the shared configs."""
    found: dict[tuple[str, str], str] = {}
    for file in ("common.py", "settings.py"):
        group: str | None = None
        path: Path = launcher.configs() / file
        for line in path.read_text(encoding="utf-8").splitlines():
            if opens := _GROUP.match(line):
                function = opens[2]
                if opens[1]:
                    group = opens[1].split(".")[-1]
                elif function:
                    group = _FUNCTIONS.get(function, "" if function == "experiment" else None)
            if group is not None and (match := _COMMENT.match(line)):
                key, top, comment = match.groups()
                found.setdefault((group, key) if key else ("", top), comment)
    return found


def _comment(comments: dict[tuple[str, str], str], key: str) -> str:
    parts = key.split(".")
    for group in [*parts[-2:-1], parts[0], ""]:
        if (group, parts[-1]) in comments:
            return comments[group, parts[-1]]
    return _MORE.get(key, "")


# Settings whose names say it all, but for a newcomer.
_MORE = {
    "train.steps": "where training stops",
    "train.warmup_steps": "first steps on the source alone, before the adaptation begins",
    "train.eval_every": "steps between evaluations; 0: after the warm-up and at the end only",
    "optim.gen.lr": "highest learning rate of the segmenter",
    "net.architecture": "a file in jaxseg/models/segmenters",
    "net.backbone": "a name in one of the files in jaxseg/models/backbones",
    "init.backbone": "weights to start from: a name of an installed package, or a file",
    "seed": "of the initial values, the order of images and all else that is drawn",
}


def dumps(value: Any) -> str:
    """A value for the command line, of JSON: lists as tuples."""
    if isinstance(value, list):
        return "(" + "".join(f"{dumps(v)}," for v in value) + ")"
    return value if isinstance(value, str) else json.dumps(value)
