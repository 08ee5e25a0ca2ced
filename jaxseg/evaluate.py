"""Evaluation: every image of a split once, the confusion matrix counted on the devices in integers.

The training loop and `--mode=evaluate` call the same function, so they report the same numbers.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from rich.console import Console
from rich.table import Table

from jaxseg import metrics, selection
from jaxseg.core import AXIS
from jaxseg.errors import UserError
from jaxseg.losses.entropy import entropy as entropy_map
from jaxseg.resize import resize_bilinear

STRIDE = 8  # of the maps that snapshots are compared by, in pixels of the network's input


class Example(NamedTuple):
    """One evaluated image, to be looked at."""

    id: str
    image: np.ndarray  # uint8 [H,W,3], as the network saw it
    label: np.ndarray  # uint8 [h,w], 255 = ignore
    prediction: np.ndarray  # uint8 [h,w]
    entropy: np.ndarray  # float32 [h,w], 0 (certain) .. 1 (uniform)


def make_evaluator(
    predict: Callable,
    num_classes: int,
    devices: Sequence[jax.Device] | None = None,
    *,
    pictures: int = 0,
    scored: Sequence[int] | None = None,
    also: Mapping[str, Sequence[int]] | None = None,
) -> Callable[..., tuple[dict[str, Any], list[Example]]]:
    """Makes the evaluator of a network; one compilation per shape of batch.

    Args:
      predict: (params, stats, memory, images uint8 [N,H,W,3]) -> logits [N,h,w,K] at any stride.
      num_classes: K.
      devices: local devices to use, all by default. Batches need not be divisible by their number.
      pictures: how many images come back to be looked at.
      scored: class ids the means are over; None for all.
      also: name -> class ids that a further mean IoU is over, as papers count 13 of SYNTHIA's 16
        classes: all from the same counts, of the same predictions.

    Returns:
      evaluate(params, stats, memory, batches, classes, maps=None) -> (result, examples): `result`
      as `write_results` describes it, without step and split; `examples` the first `pictures`
      images (of this process). `classes` are K names. `batches` yields {'image' uint8 [n,H,W,3],
      'label' uint8 [n,h,w], 'valid' bool [n], 'id' [n]}: the logits are resized (aligned corners)
      to the label's size. With several processes each brings its own images and all get the sums
      over all. The dict `maps` gets each image's class ids as predicted for about every eighth
      pixel of the input, uint8 [h', w'], of all processes' images; its keys stand for the ids.
    """
    devices = list(devices or jax.local_devices())
    everywhere = NamedSharding(Mesh(np.asarray(devices), (AXIS,)), PartitionSpec())

    def count(params, stats, memory, image, label):
        logits = predict(params, stats, memory, image).astype(jnp.float32)
        full = resize_bilinear(logits, label.shape[1:3])
        prediction = jnp.argmax(full, axis=-1).astype(jnp.uint8)
        entropy = entropy_map(full)
        counts = lax.psum(metrics.confusion(prediction, label, num_classes), AXIS)
        coarse = logits[:, *map(_thinned, logits.shape[1:3], image.shape[1:3])]
        rows, columns = selection.grid(*coarse.shape[1:3])
        points = coarse[:, rows[:, None], columns].reshape(len(coarse), -1, num_classes)
        small = jnp.argmax(coarse, axis=-1).astype(jnp.uint8)
        return counts, entropy.mean((1, 2)), prediction, entropy, small, points

    count = jax.pmap(
        count,
        AXIS,
        in_axes=(None, None, None, 0, 0),
        out_axes=(None, 0, 0, 0, 0, 0),
        devices=devices,
    )

    def evaluate(
        params,
        stats,
        memory,
        batches: Iterable[Mapping[str, Any]],
        classes: Sequence[str],
        maps: dict[str, np.ndarray] | None = None,
    ) -> tuple[dict[str, Any], list[Example]]:
        if len(classes) != num_classes:
            raise UserError(f"{len(classes)} class names for a network of {num_classes} classes")
        # Placed once, not with every batch; what the training loop holds is in place already.
        model = jax.device_put((params, stats, memory), everywhere)
        total = np.zeros((num_classes, num_classes), np.int64)
        sums = np.zeros(3)  # entropy, density, images
        examples: list[Example] = []
        for batch in batches:
            image, label, valid = (np.asarray(batch[k]) for k in ("image", "label", "valid"))
            _check_labels(label, valid, batch["id"], num_classes)
            label = np.where(valid[:, None, None], label, metrics.IGNORE).astype(np.uint8)
            padded = (_split(x, len(devices)) for x in (image, label))
            # Reading the result waits for it: fake CPU devices abort when many calls are queued.
            counts, mean, prediction, entropy, small, points = count(*model, *padded)
            total += np.asarray(counts)
            # In float32, whose sums in float64 are exact: the order of the images does not matter.
            density = selection.neighbourhood_density(_join(points)).astype(np.float32)
            for place, values in enumerate((_join(mean), density, np.ones(len(density)))):
                sums[place] += values[: len(valid)][valid].sum(dtype=np.float64)
            if maps is not None:
                maps |= _by_id(batch["id"], valid, _join(small)[: len(valid)])
            if len(examples) < pictures:
                prediction, entropy = _join(prediction), _join(entropy)
                for i in np.flatnonzero(valid)[: pictures - len(examples)]:
                    name = str(batch["id"][i])
                    examples.append(Example(name, image[i], label[i], prediction[i], entropy[i]))
        total, sums = _gathered(total).sum(0), _gathered(sums).sum(0)
        images = int(sums[2])
        if images == 0:
            raise UserError("there is no image to evaluate")
        scores = {"entropy": sums[0] / images, "neighbourhood_density": sums[1] / images}
        return _result(total, scores, images, classes, scored, also or {}), examples

    return evaluate


def write_results(path: str | Path, result: Mapping[str, Any]) -> None:
    """Writes a result as JSON, whole or not at all.

    Args:
      path: usually <workdir>/results.json.
      result: step, split, miou, miou_<name> of each further set of classes, pixel_accuracy,
        entropy (mean over pixels and images, in units of log K), neighbourhood_density (mean over
        images, nats; see `selection`), images, iou {class: value} and pixels {class: share of the
        labelled pixels}; fractions, None where a class does not occur.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(json.dumps(dict(result), indent=2, allow_nan=False) + "\n")
    os.replace(temporary, path)


