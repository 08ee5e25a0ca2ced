"""Converts published files to records: reads, checks, resizes and encodes on all cores."""

import concurrent.futures
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from jaxseg.data import codec, photograph
from jaxseg.data.conversion import common
from jaxseg.data.conversion.tree import Files, Tree
from jaxseg.errors import UserError

_ENCODERS = {
    "label": codec.encode_label,
    "depth": codec.encode_depth,
    "instances": codec.encode_instances,
}


class Readers(NamedTuple):
    """Functions that read a data set's files, each from its bytes.

    The converter adds the file's name to their UserErrors.
    """

    label: Callable[..., np.ndarray] | None = None  # -> uint8 train ids [H, W]
    depth: Callable[..., np.ndarray] | None = None  # -> metres [H, W], 0 = no value
    instances: Callable[[bytes], np.ndarray] = codec.decode_ids  # -> integers [H, W], 0..65535
    colours: Callable[[bytes], Any] | None = None  # -> second argument of `label`
    camera: Callable[[bytes], Any] | None = None  # -> second argument of `depth`


def convert(
    tree: Tree,
    pairs: list[Files],
    *,
    title: str,
    config: common.Config,
    readers: Readers,
    odd_labels: bool = False,
) -> Iterator[dict]:
    """Converts published files to records.

    Args:
      tree: where the files are.
      pairs: the files, in the order of the records; every key of the config has a file, only
        instances may lack one, and are then empty.
      title: title of the progress bar.
      config: keys of the records, and the size to store at (image bicubic, the others nearest);
        size None keeps the image file's bytes.
      readers: functions that read the files.
      odd_labels: whether a label whose size differs from its image's is resized to it, with a note,
        rather than refused.

    Yields:
      records in order; the conversion runs in threads.

    Raises:
      UserError: a file that is damaged, or a label, depth or instance file whose size is not its
        image's.
    """

    def one(files: Files) -> dict:
        where = tree.where(files.image)
        data = tree.read(files.image)
        with codec.naming(where):
            data, image = photograph.for_records(data)
        found = arrays(files, image.shape[:2])
        size = image.shape[:2] if config.size is None else tuple(config.size)
        if config.size is not None and config.cover:
            size = photograph.covering(image.shape[:2], config.size)
        if image.shape[:2] != size:
            data = codec.encode_image(codec.resize_image(image, size))
        record = {"id": files.id, "image": data}
        for key, array in found.items():
            array = codec.resize_nearest(array, size)
            with codec.naming(tree.where(getattr(files, key))):
                record[key] = _ENCODERS[key](array)
        return {**dict.fromkeys(config.keys, b""), **record}

    def arrays(files: Files, shape: tuple[int, int]) -> dict[str, np.ndarray]:
        found = {}
        for key, reader, beside in (
            ("label", readers.label, "colours"),
            ("depth", readers.depth, "camera"),
            ("instances", readers.instances, None),
        ):
            path = getattr(files, key)
            if key not in config.keys or path is None:
                continue
            more = ()
            if beside and (other := getattr(files, beside)) is not None:
                more = (named(tree, other, getattr(readers, beside)),)
            found[key] = array = named(tree, path, reader, *more)
            if array.shape != shape:
                note = f"{tree.where(path)}: {key} {array.shape}, image {shape}"
                if key != "label" or not odd_labels:
                    raise UserError(f"{note}; the two must have one size")
                print(f"{note}: resized to the image", flush=True)
        return found

    return common.track(in_threads(one, pairs), len(pairs), title)


def named(tree: Tree, path: str, reader: Callable, *more: Any) -> Any:
    """Returns reader(file's bytes, *more); its errors become UserErrors with the file's name."""
    where = tree.where(path)
    data = tree.read(path)
    try:
        with codec.naming(where):
            return reader(data, *more)
    except UserError as error:
        said = str(error)
        raise error if said.startswith(where) else UserError(f"{where}: {said}") from error


def in_threads(function: Callable, items: Iterable, ahead: int = 4) -> Iterator:
    """Yields function(item) in order, from a thread per core; works on few items in advance."""
    workers = common.cores()
    items = iter(items)
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        waiting = [pool.submit(function, item) for item in itertools.islice(items, ahead * workers)]
        try:
            while waiting:
                yield waiting.pop(0).result()
                waiting += [pool.submit(function, item) for item in itertools.islice(items, 1)]
        finally:
            for future in waiting:
                future.cancel()
