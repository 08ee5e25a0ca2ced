"""Opens a split of a data set as records of encoded bytes, preparing the data set on first use.

Records are TFDS's ArrayRecord files, written and read without TensorFlow. Their folder's name
spells out the data set, its options, the stored size and the version, so other options are another
preparation, never a wrong reuse.
"""

import contextlib
import importlib
import os
import pkgutil
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import tensorflow_datasets as tfds
from absl import logging

from jaxseg.data import builders, codec
from jaxseg.data.labels import LabelSet
from jaxseg.errors import UserError, check_keywords

try:
    import fcntl
except ImportError:  # not a POSIX system: two runs must then not prepare at the same time
    fcntl = None

DEFAULT_DIR = Path("~/.cache/jaxseg")


class Source:
    """One split's records, in random access, safe to read from many threads.

    Attributes:
      name: of the data set.
      split: of the data set.
      label_set: the LabelSet that the stored labels are in.
      folder: where the records lie.
      size: (height, width) of all records; None if each has its own, as published.
      has: what every record holds beside its id: 'image' and, if the set has them, 'label', 'depth'
        and 'instances'.
      labelled: whether the records have labels.
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
    ):
        self.name, self.split, self.label_set, self.folder = name, split, label_set, folder
        self.size, self.has, self.labelled = size, has, "label" in has
        self._records = records

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Returns 'id' (text) and the encoded bytes of all that `has` names."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        try:
            record = self._records[index]
        except Exception as error:  # the readers below raise whatever their C++ parts come upon
            raise UserError(
                f"record {index} of {self.name} {self.split} is damaged; "
                f"delete {self.folder} to prepare it anew"
            ) from error
        name = record["id"]
        name = name.decode() if isinstance(name, bytes) else name
        return {"id": name, **{key: record[key] for key in self.has}}

    def where(self, record: dict[str, Any]) -> str:
        """Returns how messages name a record."""
        return f"record {record['id']!r} of {self.name} {self.split} in {self.folder}"


def names() -> list[str]:
    """Returns the data sets there are a builder for."""
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
    """Opens one split, preparing it first if that has not been done with these options.

    Args:
      name: of a module in jaxseg/data/builders.
      split: 'train', 'val' or 'test', as far as the data set has it.
      records_dir: where prepared records are kept; None = ~/.cache/jaxseg.
      raw_dir: the folder that holds one folder per published data set (gta5/, synthia/,
        cityscapes/, ...); needed for the preparation only.
      size: (height, width) to store at, for fast reading; None = as published.
      **options: the builder's own, such as domain, seed and counts of `streets`.

    Returns:
      a Source of encoded records.

    Raises:
      UserError: an unknown data set, split or option; raw data missing, incomplete or damaged.
    """
    records_dir = Path(records_dir or DEFAULT_DIR).expanduser()
    module, config = _config(name, split, raw_dir, size, options)
    with _quiet():
        builder = _builder(module, records_dir, config)
        if not builder.is_prepared():
            with _alone(records_dir / name / f".{config.name}.lock", f"{name} {config.name}"):
                if not builder.is_prepared():
                    _prepare(builder)
            builder = _builder(module, records_dir, config)
    folder = Path(builder.data_path)
    decoders = {key: tfds.decode.SkipDecoding() for key in builder.info.features if key != "id"}
    stored = config.options.get("stored", split)
    try:
        records = builder.as_data_source(stored, decoders=decoders)
        has = tuple(decoders)
        if "instances" in has and not records[0]["instances"]:  # their files were not there
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
        size=config.size,
        has=has,
    )


def check_raw(
    name: str,
    split: str,
    *,
    records_dir: str | os.PathLike | None = None,
    raw_dir: str | os.PathLike | None = None,
    size: tuple[int, int] | None = None,
    **options: Any,
) -> None:
    """Fails fast if raw data is missing, which `open_split` may find after hours of preparing.

    Args:
      as of `open_split`.

    Raises:
      UserError: as `open_split` would raise it: an unknown data set, split or option; neither
        prepared records nor all of the published files (which are listed, not opened).
    """
    module, config = _config(name, split, raw_dir, size, options)
    with _quiet():
        records_dir = Path(records_dir or DEFAULT_DIR).expanduser()
        prepared = _builder(module, records_dir, config).is_prepared()
    if not prepared:
        module.find(config)


def published_sizes(
    name: str,
    split: str,
    *,
    records_dir: str | os.PathLike | None = None,
    raw_dir: str | os.PathLike | None = None,
    size: tuple[int, int] | None = None,
    **options: Any,
) -> list[tuple[int, int]] | None:
    """The sizes that the images have as published, from the headers of the files.

    Args:
      as of `open_split`.

    Returns:
      (height, width) of each image, in the order of the records; None if there are no published
      files, be it that the data set is rendered or that they are gone.

    Raises:
      UserError: a damaged file.
    """
    module, config = _config(name, split, raw_dir, size, options)
    try:
        files = module.find(config)
    except UserError:
        return None
    if files is None:
        return None
    tree, pairs = files
    sizes = []
    for files in pairs:
        with codec.naming(tree.where(files.image)):
            try:  # some begin with a thumbnail or a colour profile
                sizes.append(codec.size_of(tree.read(files.image, 2**16), upright=True))
            except (OSError, SyntaxError, ValueError):
                sizes.append(codec.size_of(tree.read(files.image), upright=True))
    return sizes


def _config(
    name: str,
    split: str,
    raw_dir: str | os.PathLike | None,
    size: tuple[int, int] | None,
    options: dict[str, Any],
) -> tuple[ModuleType, Any]:
    """A data set's module and its Config of a split."""
    if name not in names():
        raise UserError(f"no data set is called {name!r}; choose one of {', '.join(names())}")
    module = importlib.import_module(f"jaxseg.data.builders.{name}")
    own = ("raw", "size", "split")
    check_keywords(module.config, options, what=name, noun="option", reserved=own)
    raw = None if not raw_dir else Path(raw_dir).expanduser() / name
    size = None if size is None else tuple(size)
    return module, module.config(raw=raw, size=size, split=split, **options)


