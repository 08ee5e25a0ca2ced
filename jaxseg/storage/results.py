"""Files of evaluations: results.json, results.txt, and what snapshots predicted."""

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
    """Writes a result, a comparison or several of them as JSON, whole or not at all."""
    run_folder.write_text(path, json.dumps(dict(numbers), indent=2, allow_nan=False) + "\n")


def write(workdir: str | Path, result: Mapping[str, Any]) -> Path:
    """Writes <workdir>/results.json and <workdir>/results.txt, each whole or not at all.

    results.txt has the five lines of the MiniCity challenge's own tool, 'nan' for what is not
    known.

    Args:
      workdir: a folder, made if it does not exist.
      result: step and split, and what `evaluation.results.result` gives.

    Returns:
      The path of results.json.
    """
    path = Path(workdir, "results.json")
    write_json(path, result)
    run_folder.write_text(path.with_suffix(".txt"), cityscapes.results_txt(result))
    return path


def save_maps(folder: str | Path, step: int, maps: Maps, keep: int) -> None:
    """Keeps a snapshot's predictions for the comparison with the next; whole or not at all.

    Args:
      folder: gets <step>.npz.
      step: of the snapshot.
      maps: from the evaluator.
      keep: how many snapshots' predictions stay: a run may go on from an earlier checkpoint.
    """
    path = Path(folder, f"{step:08d}.npz")
    run_folder.write_whole(path, lambda file: np.savez_compressed(file, step=step, **maps))
    steps = sorted(int(p.stem) for p in path.parent.glob("*.npz") if p.stem.isdigit())
    # Later ones are of an abandoned run.
    for other in [s for s in steps if s > step] + [s for s in steps if s <= step][:-keep]:
        path.with_name(f"{other:08d}.npz").unlink(missing_ok=True)


def load_maps(folder: str | Path, step: int) -> dict[str, np.ndarray]:
    """The predictions of the snapshot of a step; {} if there are none, or damaged ones."""
    try:
        with open(Path(folder) / f"{step:08d}.npz", "rb") as file, np.load(file) as arrays:
            maps = dict(arrays)
            return maps if int(maps.pop("step")) == step else {}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return {}
