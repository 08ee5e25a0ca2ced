"""Builds batches on the host from a config: which records, at which size, for which process."""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from jaxseg.data import joined, labels, pipeline, records, sampling, tally, transforms
from jaxseg.evaluation.metrics import cityscapes
from jaxseg.experiment import settings as experiment_settings
from jaxseg.losses import balance


def train_batches(
    config: ConfigDict, reads: tuple[str, ...], start: int
) -> Iterator[dict[str, np.ndarray]]:
    """Host batches for this process from step `start` on, with the keys that a method reads."""
    data, index, count = config.data, jax.process_index(), jax.process_count()
    streams = []
    for side in pipeline.SIDES:
        keys = pipeline.keys_of(side, reads)
        if not keys:
            continue
        opened = _learnt(config, side)
        streams.append(
            pipeline.train_stream(
                opened,
                size=experiment_settings.size_of(f"data.{side}.size", data[side].size),
                batch=config.train.batch // count,
                seed=config.seed + (1 if side == "target" else 0),
                table=table(config, opened) if "label" in keys else None,
                augment=config.augment[side].to_dict(),
                shard=(index, count),
                start=start,
                threads=data.threads,
                side=side,
                keys=keys,
                rare=_rare_classes(config, opened) if "label" in keys else None,
                looks=_looks(config) if side == "source" else None,
                margins=tuple(config.method.settings.get("margins", ())),
            )
        )
    return joined.JoinedStreams(*streams)


def _looks(config: ConfigDict) -> records.Source | None:
    """The target's training images, if source images are to be adapted to their look; else None."""
    wanted = any(map(config.augment.source.get, transforms.LOOKS))
    return _learnt(config, "target") if wanted else None


def _rare_classes(config: ConfigDict, opened: records.Source) -> sampling.RareClasses | None:
    """The distribution for rare-class sampling; None if `data.rare_classes` is off."""
    settings = config.data.get("rare_classes")
    if not settings or not settings.temperature:
        return None
    classes = experiment_settings.label_set(config).classes
    counts = _tally(config, opened, len(classes)).counts
    rare = sampling.rare_classes(
        counts, settings.temperature, settings.min_pixels, settings.crop_pixels
    )
    if jax.process_index() == 0:
        print("\n".join(sampling.table(rare, counts, classes)))
    return rare


def _tally(config: ConfigDict, opened: records.Source, num_classes: int) -> tally.Tally:
    return tally.counted(opened, table(config, opened), num_classes, config.data.threads)


def eval_batches(config: ConfigDict, *, depth: bool = False) -> Iterator[dict[str, Any]]:
    """Every labelled validation image of the target once; see `pipeline.eval_batches`.

    Images are resized to `data.target.size` (bicubic), the papers' protocol, or kept at their
    stored size with `eval.full_resolution`; labels keep their stored size. The network is compiled
    for each size. Instance maps are included for the classes of Cityscapes, depth if `depth`.
    """
    target = config.data.target
    size = experiment_settings.size_of("data.target.size", target.size)
    opened = open_records(config, target, target.val_split, as_published=True)
    keys = ["depth"] if depth else []
    if cityscapes.known(experiment_settings.label_set(config).classes):
        keys.append("instances")
    image_size = None if config.eval.full_resolution else size
    return _eval_batches(config, opened, image_size, None, keys)


def source_eval_batches(config: ConfigDict) -> Iterator[dict[str, Any]] | None:
    """At most `eval.source_images` validation images of the source, evenly spaced over the split,
    with images and labels at `data.source.size`; None without a validation split or if 0.
    """
    if not source_scored(config):
        return None
    source = config.data.source
    size = experiment_settings.size_of("data.source.size", source.size)
    opened = open_records(config, source, source.val_split)
    return _eval_batches(config, _Spread(opened, config.eval.source_images), size, size)


def picture_ids(config: ConfigDict) -> set[str]:
    """Ids of the target's validation images that the report shows, evenly spaced over the split.

    There are `train.pictures` per process; images that other processes evaluate are not shown.
    """
    target = config.data.target
    opened = open_records(config, target, target.val_split, as_published=True)
    few = _Spread(opened, config.train.pictures * jax.process_count())
    return {str(few[i]["id"]) for i in range(len(few))}


def source_pictures(config: ConfigDict) -> Iterator[dict[str, Any]]:
    """Labelled source images for the report's pictures: `train.pictures`, the same every time.

    They are evenly spaced over the validation split, or over the training split if the source is
    not scored; at `data.source.size`.

    Yields:
      'id', 'image' uint8 [H,W,3], 'label' uint8 [H,W] and, if the records hold depth, 'depth'
      float32 [H,W] metres, 0 where unknown.
    """
    source = config.data.source
    size = experiment_settings.size_of("data.source.size", source.size)
    split = source.val_split if source_scored(config) else source.split
    opened = open_records(config, source, split)
    few = _Spread(opened, config.train.pictures)
    read = pipeline.eval_batches(
        few, size=size, label_size=size, batch=1, table=table(config, opened), keys=("depth",),
        threads=config.data.threads,
    )  # fmt: skip
    for batch in read:
        yield {key: values[0] for key, values in batch.items() if key != "valid"}


