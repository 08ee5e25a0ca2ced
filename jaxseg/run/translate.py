"""Writes the source's training images in the target's look: `--mode=translate`.

The folder holds what the `folder` data set reads, so that any config can train on it:
`source/images`, `source/labels`, `classes.txt`; besides `translation.json` (what made it, and the
numbers that judge it) and `sheet.jpg` (before and after). A broken run goes on where it stopped.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict
from PIL import Image
from rich.console import Console
from rich.table import Table

from jaxseg.data import codec
from jaxseg.data.conversion import common
from jaxseg.errors import UserError
from jaxseg.evaluation import frechet
from jaxseg.evaluation.metrics import confusion
from jaxseg.experiment import ensembles, features, finished, preparation, settings, translation
from jaxseg.experiment.finished import Wanted
from jaxseg.experiment.restore import Loaded
from jaxseg.report import paint
from jaxseg.resize import resize_bilinear
from jaxseg.storage import run_folder

FACTS, SHEET, SHOWN = "translation.json", "sheet.jpg", 8
ALIKE = 0.5  # below this share of the source's variety a collapse is told
DEFAULT = Wanted(step="last")  # the best is chosen with labels of the target
Row = tuple[str, np.ndarray, np.ndarray, np.ndarray]  # name, before, after, label


def translate(
    config: ConfigDict, workdir: str, output: str, wanted: Wanted = DEFAULT, judge: str = ""
) -> dict[str, Any]:
    """Translates every training image of the source at `data.source.size` and judges the result.

    Args:
      config: of the experiment; a method that learns to translate needs a trained run.
      workdir: of that run.
      output: folder to write to; one that holds another translation is refused.
      wanted: which checkpoint, the last if none is named; or `weights`, the file of a published
        CycleGAN generator.
      judge: folder of a run of any method with these classes (DIR, or DIR@STEP; otherwise its last
        step), whose segmenter is asked whether the content has survived; '' for none. It should
        have been trained on the source as it is.

    Returns:
      What is written to `translation.json`.

    Raises:
      UserError: nothing that translates, no run, a folder in use, an image size that the network
        does not take.
    """
    finished.prepare(config)
    way = _way(config, workdir, wanted)
    label_set = settings.label_set(config)
    facts = way.facts | {
        "source": translation.about(config, "source"), "classes": list(label_set.classes)
    }  # fmt: skip
    folder = Path(output).expanduser()
    matrices = _Content(config, judge, label_set.classes) if judge else None
    _claim(folder, facts)
    preparation.prepare(config, ("source_image", "source_label", "target_image"))
    run_folder.write_text(folder / "classes.txt", "".join(f"{c}\n" for c in label_set.classes))
    rows, look = _Shown(), features.lite0()
    before, after = [], []
    count, every = translation.source_batches(config)
    for batch in common.track(every, count, f"translating batches of {config.eval.batch}"):
        images = _saved(folder, batch, way)
        kept = [i for i, name in enumerate(batch["id"]) if name]
        before.append(look(batch["image"])[kept])
        after.append(look(images)[kept])
        if matrices:
            matrices.add(batch["image"], images, batch["label"])
        for i in kept:
            rows.add((batch["id"][i], batch["image"][i], images[i], batch["label"][i]))
    sheet = paint.grid(
        [(a, b, paint.overlay(b, label, label_set)) for _, a, b, label in rows.spread()],
        ("source", "translated", "translated, with the source's labels"),
    )
    Image.fromarray(sheet).save(folder / SHEET, quality=90)
    target = np.concatenate([
        look(batch["image"])[batch["valid"]] for batch in translation.target_batches(config)[1]
    ])  # fmt: skip
    sets = {when: np.concatenate(found) for when, found in (("before", before), ("after", after))}
    told = dict(
        facts, images=sum(map(len, before)), target_images=len(target),
        lite0_frechet={when: frechet.distance(found, target) for when, found in sets.items()},
        lite0_variety={
            when: frechet.variety(found) for when, found in (sets | {"target": target}).items()
        },
        finished=True,
    )  # fmt: skip
    if matrices:
        told["content"] = matrices.scores()
    run_folder.write_text(folder / FACTS, json.dumps(told, indent=1) + "\n")
    _print(told, folder)
    return told


def _way(config: ConfigDict, workdir: str, wanted: Wanted) -> translation.Way:
    if wanted.weights:
        return translation.of_file(wanted.weights)
    if translation.learnt(config):
        loaded = finished.load(config, workdir, wanted)
        _check_played(loaded, workdir)
        return translation.of_run(loaded)
    return translation.of_looks(config)


def _check_played(loaded: Loaded, workdir: str) -> None:
    """Raises UserError for a checkpoint of the warm-up, in which no translator learns."""
    saved = Path(workdir, run_folder.CONFIG).is_file()
    train = (run_folder.read_config(workdir) if saved else loaded.config).train
    warm = train.warmup_steps if loaded.method.warmup else 0
    if warm and loaded.facts["step"] <= warm:
        raise UserError(
            f"{loaded.name} of {loaded.config.name} is of the warm-up, whose {warm} steps train "
            "the segmenter alone: give a later step, or train on"
        )


def _claim(folder: Path, facts: dict[str, Any]) -> None:
    """Notes what is written to the folder, or refuses one that holds something else."""
    path = folder / FACTS
    if not path.exists():
        if folder.is_dir() and any(folder.iterdir()):
            raise UserError(
                f"--output={folder} is not empty, and no translation: give a new folder"
            )
        run_folder.write_text(path, json.dumps(facts, indent=1) + "\n")
        return
    try:
        found = json.loads(path.read_text())
    except ValueError as error:
        raise UserError(f"{path} cannot be read ({error}): give a new --output") from error
    found.setdefault("classes", _classes_of(folder) or facts["classes"])  # one from before
    others = [key for key, value in _plain(facts).items() if found.get(key) != value]
    if others:
        raise UserError(
            f"--output={folder} holds a translation by {found.get('by')} with another "
            f"{', '.join(others)}: give a new folder"
        )


def _classes_of(folder: Path) -> list[str]:
    path = folder / "classes.txt"
    return path.read_text().splitlines() if path.is_file() else []


def _plain(facts: dict[str, Any]) -> dict[str, Any]:
    """The facts as they come back from a file."""
    return json.loads(json.dumps(facts))


def _saved(folder: Path, batch: dict[str, Any], way: translation.Way) -> np.ndarray:
    """The batch's translated images, from disk where all of them are there already."""
    named = [name for name in batch["id"] if name]
    images, labels = (
        [folder / "source" / kind / f"{name}.png" for name in named]
        for kind in ("images", "labels")
    )
    if all(path.exists() for path in (*images, *labels)):
        stored = [codec.decode_image(path.read_bytes()) for path in images]
        if all(image.shape == batch["image"].shape[1:] for image in stored):
            return np.concatenate([np.stack(stored), batch["image"][len(stored) :]])
    try:
        found = way.translate(batch)
    except ValueError as error:  # a network that does not take this size
        raise UserError(f"config.data.source.size: {error}") from error
    for i in range(len(named)):
        for path, array in ((images[i], found[i]), (labels[i], batch["label"][i])):
            encoded = codec.encode_png(array)
            run_folder.write_whole(path, lambda file, data=encoded: file.write(data))
    return found


