"""What the builders share: the records' features, converting published files, writing records."""

import concurrent.futures
import dataclasses
import itertools
import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import rich
import tensorflow_datasets as tfds
from array_record.python import array_record_module
from rich import progress

from jaxseg.data import codec
from jaxseg.data.builders._tree import Files, Tree
from jaxseg.data.labels import LabelSet
from jaxseg.errors import UserError

SHARD_BYTES = 2**28  # a new file is begun beyond this
HELD_OUT = 50  # of rendered sources without a split of their own, each 50th image is validation


@dataclasses.dataclass(eq=False, kw_only=True)
class Config(tfds.core.BuilderConfig):
    """What a preparation depends on; `name` spells it out and is part of the records' path."""

    raw: Path | None = None  # folder of this data set as published
    size: tuple[int, int] | None = None  # (height, width) to store at; None = as published
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    labels: LabelSet | None = None  # that the records are in; None = LABELS of the builder's module


def size_name(size: tuple[int, int] | None) -> str:
    """Returns '512x1024', or 'original' for None."""
    return "original" if size is None else f"{size[0]}x{size[1]}"


def plain_config(
    name: str,
    splits: Iterable[str],
    *,
    raw: Path | None,
    size: tuple[int, int] | None,
    split: str | None,
) -> Config:
    """What to prepare of a published data set: one split, so that evaluation does not wait for the
    conversion of the training images.

    Args:
      name: of the data set.
      splits: those it has.
      raw: its folder as published.
      size: (height, width) to store at; None = as published.
      split: one of `splits`; None = the first.

    Raises:
      UserError: an unknown split.
    """
    splits = list(splits)
    split = split or splits[0]
    if split not in splits:
        raise UserError(f"{name} has no split {split!r}; it has {', '.join(splits)}")
    options = {"split": split}
    return Config(name=f"{size_name(size)}-{split}", size=size, raw=raw, options=options)


def held_out_counts(published: int) -> dict[str, int]:
    """Returns how many images the splits of `held_out` have; numbers run without a gap."""
    validation = published // HELD_OUT
    return {"train": published, "train_rest": published - validation, "val": validation}


def held_out(pairs: list[Files], split: str) -> list[Files]:
    """The images of a split of a data set that was published without one.

    Args:
      pairs: all images, whose ids are numbers.
      split: 'val', the images whose number is a multiple of HELD_OUT, so that the same ones are
        held out however many parts of the data set are there; 'train_rest', the others; 'train',
        all of them, as in the papers.

    Raises:
      UserError: an id that is not a number; no image left for the split.
    """
    if split == "train":
        return pairs
    for files in pairs:
        if not files.id.isdecimal():
            raise UserError(
                f"{files.image}: not a number, by which images are held out; use the split 'train'"
            )
    chosen = [files for files in pairs if (int(files.id) % HELD_OUT == 0) == (split == "val")]
    if not chosen:
        raise UserError(
            f"none of {len(pairs)} images, {pairs[0].id} to {pairs[-1].id}, is of {split!r}; to "
            f"'val' belongs each {HELD_OUT}th number: add images or use the split 'train' alone"
        )
    return chosen


def info(
    builder: tfds.core.DatasetBuilder, *, label: bool = True, depth: bool = False
) -> tfds.core.DatasetInfo:
    """Describes the records: id, image, perhaps label and depth, images as encoded bytes."""
    features = {
        "id": tfds.features.Text(),
        "image": tfds.features.Image(shape=(None, None, 3), encoding_format="png"),
    }
    if label:
        features["label"] = tfds.features.Image(shape=(None, None, 1), encoding_format="png")
    if depth:
        features["depth"] = tfds.features.Image(
            shape=(None, None, 1), dtype=np.uint16, encoding_format="png"
        )
    features = tfds.features.FeaturesDict(features)
    return tfds.core.DatasetInfo(builder=builder, features=features, disable_shuffling=True)


def tell_count(builder: Any, pairs: list[Files], published: int, split: str) -> None:
    """Prints a note when there are fewer or more images than published, such as one part of ten."""
    if len(pairs) != published:
        print(
            f"note: {builder.name} {split} holds {len(pairs)} images, {published} were published; "
            f"after adding more, delete the prepared records",
            flush=True,
        )


