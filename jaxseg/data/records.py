"""Opens a split of a data set as records of encoded bytes, preparing the data set on first use.

Records are TFDS's ArrayRecord files, written and read without TensorFlow. The folder's name holds
the data set, its options, the stored size and the version, so each choice of options has records of
its own. They know which files they were made from, and are made anew when those have changed.
"""

import importlib
import os
import pkgutil
import shutil
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import tensorflow_datasets as tfds

from jaxseg.data import builders, preparing
from jaxseg.data.conversion import made_from
from jaxseg.data.labels import LabelSet
from jaxseg.errors import UserError, check_keywords

DEFAULT_DIR = Path("~/.cache/jaxseg")
LOOK_AGAIN = 600.0  # seconds after which a process lists the published files again

_looked: dict[tuple, float] = {}  # (records, published files) -> when they were compared


class Source:
    """One split's records, in random access, safe to read from many threads.

    Attributes:
      name: the data set.
      split: the split of it.
      label_set: the LabelSet of the stored labels.
      folder: where the records are.
      size: (height, width) of all records; None if each image keeps its published size.
      has: the keys of every record besides its id: 'image' and, where the data set has them,
        'label', 'depth' and 'instances'.
      labelled: whether the records have labels.
      keeps_proportions: whether images are to be scaled until they cover a size, and cropped,
        instead of squashed to it.
    """

    def __init__(
        self,
        name: str,
        split: str,
        label_set: LabelSet,
        folder: Path,
        records: Any,
        *,
        size: tuple[int, int] | None,
        has: tuple[str, ...],
        keeps_proportions: bool = False,
    ):
        self.name, self.split, self.label_set, self.folder = name, split, label_set, folder
        self.size, self.has, self.labelled = size, has, "label" in has
        self.keeps_proportions = keeps_proportions
        self._records = records

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Returns the record: 'id' (text), and encoded bytes for each key in `has`."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        try:
            record = self._records[index]
        except Exception as error:  # the C++ readers below raise exceptions of many types
            raise UserError(
                f"record {index} of {self.name} {self.split} is damaged; "
                f"delete {self.folder} to prepare it anew"
            ) from error
        name = record["id"]
        name = name.decode() if isinstance(name, bytes) else name
        return {"id": name, **{key: record[key] for key in self.has}}

    def where(self, record: dict[str, Any]) -> str:
        """Returns the name of a record for use in messages."""
        return f"record {record['id']!r} of {self.name} {self.split} in {self.folder}"


def names() -> list[str]:
    """Returns the names of the data sets that have a builder."""
    modules = pkgutil.iter_modules(builders.__path__)
    return sorted(module.name for module in modules if not module.name.startswith("_"))


def open_split(
    name: str,
    split: str,
    *,
    records_dir: str | os.PathLike | None = None,
    raw_dir: str | os.PathLike | None = None,
    size: tuple[int, int] | None = None,
    **options: Any,
) -> Source:
    """Opens one split; prepares it first if no records with these options exist, or if they were
    made from other files.

    Args:
      name: data set, a module in jaxseg/data/builders.
      split: 'train', 'val', 'test' or another split of the data set.
      records_dir: folder of the prepared records; None = ~/.cache/jaxseg.
      raw_dir: the folder that holds one folder per published data set (gta5/, synthia/,
        cityscapes/, ...); needed for the preparation only.
      size: (height, width) to store at, for fast reading; None = as published.
      **options: the builder's own options, such as domain, seed and counts of `streets`.

    Returns:
      a Source of encoded records.

    Raises:
      UserError: an unknown data set, split or option; raw data missing, incomplete or damaged.
    """
    records_dir = Path(records_dir or DEFAULT_DIR).expanduser()
    module, config = configured(name, split, raw_dir, size, options)
    with preparing.quiet():
        builder = builder_of(module, records_dir, config)
        if not builder.is_prepared() or _outdated(builder, module, config):
            with preparing.alone(
                records_dir / name / f".{config.name}.lock", f"{name} {config.name}"
            ):
                builder = builder_of(module, records_dir, config)
                _prepare(builder, module, config)
            builder = builder_of(module, records_dir, config)
    folder = Path(builder.data_path)
    decoders = {key: tfds.decode.SkipDecoding() for key in builder.info.features if key != "id"}
    stored = config.options.get("stored", split)
    try:
        records = builder.as_data_source(stored, decoders=decoders)
        has = tuple(decoders)
        if "instances" in has and not records[0]["instances"]:  # the published files had none
            has = tuple(key for key in has if key != "instances")
        len(records)
    except Exception as error:
        raise UserError(
            f"{folder}: unreadable records; delete the folder to prepare it anew"
        ) from error
    return Source(
        name,
        split,
        config.labels or module.LABELS,
        folder,
        records,
        size=None if config.cover else config.size,
        has=has,
        keeps_proportions=config.cover,
    )