class _Shown:
    """Rows of the contact sheet, evenly spaced over a stream of unknown length."""

    def __init__(self):
        self._rows, self._every, self._seen = [], 1, 0

    def add(self, row: Row) -> None:
        if self._seen % self._every == 0:
            self._rows.append(row)
            if len(self._rows) == 4 * SHOWN:
                self._rows, self._every = self._rows[::2], 2 * self._every
        self._seen += 1

    def spread(self) -> Iterator[Row]:
        count = min(SHOWN, len(self._rows))
        return (self._rows[i * len(self._rows) // count] for i in range(count))


class _Content:
    """Confusion matrices of a run's segmenter on images before and after."""

    def __init__(self, config: ConfigDict, run: str, names: Sequence[str]):
        loaded = ensembles.one(config, run, step="last", flag="judge")
        model = jax.device_put(tuple(loaded.model[k] for k in ("params", "stats", "memory")))
        predict = loaded.method.predict

        @jax.jit
        def count(images, labels):
            logits = resize_bilinear(predict(*model, images), labels.shape[1:])
            return confusion.confusion(jnp.argmax(logits, -1), labels, len(names))

        self._run, self._count, self._names = run, count, names
        empty = np.zeros((len(names), len(names)), np.int64)
        self._total = {"before": empty, "after": empty.copy()}

    def add(self, before: np.ndarray, after: np.ndarray, labels: np.ndarray) -> None:
        for key, images in (("before", before), ("after", after)):
            self._total[key] += np.asarray(self._count(images, labels), np.int64)

    def scores(self) -> dict[str, Any]:
        return {"run": self._run} | {
            key: dict(
                miou=confusion.mean_iou(total),
                pixel_accuracy=confusion.pixel_accuracy(total),
                iou={
                    name: float(value)
                    for name, value in zip(self._names, confusion.iou(total), strict=True)
                    if value == value  # not nan: it occurs or is predicted
                },
            )
            for key, total in self._total.items()
        }


def _lost(content: dict[str, Any] | None) -> str:
    """The three classes whose IoU has fallen most, as text: trees in skies, say."""
    if not content:
        return ""
    before, after = (content[when]["iou"] for when in ("before", "after"))
    falls = sorted((after.get(name, 0.0) - before[name], name) for name in before)
    return ", ".join(
        f"{name} {100 * before[name]:.1f} -> {100 * after.get(name, 0.0):.1f} %"
        for fall, name in falls[:3]
        if fall < -0.005
    )


def _print(told: dict[str, Any], folder: Path) -> None:
    step = f", step {told['step']}" if "step" in told else ""
    title = f"{told['images']} images by {told['by']}{step}"
    table = Table("", "source", "translated", title=title)
    distance = told["lite0_frechet"]
    table.add_row(
        f"Fréchet distance to the target's {told['target_images']} images (features of "
        "EfficientNet-Lite0; 0: alike)",
        *(f"{distance[key]:.2f}" for key in ("before", "after")),
    )
    variety = told["lite0_variety"]
    table.add_row(
        "variety of the images (variance of these features; that of the target's: "
        f"{variety['target']:.2f})",
        *(f"{variety[key]:.2f}" for key in ("before", "after")),
    )
    for name, key in (("mIoU", "miou"), ("pixel accuracy", "pixel_accuracy")):
        if "content" in told:
            values = (f"{100 * told['content'][when][key]:.1f} %" for when in ("before", "after"))
            table.add_row(f"{name} of {told['content']['run']} on them", *values)
    Console().print(table)
    if lost := _lost(told.get("content")):
        print(f"least of it survives in: {lost} (IoU before, after)")
    if variety["after"] < ALIKE * variety["before"]:
        print(
            f"the translated images differ among themselves by less than {ALIKE:.0%} of what the "
            f"source's do: the translator may have collapsed, look at {SHEET}"
        )
    if "content" not in told:
        print("--judge=RUN, a run on the source alone, tells whether the content has survived")
    print(f"written to {folder}: source/images, source/labels, classes.txt, {SHEET}, {FACTS}")
    print(f"to train on it: any config of this pair with --config.data.translated={folder}")
