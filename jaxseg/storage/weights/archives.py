"""Zip archives that nobody vouches for: no more is unpacked than a file of weights can hold."""

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# Weights hardly compress; what unpacks to more than this, beyond zeros, was made to fill a memory.
MOST_TIMES = 8
SPARE = 2**26  # bytes that any file may unpack to


@contextmanager
def opened(file: Any, size: int) -> Iterator[zipfile.ZipFile]:
    """Opens an archive whose members together are not much larger than itself.

    Args:
      file: path or binary file.
      size: of the file in bytes.

    Raises:
      ValueError: an archive that is damaged, encrypted, packed by a method that is not known here,
        or unpacks to more than MOST_TIMES its size.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            total = sum(member.file_size for member in members)
            if total > MOST_TIMES * size + SPARE:
                raise ValueError(f"refused: {size} bytes that unpack to {total}")
            if any(member.flag_bits & 1 for member in members):
                raise ValueError("an encrypted zip archive")
            yield archive
    except (OSError, ValueError):
        raise
    except Exception as error:  # zlib.error, NotImplementedError, EOFError, BadZipFile, ...
        raise ValueError(f"a damaged zip archive ({error or type(error).__name__})") from error