def write_splits(builder: tfds.core.GeneratorBasedBuilder, dl_manager: Any, **_) -> None:
    """Writes all splits straight to ArrayRecord files; takes the place of `_download_and_prepare`.

    TFDS's own sorts the records by key first, and beyond 1 GB needs TensorFlow for its temporary
    files. Here they stream into the files in the order of generation, so that record i is scene i
    or the i-th file name (the pipeline shuffles), and memory stays bounded.

    Args:
      builder: its `_split_generators` gives {split: iterator of records}.
      dl_manager: not used, nothing is downloaded.
    """
    infos = []
    for split, examples in builder._split_generators(dl_manager).items():
        template = tfds.core.ShardedFileTemplate(
            data_dir=builder.data_path,
            dataset_name=builder.name,
            split=split,
            filetype_suffix="array_record",
        )
        lengths, sizes, writer = [], [], None
        for example in examples:
            data = builder.info.features.serialize_example(example)
            if writer is None or sizes[-1] > SHARD_BYTES:
                if writer is not None:
                    writer.close()
                writer = array_record_module.ArrayRecordWriter(
                    str(builder.data_path / f"{split}-{len(sizes)}"), "group_size:1"
                )
                lengths.append(0)
                sizes.append(0)
            writer.write(data)
            lengths[-1] += 1
            sizes[-1] += len(data)
        if writer is None:
            raise UserError(f"{builder.name} has no images for {split}")
        writer.close()
        for i in range(len(sizes)):  # the names say how many there are
            final = template.sharded_filepath(shard_index=i, num_shards=len(sizes))
            (builder.data_path / f"{split}-{i}").rename(final)
        infos.append(
            tfds.core.SplitInfo(
                name=split,
                shard_lengths=lengths,
                num_bytes=sum(sizes),
                filename_template=template,
            )
        )
    builder.info.set_splits(tfds.core.splits.SplitDict(infos))


def track(items: Iterable, total: int, title: str, every: float = 15.0) -> Iterator:
    """Yields `items` under a progress bar on a terminal, with a line now and then elsewhere."""
    if rich.get_console().is_terminal:
        columns = (
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TimeRemainingColumn(),
        )
        with progress.Progress(*columns) as bar:
            yield from bar.track(items, total=total, description=title)
        return
    start = last = time.monotonic()
    for done, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if now - last > every and done < total:
            print(f"{title}: {done} of {total}, {now - start:.0f} s", flush=True)
            last = now
    print(f"{title}: {total} in {time.monotonic() - start:.0f} s", flush=True)


def convert(
    tree: Tree,
    pairs: list[Files],
    *,
    title: str,
    size: tuple[int, int] | None,
    read_label: Callable[[bytes], np.ndarray],
    read_depth: Callable[[bytes], np.ndarray] | None = None,
    odd_labels: bool = False,
) -> Iterator[dict]:
    """Turns published files into records.

    Args:
      tree: where the files are.
      pairs: the files, in the order of the records.
      title: of the progress bar.
      size: (height, width) to store at: image bicubic, label and depth nearest; None keeps the
        image's own bytes.
      read_label: from a file's bytes to uint8 train ids [H, W]; not called for images without a
        label, whose records have none. Its UserErrors get the file's name put before them.
      read_depth: from a file's bytes to metres [H, W], 0 = no value.
      odd_labels: labels of another size than their image are resized to it, with a note, instead of
        refused.

    Yields:
      records; the conversion runs in threads, the order is kept.

    Raises:
      UserError: naming the file that is damaged, of more than 8 bits, or of another size.
    """

    def one(files: Files) -> dict:
        where = tree.where(files.image)
        data = tree.read(files.image)
        with codec.naming(where):
            if (bits := codec.bits(data)) > 8:
                raise UserError(f"{where}: {bits} bits a channel; save it with 8")
            data, image = codec.decode_upright(data)
        shape = image.shape[:2]
        if files.label is not None:
            label = checked_label(files, shape)
        if size is not None and shape != tuple(size):
            data = codec.encode_png(codec.resize_image(image, size))
            shape = tuple(size)
        record = {"id": files.id, "image": data}
        if files.label is not None:
            record["label"] = codec.encode_png(codec.resize_nearest(label, shape), 6)
        if read_depth is not None:
            with codec.naming(tree.where(files.depth)):
                depth = read_depth(tree.read(files.depth))
            record["depth"] = codec.encode_depth(codec.resize_nearest(depth, shape))
        return record

    def checked_label(files: Files, shape: tuple[int, int]) -> np.ndarray:
        where = tree.where(files.label)
        data = tree.read(files.label)
        try:
            with codec.naming(where):
                label = read_label(data)
        except UserError as error:
            said = str(error)
            raise error if said.startswith(where) else UserError(f"{where}: {said}") from error
        if label.shape != shape:
            note = f"{where}: label {label.shape}, image {shape}"
            if not odd_labels:
                raise UserError(f"{note}; the two must have one size")
            print(f"{note}: resized to the image", flush=True)
        return label

    return track(in_threads(one, pairs), len(pairs), title)


def in_threads(function: Callable, items: Iterable, ahead: int = 4) -> Iterator:
    """Yields function(item) in order, from a thread per core, not too many items ahead."""
    workers = cores()
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


def cores() -> int:
    """Returns how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
