"""Endless training batches, and evaluation batches that cover each image once, with grain.

A training stream is a pure function of (seed, step): batch b does not depend on the number of
threads or on where the stream was started, so a checkpoint needs to hold only the step.
"""

import os
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import grain
import numpy as np

from jaxseg.data import photograph, sampling, transforms
from jaxseg.data.labels import IGNORE
from jaxseg.data.records import Source
from jaxseg.data.sampling import RareClasses
from jaxseg.errors import UserError

_sizes: dict[tuple, list[list[int]]] = {}  # records of each stored size; found by reading all
SIDES = ("source", "target")


def batch_key(side: str, key: str) -> str:
    """Returns the key of a side's 'image', 'label' or 'depth' in a batch: 'source_image'."""
    return f"{side}_{key}"


def keys_of(side: str, batch_keys: Sequence[str]) -> list[str]:
    """Returns a side's keys in a training batch without the side, such as 'image'."""
    start = batch_key(side, "")
    return [key.removeprefix(start) for key in batch_keys if key.startswith(start)]


def train_stream(
    source: Source,
    *,
    size: tuple[int, int],
    batch: int,
    seed: int,
    table: np.ndarray | None = None,
    augment: Mapping[str, Any] | None = None,
    shard: tuple[int, int] = (0, 1),
    start: int = 0,
    threads: int = 2,
    side: str = "source",
    keys: Sequence[str] = ("image", "label"),
    rare: RareClasses | None = None,
    looks: Source | None = None,
    margins: Sequence[float] = (),
) -> Iterator[dict[str, np.ndarray]]:
    """Endless batches of one domain, reshuffled in every epoch.

    Args:
      source: the records.
      size: (height, width) that samples are resized to before augmentation; where proportions are
        kept, until they cover it, and then they are cropped at random.
      batch: samples per batch of this process.
      seed: seed of shuffling and augmentation; source and target draw differently from one seed.
      table: uint8 [256] applied to label ids (see `labels.remap`).
      augment: settings of `transforms.augment_sample`; None or empty = none.
      shard: (index, count) of this process. Processes take turns in one global order, so that
        together they see the same samples for any number of processes.
      start: index of the first batch to deliver, to resume a stream.
      threads: number of decoding threads; 0 decodes in the caller's thread.
      side: 'source' or 'target', the prefix of the batch's keys; see `batch_key`.
      keys: which of image, label and depth to read; 'id' for the records' ids, an array of texts;
        'valid' for uint8 [H, W], 0 in `margins`.
      rare: rare-class sampling, instead of each sample once per epoch.
      looks: records of the other domain, for augmentations that match the look of an image.
      margins: (top, bottom, left, right) of whole images, in shares of their sides.

    Returns:
      an iterator of {'source_image': uint8 [n, H, W, 3], 'source_label': uint8 [n, H, W],
      'source_depth': float32 [n, H, W]}; its close() ends the stream.

    Raises:
      UserError: an unknown augmentation, an empty source; while iterating, a damaged record.
    """
    settings = transforms.check_augment(augment or {})
    if not len(source):
        raise UserError(f"{source.name} {source.split} is empty")
    wants_look = bool(settings.keys() & set(transforms.LOOKS))
    if wants_look and looks is None:
        raise UserError(f"augmentations {', '.join(transforms.LOOKS)} are for the source images")
    if source.keeps_proportions:
        settings["crop"] = settings.get("crop") or size
    load = _loader(source, size, table, keys, margins)

    def change(sample: dict, rng: np.random.Generator, shows=None) -> dict:
        other = _any_image(looks, rng, sample["image"].shape[:2]) if wants_look else None
        named = {"id": sample.pop("id")} if "id" in sample else {}
        changed = transforms.augment_sample(sample, rng, **settings, reference=other, shows=shows)
        return changed | named

    def with_rare_class(_: int, rng: np.random.Generator) -> dict:
        chosen, number = sampling.draw(rare, rng)
        return change(load(source[number]), rng, shows=(chosen, rare.crop_minimum))

    if rare is not None and augment and "crop_tries" in augment:
        settings["crop_tries"] = augment["crop_tries"]

    seed = zlib.crc32(f"{side} {seed}".encode())
    # Repeated before batching, so that a source may be smaller than a batch.
    if rare is not None:
        dataset = grain.MapDataset.range(len(source)).seed(seed).repeat(None)
        dataset = dataset.random_map(with_rare_class)
    else:
        dataset = grain.MapDataset.source(source).seed(seed).shuffle().repeat(None).map(load)
        dataset = dataset.random_map(change) if settings else dataset
    dataset = dataset[shard[0] :: shard[1]].batch(batch, drop_remainder=True)
    dataset = dataset.map(lambda found: {batch_key(side, key): x for key, x in found.items()})
    return iter(dataset[start:].to_iter_dataset(_reading(threads)))


def _loader(
    source: Source, size: tuple[int, int], table: np.ndarray | None, keys: Sequence[str],
    margins: Sequence[float],
) -> Callable[[dict], dict[str, np.ndarray]]:  # fmt: skip
    """Returns the function that decodes a record; the arguments are those of `train_stream`."""
    arrays = [key for key in keys if key not in ("id", "valid")]

    def load(record: dict) -> dict[str, np.ndarray]:
        where, wanted = source.where(record), size
        if source.keeps_proportions:
            wanted = photograph.covering(photograph.size_in(record, where), size)
        sample = transforms.decode(record, where=where, size=wanted, keys=arrays, table=table)
        if "valid" in keys:
            sample["valid"] = transforms.inside(wanted, margins)
        return sample | {"id": np.asarray(str(record["id"]))} if "id" in keys else sample

    return load