def print_table(
    result: Mapping[str, Any],
    classes: Sequence[str],
    console: Console | None = None,
    *,
    name: str = "",
) -> None:
    """Prints a result: IoU of each class in percent, as a bar, and its share of the labelled
    pixels.

    Args:
      result: as `write_results` describes it.
      classes: the names in the order of the rows; those that are not scored are left out.
      console: where to; standard output by default.
      name: of what was evaluated; its step by default.
    """
    name = name or (f"step {result['step']}" if "step" in result else "")
    parts = (result.get("split"), name, f"{result['images']} images")
    table = Table(title=", ".join(part for part in parts if part), title_justify="left")
    table.add_column("class", no_wrap=True)
    table.add_column("IoU %", justify="right")
    table.add_column("", min_width=20, no_wrap=True)
    table.add_column("pixels %", justify="right")
    for each in (each for each in classes if each in result["iou"]):
        value, share = result["iou"][each], result["pixels"][each]
        table.add_row(each, percent(value, 1, ""), _bar(value), percent(share, 2, ""))
    table.add_section()
    table.add_row("pixel accuracy", percent(result["pixel_accuracy"], 1, ""))
    table.add_row("mean entropy", percent(result["entropy"], 1, ""))
    mean = result["miou"]
    table.add_row("mean IoU", percent(mean, 1, ""), _bar(mean), style="bold")
    for key in (key for key in result if key.startswith("miou_")):
        value = result[key]
        table.add_row(f"mean IoU, {key[5:]}", percent(value, 1, ""), _bar(value))
    (console or Console()).print(table)


