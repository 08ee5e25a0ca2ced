"""The scores of predictors that hardly look (`evaluation.blind`), written beside a run's own."""

from collections.abc import Sequence
from typing import Any

from ml_collections import ConfigDict

from jaxseg.evaluation import blind
from jaxseg.experiment import batches, settings
from jaxseg.storage import results

FILE = "blind.json"


def write(config: ConfigDict, folders: Sequence[str]) -> dict[str, Any]:
    """Scores both predictors on the target's validation split and writes `blind.json` in each
    folder: a run's, or those of a sweep's members.

    They learn from the source's labels, as the method does: at most 400 of the images that it
    learns from, evenly spread, and are scored on at most 200.

    Returns:
      {'position', 'colour_and_position'}: mIoU, None without target labels.
    """
    classes = settings.label_set(config).classes
    counts = blind.count(batches.labelled_images(config, "source", 400), len(classes))
    seen = batches.labelled_images(config, "target", 200)
    found = blind.scores(counts, seen, len(classes), settings.scored(config))
    for folder in folders:
        results.write_json(f"{folder}/{FILE}", found)
    return found