def configured(
    name: str,
    split: str,
    raw_dir: str | os.PathLike | None,
    size: tuple[int, int] | None,
    options: dict[str, Any],
) -> tuple[ModuleType, Any]:
    """Returns a data set's module and its Config for a split."""
    if name not in names():
        raise UserError(f"no data set is called {name!r}; choose one of {', '.join(names())}")
    module = importlib.import_module(f"jaxseg.data.builders.{name}")
    own = ("raw", "size", "split")
    check_keywords(module.config, options, what=name, noun="option", reserved=own)
    raw = None if not raw_dir else Path(raw_dir).expanduser() / name
    size = None if size is None else tuple(size)
    return module, module.config(raw=raw, size=size, split=split, **options)


def builder_of(module: ModuleType, records_dir: Path, config: Any) -> Any:
    """Returns the TFDS builder, which reads the metadata of existing records."""
    try:
        return module.Builder(data_dir=records_dir, config=config)
    except UserError:
        raise
    except Exception as error:  # from JSON, protocol buffers or the file system
        folder = records_dir / module.Builder.name / config.name
        if not any(folder.glob("*/dataset_info.json")):
            raise  # no records yet, hence none are damaged
        raise UserError(
            f"{folder}: unreadable records; delete the folder to prepare it anew"
        ) from error


def _prepare(builder: Any, module: ModuleType, config: Any) -> None:
    """Prepares records that are missing or outdated, unless another process just did."""
    folder = Path(builder.data_path)
    if builder.is_prepared():
        if not (why := _outdated(builder, module, config, again=True)):
            return
        print(f"{folder} was made from other files ({why}); it is made anew", flush=True)
        shutil.rmtree(folder)
        builder = type(builder)(data_dir=folder.parents[2], config=config)
    preparing.prepare(builder)
    if (now := _published(module, config)) is not None:
        made_from.write(folder, now)


def _published(module: ModuleType, config: Any) -> made_from.MadeFrom | None:
    """Describes the published files of a split; None if there are none."""
    try:
        files = module.find(config)
    except UserError:
        return None
    return None if files is None else made_from.describe(config.raw, *files)


def _outdated(builder: Any, module: ModuleType, config: Any, again: bool = False) -> str:
    """Says why existing records are to be made anew; '' if they are not."""
    folder = Path(builder.data_path)
    key = str(folder), str(config.raw), config.options.get("split")
    if not again and time.monotonic() - _looked.get(key, -LOOK_AGAIN) < LOOK_AGAIN:
        return ""
    before, now = made_from.read(folder), _published(module, config)
    if now is None:
        if before is not None and config.raw and before.root != str(config.raw.resolve()):
            print(
                f"note: no {builder.name} in {config.raw}: using {folder}, made from {before.root}",
                flush=True,
            )
        _looked[key] = time.monotonic()
        return ""
    stored = config.options.get("stored", config.options.get("split"))
    split = builder.info.splits.get(stored)
    why = made_from.change(before, now, split.num_examples if split else 0)
    if not why:
        _looked[key] = time.monotonic()
        if before is None:
            made_from.write(folder, now)
    return why