def labelled_images(
    config: ConfigDict, side: str, most: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """At most `most` images with labels, evenly over a split: (uint8 [H,W,3], uint8 [H,W]).

    Args:
      config: of the run.
      side: 'source' for what is learnt of its training split, 'target' for its validation split.
      most: number of images.

    Yields:
      Images and labels at the side's training size, in the classes that are learnt.
    """
    data = config.data[side]
    size = experiment_settings.size_of(f"data.{side}.size", data.size)
    target = side == "target"
    if target:
        opened = open_records(config, data, data.val_split, as_published=True)
    else:
        opened = _learnt(config, side)
    few = _Spread(opened, most)
    read = pipeline.eval_batches(
        few, size=size, label_size=size, batch=1, table=table(config, opened),
        threads=config.data.threads,
    )  # fmt: skip
    for batch in read:
        yield batch["image"][0], batch["label"][0]


def _learnt(config: ConfigDict, side: str) -> records.Source:
    """The training images of a side; of the source the share `data.source_share`, at least one."""
    data, share = config.data[side], config.data.source_share if side == "source" else 1.0
    opened = open_records(config, data, data.split)
    return opened if share == 1 else _Spread(opened, max(1, round(share * len(opened))))


def source_scored(config: ConfigDict) -> bool:
    return bool(config.data.source.val_split) and config.eval.source_images > 0


def _eval_batches(config, opened, size, label_size, keys=()) -> Iterator[dict[str, Any]]:
    return pipeline.eval_batches(
        opened,
        size=size,
        label_size=label_size,
        batch=config.eval.batch,
        table=table(config, opened),
        keys=keys,
        shard=(jax.process_index(), jax.process_count()),
        threads=config.data.threads,
    )


class _Spread:
    """A source reduced to at most `count` evenly spaced records; its attributes are unchanged."""

    def __init__(self, source: records.Source, count: int):
        self._source, self._count = source, min(count, len(source))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self._source[index * len(self._source) // self._count]


def with_class_weights(config: ConfigDict) -> ConfigDict:
    """The config with `method.settings.class_weights` as numbers, counted from labels if needed.

    'inverse' or 'median' (see `balance.class_weights`) becomes one number per learnt class, from
    all labels of the source's training split at their stored size. The same labels give the same
    numbers, so a resumed run agrees. Any other config is returned unchanged.

    Raises:
      UserError: the labels are missing, or contain no learnt class.
    """
    given = _uncounted(config)
    if not given:
        return config
    opened = _learnt(config, "source")
    classes = experiment_settings.label_set(config).classes
    pixels = tally.tally(opened, table(config, opened), len(classes), config.data.threads)
    return _weighing(config, balance.class_weights(pixels.counts, given))


def with_equal_weights(config: ConfigDict) -> ConfigDict:
    """The config with class weights of 1 where they would have to be counted from labels.

    For programs that are looked at and never trained with: the labels need not be there.
    """
    if not _uncounted(config):
        return config
    return _weighing(config, [1.0] * len(experiment_settings.label_set(config).classes))


def _uncounted(config) -> str:
    """How class weights are to be counted, one of `balance.KINDS`; '' if they are numbers."""
    given = tuple(config.method.settings.get("class_weights", ()))
    return given[0] if len(given) == 1 and given[0] in balance.KINDS else ""


def _weighing(config, weights):
    counted = config.copy_and_resolve_references()
    with counted.unlocked():
        counted.method.settings.class_weights = tuple(float(weight) for weight in weights)
    return counted


def open_records(
    config: ConfigDict, side: ConfigDict, split: str, *, as_published: bool = False
) -> records.Source:
    """The records of a split; they are prepared on first use.

    Args:
      side: `config.data.source` or `config.data.target`.
      as_published: True for records of the published size, for scores on the target; otherwise,
        with `data.store_resized`, they are stored at the size for training.
    """
    return records.open_split(side.name, split, **where(config, side, as_published))


def where(config: ConfigDict, side: ConfigDict, as_published: bool) -> dict[str, Any]:
    """Further arguments of `records.open_split` and `raw_files.check`."""
    rendered = side.name == "streets"  # rendered at any size, which counts as published
    resized = rendered or (config.data.store_resized and not as_published)
    return dict(
        records_dir=config.data.records or None,
        raw_dir=config.data.root,
        size=experiment_settings.size_of("size", side.size) if resized else None,
        **side.options.to_dict(),
    )


def table(config: ConfigDict, source: records.Source) -> np.ndarray:
    """uint8 [256], from the records' label ids to the learnt classes; see `labels.remap`."""
    return labels.remap(source.label_set, experiment_settings.label_set(config))
