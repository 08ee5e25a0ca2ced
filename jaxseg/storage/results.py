"""Files of evaluations: results.json, results.txt, confusion.csv, the snapshots' predictions."""

import csv
import io
import json
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxseg.evaluation.metrics import cityscapes
from jaxseg.evaluation.selection import Maps
from jaxseg.storage import run_folder


def write_json(path: str | Path, numbers: Mapping[str, Any]) -> None:
    """Writes one or several results, or a comparison, as JSON, atomically."""
    run_folder.write_text(path, json.dumps(dict(numbers), indent=2, allow_nan=False) + "\n")


def write(workdir: str | Path, result: Mapping[str, Any]) -> Path:
    """Writes <workdir>/results.json, results.txt and, with labels, confusion.csv, each atomically.

    results.txt has the five lines that the MiniCity challenge's tool writes, with 'nan' for unknown
    values. confusion.csv counts pixels: a row for each class of the ground truth, a column for each
    class that is predicted, both with their names.

    Args:
      workdir: a folder, created if it does not exist.
      result: step, split, and the entries of `evaluation.results.result`.

    Returns:
      The path of results.json.
    """
    path = Path(workdir, "results.json")
    write_json(path, {key: value for key, value in result.items() if key != "confusion"})
    if kept := result.get("confusion"):
        file = io.StringIO()
        rows = ([n, *row] for n, row in zip(kept["classes"], kept["pixels"], strict=True))
        csv.writer(file, lineterminator="\n").writerows([["", *kept["classes"]], *rows])
        run_folder.write_text(path.with_name("confusion.csv"), file.getvalue())
    run_folder.write_text(path.with_suffix(".txt"), cityscapes.results_txt(result))
    return path


def save_maps(folder: str | Path, step: int, maps: Maps, keep: int) -> None:
    """Saves a snapshot's predictions atomically, for the comparison with the next snapshot.

    Args:
      folder: gets <step>.npz.
      step: of the snapshot.
      maps: from the evaluator.
      keep: for how many snapshots predictions are kept, as a run may resume from an earlier one.
    """
    path = Path(folder, f"{step:08d}.npz")
    run_folder.write_whole(path, lambda file: np.savez_compressed(file, step=step, **maps))
    steps = sorted(int(p.stem) for p in path.parent.glob("*.npz") if p.stem.isdigit())
    # Predictions of later steps come from an abandoned run.
    for other in [s for s in steps if s > step] + [s for s in steps if s <= step][:-keep]:
        path.with_name(f"{other:08d}.npz").unlink(missing_ok=True)


def load_maps(folder: str | Path, step: int) -> dict[str, np.ndarray]:
    """The predictions of the snapshot at `step`; {} if there is no file or it is damaged."""
    try:
        with open(Path(folder) / f"{step:08d}.npz", "rb") as file, np.load(file) as arrays:
            maps = dict(arrays)
            return maps if int(maps.pop("step")) == step else {}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return {}
