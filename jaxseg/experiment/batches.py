"""From a config to batches on the host: which records, at which size, of which process."""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from jaxseg.data import labels, pipeline, records, tally
from jaxseg.evaluation.metrics import cityscapes
from jaxseg.experiment import settings as experiment_settings
from jaxseg.losses import balance


def train_batches(
    config: ConfigDict, reads: tuple[str, ...], start: int
) -> Iterator[dict[str, np.ndarray]]:
    """Host batches of this process from step `start` on, with the keys that a method reads."""
    data, index, count = config.data, jax.process_index(), jax.process_count()
    streams = []
    for prefix in ("source", "target"):
        keys = [key.removeprefix(f"{prefix}_") for key in reads if key.startswith(f"{prefix}_")]
        if not keys:
            continue
        side = data[prefix]
        opened = open_records(config, side, side.split, training=True)
        streams.append(
            pipeline.train_stream(
                opened,
                size=experiment_settings.size_of(f"data.{prefix}.size", side.size),
                batch=config.train.batch // count,
                seed=config.seed + (1 if prefix == "target" else 0),
                table=_table(config, opened) if "label" in keys else None,
                augment=config.augment[prefix].to_dict(),
                shard=(index, count),
                start=start,
                threads=data.threads,
                prefix=prefix,
                keys=keys,
            )
        )
    return pipeline.zip_streams(*streams)


def eval_batches(config: ConfigDict, *, depth: bool = False) -> Iterator[dict[str, Any]]:
    """Every labelled validation image of the target once; see `pipeline.eval_batches`.

    Images are resized to `data.target.size` (bicubic), the papers' protocol, or left as stored with
    `eval.full_resolution`; labels are as stored. The network is compiled for each size. Instance
    maps come along where the classes are Cityscapes', depth where it is asked for.
    """
    target = config.data.target
    size = experiment_settings.size_of("data.target.size", target.size)
    opened = open_records(config, target, target.val_split, training=False)
    keys = ["depth"] if depth else []
    if cityscapes.known(experiment_settings.label_set(config).classes):
        keys.append("instances")
    image_size = None if config.eval.full_resolution else size
    return _eval_batches(config, opened, image_size, None, keys)


def source_eval_batches(config: ConfigDict) -> Iterator[dict[str, Any]] | None:
    """At most `eval.source_images` validation images of the source, evenly over the split, images
    and labels at `data.source.size`; None if the source has no validation split or none is wanted.
    """
    if not _source_scored(config):
        return None
    source = config.data.source
    size = experiment_settings.size_of("data.source.size", source.size)
    opened = open_records(config, source, source.val_split, training=True)
    return _eval_batches(config, _Spread(opened, config.eval.source_images), size, size)


def picture_ids(config: ConfigDict) -> set[str]:
    """Ids of the target's validation images that the report shows, evenly over the split.

    `train.pictures` of them, for each process; one that others evaluate is not shown.
    """
    target = config.data.target
    opened = open_records(config, target, target.val_split, training=False)
    few = _Spread(opened, config.train.pictures * jax.process_count())
    return {str(few[i]["id"]) for i in range(len(few))}


def source_pictures(config: ConfigDict) -> Iterator[dict[str, Any]]:
    """The same `train.pictures` labelled images of the source each time, to be looked at.

    Evenly over the validation split, or the training split if the source is not scored; at
    `data.source.size`.

    Yields:
      'id', 'image' uint8 [H,W,3], 'label' uint8 [H,W] and, where the records hold it, 'depth'
      float32 [H,W] metres, 0 where none is known.
    """
    source = config.data.source
    size = experiment_settings.size_of("data.source.size", source.size)
    split = source.val_split if _source_scored(config) else source.split
    opened = open_records(config, source, split, training=True)
    few = _Spread(opened, config.train.pictures)
    read = pipeline.eval_batches(
        few, size=size, label_size=size, batch=1, table=_table(config, opened), keys=("depth",),
        threads=config.data.threads,
    )  # fmt: skip
    for batch in read:
        yield {key: values[0] for key, values in batch.items() if key != "valid"}


def _source_scored(config: ConfigDict) -> bool:
    return bool(config.data.source.val_split) and config.eval.source_images > 0


def _eval_batches(config, opened, size, label_size, keys=()) -> Iterator[dict[str, Any]]:
    return pipeline.eval_batches(
        opened,
        size=size,
        label_size=label_size,
        batch=config.eval.batch,
        table=_table(config, opened),
        keys=keys,
        shard=(jax.process_index(), jax.process_count()),
        threads=config.data.threads,
    )


class _Spread:
    """At most `count` records of a source, evenly over it; in all else the source itself."""

    def __init__(self, source: records.Source, count: int):
        self._source, self._count = source, min(count, len(source))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self._source[index * len(self._source) // self._count]


def with_class_weights(config: ConfigDict) -> ConfigDict:
    """The config with numbers for `method.settings.class_weights`, if these are to be counted.

    'inverse' or 'median' (see `balance.class_weights`) becomes a number a class, from all labels of
    the source's training split at the size that they are stored at, in the classes that are learnt.
    The same labels give the same numbers, so a resumed run agrees. Any other config comes back as
    it is.

    Raises:
      UserError: the labels are missing, or hold nothing that is learnt.
    """
    settings, source = config.method.settings, config.data.source
    given = tuple(settings.get("class_weights", ()))
    if len(given) != 1 or given[0] not in balance.KINDS:
        return config
    opened = open_records(config, source, source.split, training=True)
    classes = experiment_settings.label_set(config).classes
    found = tally.tally(opened, _table(config, opened), len(classes), config.data.threads)
    weights = balance.class_weights(found.counts, given[0])
    counted = config.copy_and_resolve_references()
    with counted.unlocked():
        counted.method.settings.class_weights = tuple(float(weight) for weight in weights)
    return counted


def open_records(config: ConfigDict, side: ConfigDict, split: str, *, training: bool):
    """The records of one side's split, prepared on first use."""
    return records.open_split(side.name, split, **_where(config, side, training))


def check_data(config: ConfigDict, reads: tuple[str, ...]) -> None:
    """Raises UserError if any data set that will be read is missing, before one is prepared."""
    data = config.data
    wanted = [(data.target, data.target.val_split, False)]
    for prefix in ("source", "target"):
        if any(key.startswith(prefix) for key in reads):
            wanted.append((data[prefix], data[prefix].split, True))
    if _source_scored(config):
        wanted.append((data.source, data.source.val_split, True))
    for side, split, training in wanted:
        records.check_raw(side.name, split, **_where(config, side, training))


def _where(config: ConfigDict, side: ConfigDict, training: bool) -> dict[str, Any]:
    stored = side.name == "streets" or (training and config.data.store_resized)
    return dict(
        records_dir=config.data.records or None,
        raw_dir=config.data.root,
        size=experiment_settings.size_of("size", side.size) if stored else None,
        **side.options.to_dict(),
    )


def _table(config: ConfigDict, source: records.Source) -> np.ndarray:
    return labels.remap(source.label_set, experiment_settings.label_set(config))