def _builder(module: ModuleType, records_dir: Path, config: Any) -> Any:
    """The TFDS builder, which reads what describes the records if they are there."""
    try:
        return module.Builder(data_dir=records_dir, config=config)
    except UserError:
        raise
    except Exception as error:  # of the JSON, of protocol buffers, of the system
        folder = records_dir / module.Builder.name / config.name
        if not any(folder.glob("*/dataset_info.json")):
            raise  # there is nothing that could be damaged
        raise UserError(
            f"{folder}: unreadable records; delete the folder to prepare it anew"
        ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps TFDS's notes about custom configurations and folders not yet there off the console."""
    before = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        logging.set_verbosity(before)


def _prepare(builder: tfds.core.GeneratorBasedBuilder) -> None:
    """Prepares in a folder of another name, renamed when complete; clears what killed runs left."""
    folder = Path(builder.data_path)
    for leftover in folder.parent.glob("incomplete.*"):
        shutil.rmtree(leftover, ignore_errors=True)
    tfds.disable_progress_bar()  # the builders show their own
    for method in ("_log_download_bytes", "_log_download_done"):
        if hasattr(builder, method):  # they print about a download that there is not
            setattr(builder, method, lambda: None)
    settings = tfds.download.DownloadConfig(
        compute_stats=tfds.download.ComputeStatsMode.SKIP, try_download_gcs=False
    )
    with tempfile.TemporaryDirectory() as unused:
        builder.download_and_prepare(
            download_dir=unused, download_config=settings, file_format="array_record"
        )
    print(f"prepared {builder.name} in {folder}", flush=True)


@contextlib.contextmanager
def _alone(lock: Path, what: str) -> Iterator[None]:
    """Holds a lock file, waiting its turn; the system frees it when its holder dies."""
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        file = open(lock, "w")
    except OSError as error:
        raise UserError(
            f"cannot write records: {error}; choose another --config.data.records=DIR"
        ) from error
    with file:
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                print(f"another process is preparing {what}; waiting for it", flush=True)
                fcntl.flock(file, fcntl.LOCK_EX)
        yield
