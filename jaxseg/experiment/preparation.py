"""Prepares the records that an experiment reads, and refuses unusable data before it trains."""

from collections.abc import Sequence
from typing import NamedTuple

from ml_collections import ConfigDict

from jaxseg.data import labels, pipeline, raw_files, records
from jaxseg.errors import UserError
from jaxseg.experiment import batches
from jaxseg.experiment import settings as experiment_settings


class _Needed(NamedTuple):
    """A set of records that training reads."""

    side: ConfigDict
    split: str
    as_published: bool  # see `batches.open_records`
    labels: bool  # whether labels are read


def _needed(config: ConfigDict, reads: Sequence[str]) -> list[_Needed]:
    """All records that training and its evaluations read, the validation splits first."""
    data = config.data
    needed = [_Needed(data.target, data.target.val_split, True, True)]
    if batches.source_scored(config):
        needed.append(_Needed(data.source, data.source.val_split, False, True))
    for side in pipeline.SIDES:
        if keys := pipeline.keys_of(side, reads):
            needed.append(_Needed(data[side], data[side].split, False, "label" in keys))
    return needed


def prepare(config: ConfigDict, reads: Sequence[str]) -> None:
    """Prepares all records that training will read, and fails fast on unusable data.

    Args:
      reads: the keys of a batch that the method's losses use, such as 'source_image'.

    Raises:
      UserError: a data set is missing, or the user's own labels are wrong (both checked before any
        is prepared); a data set is empty, or does not have the learnt classes.
    """
    check_read(config, reads)
    for each in _needed(config, reads):
        opened = batches.open_records(config, each.side, each.split, as_published=each.as_published)
        if not len(opened):
            raise UserError(f"{opened.name} {opened.split} is empty")
        if each.labels:
            _check_labels(config, each, opened)
        if each.as_published:
            pipeline.equal_sizes(opened)  # reads every record once, before training starts


def check_read(config: ConfigDict, reads: Sequence[str]) -> None:
    """As `check_files`, for the splits that training with these keys will read."""
    _check_files(config, _needed(config, reads))


def check_files(config: ConfigDict) -> None:
    """Fails fast on files of either side that are missing, classes that do not go together, or
    labels of the user's own data that cannot be read; nothing is prepared."""
    needed = []
    for prefix in pipeline.SIDES:
        side = config.data[prefix]
        for split in filter(None, dict.fromkeys((side.split, side.get("val_split", "")))):
            scored = prefix == "target" and split != side.split
            needed.append(_Needed(side, split, scored, True))
    _check_files(config, needed)


def _check_files(config: ConfigDict, needed: Sequence[_Needed]) -> None:
    """Checks the files of both sides first, then the classes, then all labels (the longest)."""
    learnt = experiment_settings.label_set(config)

    def check_classes(name: str, split: str, **found) -> None:
        labels.remap(raw_files.label_set(name, split, **found), learnt)

    for check in (raw_files.check, check_classes, raw_files.check_labels):
        for each in needed:
            if each.labels or check is not check_classes:
                found = batches.where(config, each.side, each.as_published)
                check(each.side.name, each.split, **found)


def _check_labels(config: ConfigDict, needed: _Needed, opened: records.Source) -> None:
    """Raises UserError for labels that are missing, or that can never show a class."""
    batches.table(config, opened)
    if needed.as_published:  # scored if there are labels
        return
    side = "source" if needed.side is config.data.source else "target"
    if not opened.labelled:
        raise UserError(
            f"{opened.name} {opened.split} has no labels to learn from: name their folder with "
            f"--config.data.{side}.options.labels=FOLDER"
        )
    learnt = experiment_settings.label_set(config)
    if opened.name == "folder" and (never := labels.never_shown(opened.label_set, learnt)):
        raise UserError(
            f"{learnt.name} has {', '.join(never)}, which labels of {opened.label_set.name} can "
            f"never show: map a class to it (see class_map.txt in docs/data.md), or leave it out"
        )