def _result(counts, scores, images, classes, scored, also) -> dict[str, Any]:
    ids = list(range(len(classes))) if scored is None else [int(i) for i in scored]
    values = metrics.iou(counts)
    pixels = counts.sum(1)[ids]
    return {
        "miou": _number(metrics.mean_iou(counts, ids)),
        **{f"miou_{name}": _number(metrics.mean_iou(counts, few)) for name, few in also.items()},
        "pixel_accuracy": _number(metrics.pixel_accuracy(counts, ids)),
        **{name: _number(value) for name, value in scores.items()},
        "images": int(images),
        "iou": {classes[i]: _number(values[i]) for i in ids},
        "pixels": {
            classes[i]: float(n / max(pixels.sum(), 1)) for i, n in zip(ids, pixels, strict=True)
        },
    }


def _check_labels(label, valid, ids, num_classes) -> None:
    """A label id that no class has would silently not count: it is a wrong table or data set."""
    wrong = (label >= num_classes) & (label != metrics.IGNORE) & valid[:, None, None]
    if wrong.any():
        i = int(np.flatnonzero(wrong.any((1, 2)))[0])
        raise UserError(
            f"the label of {ids[i]} holds class id {label[i][wrong[i]][0]}, but the network has "
            f"{num_classes} classes: evaluate with the label set the network was trained for"
        )


def _split(array: np.ndarray, devices: int) -> np.ndarray:
    """[n, ...] -> [devices, ceil(n / devices), ...], filled up with 255 (labels: ignore)."""
    missing = -len(array) % devices
    if missing:
        rest = np.full((missing, *array.shape[1:]), metrics.IGNORE, array.dtype)
        array = np.concatenate([array, rest])
    return array.reshape(devices, -1, *array.shape[1:])


def _join(array: jax.Array) -> np.ndarray:
    array = np.asarray(array)
    return array.reshape(-1, *array.shape[2:])


def _thinned(size: int, pixels: int) -> slice:
    """About every STRIDE-th pixel of the input; all, if the logits are no finer."""
    step = max(1, round(STRIDE * size / pixels))
    return slice(step // 2, None, step)


def _gathered(array: np.ndarray) -> np.ndarray:
    """[...] of each process -> [processes, ...]; as bytes, for JAX gathers 32 bits of a number."""
    if jax.process_count() == 1:
        return array[None]
    plain = np.ascontiguousarray(array)
    gathered = multihost_utils.process_allgather(plain.reshape(-1).view(np.uint8))
    return np.asarray(gathered).view(array.dtype).reshape(-1, *array.shape)


def _by_id(ids: Sequence[str], valid: np.ndarray, maps: np.ndarray) -> dict[str, np.ndarray]:
    """The maps of all processes' valid images, by 16 digits made of the id."""
    digests = [hashlib.blake2b(str(i).encode(), digest_size=8).digest() for i in ids]
    names = np.stack([np.frombuffer(digest, np.uint8) for digest in digests])
    every = (_gathered(array) for array in (names, valid, maps))
    names, valid, maps = (array.reshape(-1, *array.shape[2:]) for array in every)
    return {names[i].tobytes().hex(): maps[i] for i in np.flatnonzero(valid)}


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def percent(value: float | None, digits: int = 2, unit: str = " %") -> str:
    """0.1234 as '12.34 %', None (nothing was labelled) as '–'."""
    return "–" if value is None else f"{100 * value:.{digits}f}{unit}"


def _bar(value: float | None, width: int = 20) -> str:
    """A bar of eighths of a character."""
    if value is None:
        return ""
    eighths = round(value * width * 8)
    return "█" * (eighths // 8) + ("", *"▏▎▍▌▋▊▉")[eighths % 8]
