"""Pictures of what a method can show besides its prediction: its views, see `engine.method.View`.

Two kinds of view have pictures of their own and are left out here: the depth that is scored
(`paint`) and the source images as the method changes them (`paint_source`).
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from PIL import Image

from jaxseg.data.labels import LabelSet, colorize
from jaxseg.engine.method import (
    CLASSES,
    DEPTH,
    IMAGE,
    PAIR,
    PROBABILITY,
    SCALAR,
    SOURCE,
    TARGET,
    Method,
    View,
    view_of,
)
from jaxseg.evaluation.evaluator import Example
from jaxseg.report import paint, paint_depth

INDEX = "views.json"


class Seen(NamedTuple):
    """What the views show of one target image, one source image, or both of the same number."""

    inputs: dict[str, np.ndarray]  # 'source' and 'target', as far as looked at -> uint8 [H,W,3]
    maps: dict[str, np.ndarray]  # name of the view -> its map, [h,w] or [h,w,3]
    views: dict[str, View]


def shown_here(method: Method) -> dict[str, View]:
    """The views that have no pictures elsewhere."""
    elsewhere = (view_of(method, DEPTH, TARGET), view_of(method, IMAGE, SOURCE))
    return {n: v for n, v in method.views.items() if not any(v is e for e in elsewhere)}


def make_viewer(method: Method, device: jax.Device) -> Callable[..., list[Seen]] | None:
    """Makes what looks through the views at images, one after the other; None without any view.

    Args:
      method: whose views are used; all are compiled as one program for a size of image, so that
        what they have in common is computed once.
      device: that computes.

    Returns:
      view(params, stats, memory, examples, samples) -> what is seen. `examples` are target images
      from the evaluator; `samples` are source images, dicts of 'id', 'image' uint8 [H,W,3], 'label'
      uint8 [H,W] and perhaps 'depth' float32 [H,W] metres. The first of one go with the first of
      the other, and so on; for a view of a PAIR both are cut to their common size, in the middle.
    """
    views = shown_here(method)
    if not views:
        return None

    @jax.jit
    def look(params, stats, memory, given):
        model = params, stats, memory
        return {name: view.function(*model, given[view.side]) for name, view in views.items()}

    sides = {view.side for view in views.values()}

    def view(params, stats, memory, examples: Sequence[Example], samples: Iterable) -> list[Seen]:
        model = jax.device_put((params, stats, memory), device)
        samples = samples if sides - {TARGET} else ({} for _ in examples)
        found = []
        for example, sample in zip(examples, samples, strict=False):
            given = _given(example.image, sample, sides)
            given = jax.device_put(given, device)
            maps = jax.device_get(look(*model, given))
            maps = {name: array[0] for name, array in maps.items()}
            inputs = {}
            if sides - {TARGET}:
                inputs["source"] = sample["image"]
            if sides - {SOURCE}:
                inputs["target"] = example.image
            found.append(Seen(inputs, maps, views))
        return found

    return view


def _given(image: np.ndarray, sample: Mapping[str, Any], sides: set[str]) -> dict[str, Any]:
    """Side -> the last argument of a view's function, batches of one."""
    given: dict[str, Any] = {TARGET: image[None]}
    if not sides - {TARGET}:
        return given
    label, depth = sample["label"], sample.get("depth")
    depth = np.zeros(label.shape, np.float32) if depth is None else depth
    source = {"source_image": sample["image"], "source_label": label, "source_depth": depth}
    given[SOURCE] = {name: array[None] for name, array in source.items()}
    if PAIR in sides:
        size = np.minimum(image.shape[:2], label.shape)
        pair = {**source, "target_image": image}
        given[PAIR] = {name: _middle(array, size)[None] for name, array in pair.items()}
    return given


def _middle(array: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Cuts [H,W,...] to a size that is not larger."""
    top, left = (np.asarray(array.shape[:2]) - size) // 2
    return array[top : top + size[0], left : left + size[1]]


def save_views(
    folder: str | Path, step: int, seen: Sequence[Seen], label_set: LabelSet, width: int = 480
) -> np.ndarray:
    """Saves what the views show at a step.

    Writes <folder>/views_<i>_source.jpg and _target.jpg, the images that are looked at, and
    <folder>/<step>/views_<i>_<name>.png (.jpg for images); <step>/views.json: the views with their
    kinds and titles, and the smallest and largest value of each map of scalars; and
    <step>/views_panel.jpg.

    Args:
      folder: usually <workdir>/pictures.
      step: of the evaluation.
      seen: from the viewer.
      label_set: gives the colours of classes.
      width: pictures that are wider are saved at this width.

    Returns:
      The panel of all of them, uint8 [H,W,3].
    """
    folder = Path(folder)
    here = folder / f"{step:08d}"
    here.mkdir(parents=True, exist_ok=True)
    rows: list[list[np.ndarray]] = []
    index: dict[str, Any] = {"inputs": list(seen[0].inputs), "count": len(seen), "views": {}}
    for i, one in enumerate(seen):
        for side, image in one.inputs.items():
            size = paint.saved_size(image, width)
            paint.save_photograph(folder / f"views_{i}_{side}.jpg", image, size)
        rows.append(list(one.inputs.values()))
        for name, view in one.views.items():
            values = one.maps[name]
            size, path = paint.saved_size(values, width), here / f"views_{i}_{name}.png"
            told = index["views"].setdefault(
                name, {"title": view.title, "kind": view.kind, "ranges": []}
            )
            told["ranges"].append(_range(values) if view.kind == SCALAR else None)
            if view.kind == IMAGE:
                picture = np.clip(np.nan_to_num(values), 0, 255).round().astype(np.uint8)
                paint.save_photograph(path.with_suffix(".jpg"), picture, size)
            else:
                picture = paint_map(values, view.kind, label_set)
                _save(path, picture, size)
            rows[-1].append(picture)
    titles = [view.title for view in seen[0].views.values()]
    shown = paint.grid(rows, [*seen[0].inputs, *titles], 240)
    shown = np.concatenate([shown, paint.legend(label_set, shown.shape[1])])
    paint.save_photograph(here / "views_panel.jpg", shown, shown.shape[1::-1], quality=90)
    (here / INDEX).write_text(json.dumps(index))
    return shown


def paint_map(values: np.ndarray, kind: str, label_set: LabelSet) -> np.ndarray:
    """Paints a map [h,w] of a view, uint8 [h,w,3].

    Depth and classes have the colours they have elsewhere; probabilities those of `paint.heat`, and
    scalars too, from the smallest of the map to the largest.
    """
    if kind == CLASSES:
        return colorize(values.astype(np.uint8), label_set)
    if kind == DEPTH:
        return paint_depth.paint_depth(values)
    values = values.astype(np.float32)
    if kind != PROBABILITY:
        low, high = _range(values)
        values = (values - low) / ((high - low) or 1.0)
    return paint.heat(values)


def _range(values: np.ndarray) -> tuple[float, float]:
    """The smallest and the largest finite value; (0, 0) if there is none."""
    known = values[np.isfinite(values)]
    return (float(known.min()), float(known.max())) if known.size else (0.0, 0.0)


def _save(path: Path, picture: np.ndarray, size: tuple[int, int]) -> None:
    Image.fromarray(picture).resize(size, Image.Resampling.NEAREST).save(path, optimize=True)
