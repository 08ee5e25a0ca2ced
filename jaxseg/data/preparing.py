"""Prepares records with TFDS: quietly, one process at a time, whole or not at all."""

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import tensorflow_datasets as tfds
from absl import logging

from jaxseg.errors import UserError, one_line_on_files

try:
    import fcntl
except ImportError:  # not POSIX: no file lock, so two runs must not prepare at the same time
    fcntl = None


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silences TFDS's messages about custom configurations and missing folders."""
    before = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        logging.set_verbosity(before)


def prepare(builder: tfds.core.GeneratorBasedBuilder) -> None:
    """Prepares in a temporary folder, renamed when complete; removes those of killed runs.

    Raises:
      UserError: a file cannot be read or written; without a name of its own it is the folder of the
        records.
    """
    folder = Path(builder.data_path)
    for leftover in folder.parent.glob("incomplete.*"):
        shutil.rmtree(leftover, ignore_errors=True)
    tfds.disable_progress_bar()  # the builders show one themselves
    for method in ("_log_download_bytes", "_log_download_done"):
        if hasattr(builder, method):  # they print about a download, but nothing is downloaded
            setattr(builder, method, lambda: None)
    settings = tfds.download.DownloadConfig(
        compute_stats=tfds.download.ComputeStatsMode.SKIP, try_download_gcs=False
    )
    with one_line_on_files(folder), tempfile.TemporaryDirectory() as unused:
        try:
            builder.download_and_prepare(
                download_dir=unused, download_config=settings, file_format="array_record"
            )
        except OSError as error:
            if error.errno is None and "disk space" in str(error):  # TFDS's own, without a number
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
            raise
    print(f"prepared {builder.name} in {folder}", flush=True)


@contextlib.contextmanager
def alone(lock: Path, what: str) -> Iterator[None]:
    """Holds a lock file, waiting for it if needed; the system frees it when its holder dies."""
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
