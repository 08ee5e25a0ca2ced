"""Shared by the builders: the config of a preparation, record features, writing of records."""

import dataclasses
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import rich
import tensorflow_datasets as tfds
from array_record.python import array_record_module
from rich import progress

from jaxseg.data.conversion.tree import Files
from jaxseg.data.labels import LabelSet
from jaxseg.errors import UserError

SHARD_BYTES = 2**28  # a new file begins beyond this size
HELD_OUT = 50  # every 50th image is validation, in rendered data sets without a split


@dataclasses.dataclass(eq=False, kw_only=True)
class Config(tfds.core.BuilderConfig):
    """All that records depend on; `name` lists it and is part of the records' path."""

    raw: Path | None = None  # folder of the published data set
    size: tuple[int, int] | None = None  # (height, width) to store at; None = as published
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    labels: LabelSet | None = None  # of the records; None = LABELS of the builder's module
    keys: tuple[str, ...] = ("label",)  # of the records, besides id and image
    cover: bool = False  # keeps proportions: images are scaled until they cover `size`


def size_name(size: tuple[int, int] | None) -> str:
    """Returns '512x1024', or 'original' for None."""
    return "original" if size is None else f"{size[0]}x{size[1]}"


def plain_config(
    name: str,
    counts: Mapping[str, int],
    *,
    raw: Path | None,
    size: tuple[int, int] | None,
    split: str | None,
    keys: tuple[str, ...] = ("label",),
    variant: str = "",
) -> Config:
    """Returns the config for one split of a published data set.

    Splits are prepared one by one, so that evaluation does not wait for the training images.

    Args:
      name: name of the data set.
      counts: number of published images by split, 0 where it is not known.
      raw: folder of the published data set.
      size: (height, width) to store at; None = as published.
      split: one of `counts`; None = the first.
      keys: keys of the records besides id and image.
      variant: suffix of the name, to tell variants of the same split apart.

    Raises:
      UserError: an unknown split.
    """
    split = split or next(iter(counts))
    if split not in counts:
        raise UserError(f"{name} has no split {split!r}; it has {', '.join(counts)}")
    title = "-".join(filter(None, (size_name(size), split, variant)))
    options = {"split": split, "published": counts[split]}
    return Config(name=title, size=size, raw=raw, options=options, keys=keys)


def held_out_counts(published: int) -> dict[str, int]:
    """Returns the number of images in each split of `held_out`, for numbers without gaps."""
    validation = published // HELD_OUT
    return {"train": published, "train_rest": published - validation, "val": validation}


def held_out(pairs: list[Files], split: str) -> list[Files]:
    """Selects the images of a split, for data sets published without splits.

    Args:
      pairs: all images, whose ids are numbers.
      split: 'val', the images whose number is a multiple of HELD_OUT, the same ones even if parts
        of the data set are missing; 'train_rest', the others; 'train', all, as in the papers.

    Raises:
      UserError: an id that is not a number; no image left for the split.
    """
    if split == "train":
        return pairs
    for files in pairs:
        if not files.id.isdecimal():
            raise UserError(
                f"{files.image}: not a number, which val and train_rest need; use the split 'train'"
            )
    chosen = [files for files in pairs if (int(files.id) % HELD_OUT == 0) == (split == "val")]
    if not chosen:
        raise UserError(
            f"none of {len(pairs)} images, {pairs[0].id} to {pairs[-1].id}, is of {split!r}; to "
            f"'val' belongs each {HELD_OUT}th number: add images or use the split 'train' alone"
        )
    return chosen


def info(builder: tfds.core.DatasetBuilder) -> tfds.core.DatasetInfo:
    """Describes the records: id (text), image and the config's keys (encoded bytes)."""
    features = {
        "id": tfds.features.Text(),
        "image": tfds.features.Image(shape=(None, None, 3), encoding_format="png"),
    }
    for key in builder.builder_config.keys:
        features[key] = tfds.features.Image(
            shape=(None, None, 1),
            dtype=np.uint8 if key == "label" else np.uint16,
            encoding_format="png",
        )
    features = tfds.features.FeaturesDict(features)
    return tfds.core.DatasetInfo(builder=builder, features=features, disable_shuffling=True)


def tell_count(builder: Any, pairs: list[Files]) -> None:
    """Prints a note if the number of images differs from the published number, 0 if not known."""
    options = builder.builder_config.options
    if options["published"] and len(pairs) != options["published"]:
        print(
            f"note: {builder.name} {options['split']} holds {len(pairs)} images, "
            f"{options['published']} were published; with more of them it is prepared anew",
            flush=True,
        )


def write_splits(builder: tfds.core.GeneratorBasedBuilder, dl_manager: Any, **_) -> None:
    """Writes all splits directly to ArrayRecord files; replaces `_download_and_prepare`.

    TFDS's own method sorts the records by key first, and beyond 1 GB needs TensorFlow for temporary
    files. Here records are written in the order of generation: record i is scene i or the i-th file
    name (the pipeline shuffles), and memory stays bounded.

    Args:
      builder: its `_split_generators` returns {split: iterator of records}.
      dl_manager: not used; nothing is downloaded.
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
        for i in range(len(sizes)):  # file names contain the number of files
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
    """Yields `items` and reports progress: a bar on a terminal, else a line every few seconds."""
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


def cores() -> int:
    """Returns the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
