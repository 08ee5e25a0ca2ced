"""Opens untrusted zip archives, and refuses those that would unpack to an implausible size."""

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# Weights hardly compress: an archive that unpacks to more was made to exhaust the memory.
MOST_TIMES = 8  # unpacked size / size of the archive
SPARE = 2**26  # bytes that any archive may unpack to


@contextmanager
def opened(file: Any, size: int) -> Iterator[zipfile.ZipFile]:
    """Opens an archive, unless its members together are much larger than the archive.

    Args:
      file: path or binary file.
      size: of the file in bytes.

    Raises:
      ValueError: the archive is damaged, encrypted, compressed by an unknown method, or would
        unpack to more than MOST_TIMES its size.
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
