"""Settings of a config that are checked or converted before they are used."""

import json
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from jaxseg.data import classfile, labels, photograph, records
from jaxseg.errors import UserError


def label_set(config: ConfigDict) -> labels.LabelSet:
    """The learnt and scored classes."""
    return classfile.by_name(config.data.classes)


def take_translated(config: ConfigDict) -> None:
    """Lets the source be the images that `--mode=translate` has written to `data.translated`.

    Args:
      config: changed in place; nothing happens without that setting, or if it has been done, as in
        the config of a run, which can be loaded when the folder is no longer there.

    Raises:
      UserError: the folder holds no finished translation.
    """
    where = config.data.get("translated", "")
    if not where:
        return
    folder = Path(where).expanduser().resolve()
    images, source = str(folder / "source/images"), config.data.source
    if source.name == "folder" and source.options.get("images") == images:
        return
    try:
        finished = json.loads((folder / "translation.json").read_text()).get("finished")
    except (OSError, ValueError) as error:
        raise UserError(
            f"config.data.translated={where}: no translation there ({error})"
        ) from error
    if not finished:
        raise UserError(f"config.data.translated={where} is unfinished: run --mode=translate again")
    keeps = bool(source.options.get("keep_proportions", False))
    config.data.translated = str(folder)
    source.update(dict(name="folder", split="all", val_split=""))
    options = dict(
        images=images,
        labels=str(folder / "source/labels"),
        classes=str(folder / "classes.txt"),
        label_values="index",
        keep_proportions=keeps,  # as the images that were translated
    )
    with config.unlocked():
        config.data.source.options = ConfigDict(options)


def scored(config: ConfigDict) -> list[int] | None:
    """Ids of the classes that mIoU is averaged over; None for all."""
    chosen = config.eval.classes
    return _ids_of(config, "eval.classes", chosen) if chosen else None


def also_scored(config: ConfigDict) -> dict[str, list[int]]:
    """Class ids of each set in `eval.also`, by name."""
    return {name: _ids_of(config, "eval.also", name) for name in config.eval.also}


def _ids_of(config: ConfigDict, setting: str, chosen: str) -> list[int]:
    names, wanted = label_set(config).classes, classfile.by_name(chosen).classes
    unknown = [name for name in wanted if name not in names]
    if unknown:
        raise UserError(
            f"config.{setting}={chosen} has {unknown[0]!r}, which is not among "
            f"config.data.classes={config.data.classes}"
        )
    return [names.index(name) for name in wanted]


def size_of(name: str, value: Any) -> tuple[int, int]:
    """Checks a (height, width) setting."""
    ok = len(value) == 2 and all(isinstance(v, int) and v > 0 for v in value)
    if not ok:
        raise UserError(f"config.{name}={tuple(value)} is not (height, width)")
    return tuple(value)


def network_size(config: ConfigDict) -> tuple[int, int] | None:
    """The size that images have for the network; None for their own (`eval.full_resolution`), a
    `photograph.Covering` where proportions are kept.
    """
    if config.eval.full_resolution:
        return None
    target = config.data.target
    size = size_of("data.target.size", target.size)
    return photograph.Covering(*size) if target.options.get("keep_proportions") else size


def devices(config: ConfigDict) -> list[jax.Device]:
    """The local devices to use: `train.devices`, or as many as divide the batch."""
    settings, local = config.train, jax.local_devices()
    share = settings.batch // settings.accumulate // jax.process_count()
    count = settings.devices or max(
        (n for n in range(1, len(local) + 1) if share % n == 0), default=1
    )
    if not 0 < count <= len(local):
        raise UserError(f"config.train.devices={count}, but there are {len(local)} local devices")
    if settings.batch % (settings.accumulate * jax.process_count() * count):
        raise UserError(
            f"config.train.batch={settings.batch} images cannot be shared by {count} devices of "
            f"{jax.process_count()} processes with {settings.accumulate} micro-batches"
        )
    return local[:count]


def use_compile_cache(config: ConfigDict) -> None:
    """Caches compiled programs for later runs of the same experiment, unless switched off."""
    if config.compile_cache and not jax.config.jax_compilation_cache_dir:
        folder = records.DEFAULT_DIR.expanduser() / "compiled"
        jax.config.update("jax_compilation_cache_dir", str(folder))


def choice(name: str, value: str, choices: dict[str, Any]) -> Any:
    """The entry of `choices` named `value`; UserError that lists all names if there is none."""
    if value not in choices:
        raise UserError(f"config.{name}={value!r}; choose one of {', '.join(choices)}")
    return choices[value]
