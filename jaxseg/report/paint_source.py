"""Pictures of source images that a method changes before it learns: is the scene still the same?

The same few images at every evaluation: how far their grey levels moved, where, and whether the
segmenter still finds in the changed image what the labels say.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxseg.data.labels import IGNORE, LabelSet, colorize
from jaxseg.engine.method import DEPTH, IMAGE, SOURCE, TARGET, Method, view_of
from jaxseg.report import paint, paint_depth
from jaxseg.resize import resize_bilinear

INDEX = "source.json"
AMPLIFIED = 3  # differences are shown that many times as large, around mid-grey


class SourceExample(NamedTuple):
    """One labelled source image, as the method changes it, and what is predicted from that."""

    id: str
    image: np.ndarray  # uint8 [H,W,3]
    label: np.ndarray  # uint8 [H,W], 255 = ignore
    depth: np.ndarray | None  # float32 [H,W] metres, 0 = none; None: there is none at all
    transformed: np.ndarray  # float32 [H,W,3], 0..255
    prediction: np.ndarray  # uint8 [H,W], of the changed image
    predicted_depth: np.ndarray | None  # float32 [H,W] metres, of the changed image

    @property
    def change(self) -> float | None:
        """Mean absolute difference of changed and source image in grey levels, 0..255; None if
        it is not finite."""
        mean = float(np.abs(self.transformed - self.image.astype(np.float32)).mean())
        return mean if np.isfinite(mean) else None

    @property
    def right(self) -> float | None:
        """Share of the labelled pixels whose class is predicted; None if nothing is labelled."""
        known = self.label != IGNORE
        return float((self.prediction == self.label)[known].mean()) if known.any() else None


def make_viewer(method: Method, device: jax.Device) -> Callable[..., list[SourceExample]]:
    """Makes what looks at source images through a method; one compilation per size of image.

    Args:
      method: with a view of kind IMAGE on the SOURCE side; its view of depth on target images is
        used too if it has one.
      device: that computes; one image at a time.

    Returns:
      view(params, stats, memory, samples) -> examples; `samples` are dicts of 'id', 'image' uint8
      [H,W,3], 'label' uint8 [H,W] and, where it is known, 'depth' float32 [H,W] metres.
    """

    changed, depth = view_of(method, IMAGE, SOURCE), view_of(method, DEPTH, TARGET)

    @jax.jit
    def look(params, stats, memory, batch):
        model, size = (params, stats, memory), batch["source_label"].shape[1:3]
        moved = changed.function(*model, batch).astype(jnp.float32)
        logits = method.predict(*model, moved).astype(jnp.float32)
        prediction = jnp.argmax(resize_bilinear(logits, size), axis=-1).astype(jnp.uint8)
        if depth is None:
            return moved, prediction, None
        metres = depth.function(*model, moved).astype(jnp.float32)
        return moved, prediction, resize_bilinear(metres[..., None], size)[..., 0]

    def view(params, stats, memory, samples: Iterable[Mapping[str, Any]]) -> list[SourceExample]:
        model = jax.device_put((params, stats, memory), device)
        examples = []
        for sample in samples:
            image, label, depth = sample["image"], sample["label"], sample.get("depth")
            known = np.zeros(label.shape, np.float32) if depth is None else depth
            batch = {"source_image": image, "source_label": label, "source_depth": known}
            batch = jax.device_put({key: array[None] for key, array in batch.items()}, device)
            seen = jax.device_get(look(*model, batch))
            seen = [None if array is None else array[0] for array in seen]
            examples.append(SourceExample(str(sample["id"]), image, label, depth, *seen))
        return examples

    return view


def difference(example: SourceExample) -> np.ndarray:
    """What the transform adds, amplified around mid-grey, uint8 [H,W,3]."""
    added = np.nan_to_num(example.transformed) - example.image.astype(np.float32)
    return np.clip(128 + AMPLIFIED * added, 0, 255).round().astype(np.uint8)


def save_source_pictures(
    folder: str | Path,
    step: int,
    examples: Sequence[SourceExample],
    label_set: LabelSet,
    width: int = 480,
    title: str = "changed",
) -> np.ndarray:
    """Saves source images as the method changes them, for the report and as files to look at.

    Writes <folder>/source_<i>_image.jpg, _truth.png and, where it is known, _depth.png;
    <folder>/<step>/source_<i>_transformed.jpg, _difference.jpg, _prediction.png and _depth.png;
    source.json in both: ids and classes, and each image's change and share of right pixels; and
    <step>/source_panel.jpg.

    Args:
      folder: usually <workdir>/pictures.
      step: of the evaluation.
      examples: from the viewer.
      label_set: gives names and colours.
      width: pictures that are wider are saved at this width.
      title: of the view, stands above the changed images.

    Returns:
      The panel of all examples, uint8 [H,W,3].
    """
    folder = Path(folder)
    here = folder / f"{step:08d}"
    here.mkdir(parents=True, exist_ok=True)
    colours = paint.palette_of(label_set)
    for i, example in enumerate(examples):
        size, name = paint.saved_size(example.image, width), f"source_{i}"
        # Finer than other photographs: what JPEG changes must not look like the transform's work.
        for path, picture in (
            (folder / f"{name}_image.jpg", example.image),
            (here / f"{name}_transformed.jpg", _shown(example.transformed)),
        ):
            paint.save_photograph(path, picture, size, quality=95)
        paint.save_photograph(here / f"{name}_difference.jpg", difference(example), size)
        paint.save_indexed(folder / f"{name}_truth.png", example.label, colours, size)
        paint.save_indexed(here / f"{name}_prediction.png", example.prediction, colours, size)
        if example.depth is not None:
            paint.save_depth(folder / f"{name}_depth.png", example.depth, size)
        if example.predicted_depth is not None:
            paint.save_depth(here / f"{name}_depth.png", example.predicted_depth, size)
    shown = _panel(examples, label_set, title)
    paint.save_photograph(here / "source_panel.jpg", shown, shown.shape[1::-1], quality=90)
    numbers = {"change": [e.change for e in examples], "right": [e.right for e in examples]}
    (here / INDEX).write_text(json.dumps(numbers))
    index = {"ids": [e.id for e in examples], "title": title, **paint.described(label_set)}
    (folder / INDEX).write_text(json.dumps(index))
    return shown


def _panel(
    examples: Sequence[SourceExample], label_set: LabelSet, title: str, width: int = 240
) -> np.ndarray:
    captions = ("source", title, f"difference x {AMPLIFIED}", "true depth",
                "predicted depth", "ground truth", "prediction")  # fmt: skip
    rows = []
    for example in examples:
        maps = (
            np.zeros(example.label.shape) if metres is None else metres
            for metres in (example.depth, example.predicted_depth)
        )
        rows.append(
            [
                example.image,
                _shown(example.transformed),
                difference(example),
                *(paint_depth.paint_depth(metres) for metres in maps),
                *(colorize(ids, label_set) for ids in (example.label, example.prediction)),
            ]
        )
    pictures = paint.grid(rows, captions, width)
    return np.concatenate([pictures, paint.legend(label_set, pictures.shape[1])])


def _shown(image: np.ndarray) -> np.ndarray:
    """Grey levels as floats in uint8."""
    return np.clip(np.nan_to_num(image), 0, 255).round().astype(np.uint8)