def _any_image(source: Source, rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    one = source[int(rng.integers(len(source)))]
    return transforms.decode(one, where=source.where(one), size=size, keys=["image"])["image"]


def eval_batches(
    source: Source,
    *,
    size: tuple[int, int] | None,
    label_size: tuple[int, int] | None = None,
    batch: int,
    table: np.ndarray | None = None,
    keys: Sequence[str] = (),
    shard: tuple[int, int] = (0, 1),
    threads: int = 2,
) -> Iterator[dict[str, Any]]:
    """Every image of a split exactly once; incomplete batches are padded.

    A batch holds images of one size. Where sizes differ, images of the first one's size come first,
    then those of the next size that occurs, each in order; of a size with few images the batches
    are smaller, so that little is padded. All processes do so at the same step, so that their
    batches have equal shapes and their collectives match.

    Args:
      source: the records.
      size: (height, width) of the network's input; None keeps each image's stored size. It is
        `photograph.fitted`, as `label_size`, for a source that keeps proportions.
      label_size: (height, width) of the labels; None keeps each image's stored size.
      batch: samples per batch of this process, fewer only of a size with fewer images.
      table: uint8 [256] applied to label ids.
      keys: additional keys, 'depth' and 'instances'; those that the records lack are left out.
      shard: (index, count) of this process, which takes every count-th image of the global batches.
      threads: number of batches decoded in parallel; 0 decodes in the caller's thread.

    Returns:
      an iterator of {'image': uint8 [n, H, W, 3], 'label': uint8 [n, h, w], 'valid': bool [n],
      'id': n texts} and, if in `keys`, 'depth' float32 [n, h, w] metres, 0 = no value, and
      'instances' int32 [n, h, w], at the label's size. In padding samples 'valid' is False, the
      image is black, labels are 255, depth and instances 0, and the id is ''. A split without
      labels has label 255 everywhere.

    Raises:
      UserError: a damaged record, while iterating, or at once if stored sizes have to be read.
    """
    index, count = shard
    beside = [key for key in keys if key in source.has]
    one_size = size and label_size and not source.keeps_proportions
    groups = [range(len(source))] if one_size else equal_sizes(source)
    # Slices of records of one size, and how many make a batch; each gives one in every process.
    slices = [
        (group[first : first + most * count], most)
        for group in groups
        for most in [batch if len(groups) == 1 else min(batch, -(-len(group) // count))]
        for first in range(0, len(group), most * count)
    ]

    def load(number: int) -> dict[str, Any]:
        chosen, batch = slices[number]
        mine = chosen[index::count]
        # A process without an image in this slice pads with the shape of another one's.
        samples = [
            _evaluated(source, source[i], size, label_size, table, beside)
            for i in (mine or chosen[:1])
        ]
        return {
            "image": _stack([sample["image"] for sample in samples], len(mine), batch, 0),
            "label": _stack([sample["label"] for sample in samples], len(mine), batch, IGNORE),
            "valid": np.arange(batch) < len(mine),
            "id": [sample["id"] for sample in samples[: len(mine)]] + [""] * (batch - len(mine)),
            **{
                key: _stack([sample[key] for sample in samples], len(mine), batch, 0)
                for key in beside
            },
        }

    dataset = grain.MapDataset.source(range(len(slices))).map(load)
    return iter(dataset.to_iter_dataset(_reading(threads)))


def equal_sizes(source: Source) -> list[Sequence[int]]:
    """Returns the indices of the records of each stored size, in the order in which sizes occur.

    Raises:
      UserError: a damaged record.
    """
    if source.size is not None or not len(source):
        return [range(len(source))]
    key = _identity(source)
    groups = _sizes.get(key)
    if groups is None:
        found: dict[tuple[int, int], list[int]] = {}
        for i in range(len(source)):
            record = source[i]
            found.setdefault(photograph.size_in(record, source.where(record)), []).append(i)
        groups = list(found.values())
        if key:
            _sizes[key] = groups
    return groups


def _identity(source: Source) -> tuple | None:
    """Returns a cache key for the records; None if they are in no folder."""
    try:
        written = os.stat(source.folder).st_mtime_ns  # changes when the folder is prepared again
    except OSError:
        return None
    return source.name, source.split, str(source.folder), written, len(source)


def _evaluated(
    source: Source,
    record: Mapping[str, Any],
    size: tuple[int, int] | None,
    label_size: tuple[int, int] | None,
    table: np.ndarray | None,
    beside: Sequence[str],
) -> dict[str, Any]:
    where = source.where(record)
    if source.keeps_proportions:
        own = photograph.size_in(record, where)
        size, label_size = (n and photograph.fitted(own, n) for n in (size, label_size))
    sample = transforms.decode(record, where=where, size=size, keys=("image",))
    truths = [*(["label"] if source.labelled else []), *beside]
    sample |= transforms.decode(record, where=where, size=label_size, keys=truths, table=table)
    if not source.labelled:
        shape = label_size or photograph.size_in(record, where)
        sample["label"] = np.full(shape, IGNORE, np.uint8)
    return sample | {"id": record["id"]}


def _stack(arrays: list[np.ndarray], kept: int, batch: int, value: int) -> np.ndarray:
    """Stacks the first `kept` arrays, padded with `value` to a batch."""
    empty = np.full((batch - kept, *arrays[0].shape), value, arrays[0].dtype)
    return np.concatenate([np.stack(arrays)[:kept], empty])


def _reading(threads: int) -> grain.ReadOptions:
    return grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * threads)
