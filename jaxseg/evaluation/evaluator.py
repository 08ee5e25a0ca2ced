"""Evaluates a network on every image of a split; devices count the confusion matrix in integers.

The training loop and `--mode=evaluate` call the same function, so they report the same numbers.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxseg.engine import gather
from jaxseg.engine import memory as engine_memory
from jaxseg.engine.method import AXIS
from jaxseg.errors import UserError
from jaxseg.evaluation import results, selection
from jaxseg.evaluation.metrics import confusion
from jaxseg.evaluation.metrics import depth as metrics_depth
from jaxseg.evaluation.tally import Tally
from jaxseg.losses.entropy import entropy as entropy_map
from jaxseg.resize import resize_bilinear

STRIDE = 8  # of the small maps for comparing snapshots, in pixels of the network's input


class Example(NamedTuple):
    """One evaluated image with its maps, for pictures."""

    id: str
    image: np.ndarray  # uint8 [H,W,3], as the network saw it
    label: np.ndarray  # uint8 [h,w], 255 = ignore
    prediction: np.ndarray  # uint8 [h,w]
    entropy: np.ndarray  # float32 [h,w], 0 (certain) .. 1 (uniform)
    depth: np.ndarray | None = None  # float32 [h,w] metres, predicted; None without a depth output
    depth_truth: np.ndarray | None = None  # float32 [h,w] metres, 0 where unknown


Ranked = list[tuple[float, Example]]  # (mean IoU of the image, what a picture shows), in order


def make_evaluator(
    predict: Callable,
    num_classes: int,
    devices: Sequence[jax.Device] | None = None,
    *,
    pictures: int | Collection[str] = 0,
    scored: Sequence[int] | None = None,
    also: Mapping[str, Sequence[int]] | None = None,
    boundary: bool = False,
    depth: Callable | None = None,
    depth_cap: float = 80.0,
    extremes: int = 0,
    check: Callable[[Any], None] | None = None,
) -> Callable[..., tuple[dict[str, Any], list[Example]]]:
    """Makes the evaluator of a network; it compiles once for each shape of batch.

    Args:
      predict: (params, stats, memory, images uint8 [N,H,W,3]) -> logits [N,h,w,K] at any stride.
      num_classes: K.
      devices: local devices to use, all by default. Batches need not be divisible by their number.
      pictures: ids of the images to return as examples, or the number of first images to return.
      scored: ids of the classes that means are taken over; None for all.
      also: name -> class ids of a further mean IoU, such as 13 of SYNTHIA's 16 classes; computed
        from the same confusion matrix.
      boundary: also computes boundary IoU, on the host: about 50 ms for a 1024x2048 image.
      depth: (params, stats, memory, images) -> metres [N,h,w] at any stride; None if the method
        predicts no depth.
      depth_cap: metres; pixels with a larger true depth are ignored.
      extremes: how many of the worst and of the best images to keep for pictures.
      check: called with each compiled program before it first runs; see `memory.looked_at`.

    Returns:
      evaluate(params, stats, memory, batches, classes, maps=None, ranked=None) -> result, see
      `results.result`, and examples, the images of this process that `pictures` selects.
      `classes` are K names. `batches` yields {'image' uint8 [n,H,W,3], 'label' uint8 [n,h,w],
      'valid' bool [n], 'id' [n]}, optionally with 'instances' int [n,h,w] and 'depth' float32
      [n,h,w] metres. Logits and predicted depth are resized (aligned corners) to the label's size.
      Instances are used if the classes are those of Cityscapes.
      The dict `maps` receives the predicted class ids of each image of all processes, at about
      every eighth pixel of the input, uint8 [h', w'], by hashes of the image ids.
      The list `ranked` receives (mean IoU of the image, example) of the `extremes` worst and the
      `extremes` best labelled images of this process, the worst first; see `confusion.image_iou`.
      With several processes each passes its own images in the same number of batches, and all get
      the result over all images.
    """
    devices = list(devices or jax.local_devices())
    everywhere = NamedSharding(Mesh(np.asarray(devices), (AXIS,)), PartitionSpec())
    count = _make_count(predict, num_classes, devices, depth, depth_cap, bool(pictures), check)

    def evaluate(
        params, stats, memory, batches: Iterable[Mapping[str, Any]], classes: Sequence[str],
        maps: dict[str, np.ndarray] | None = None, ranked: Ranked | None = None,
    ) -> tuple[dict[str, Any], list[Example]]:  # fmt: skip
        if len(classes) != num_classes:
            raise UserError(f"{len(classes)} class names for a network of {num_classes} classes")
        # Copied to the devices once, not with every batch; in training it is there already.
        model = jax.device_put((params, stats, memory), everywhere)
        tally, examples = Tally(classes, boundary), []
        for batch in batches:
            batch = _checked(batch, num_classes)
            image, label, valid = (batch[key] for key in ("image", "label", "valid"))
            truth = batch.get("depth") if depth is not None else None
            padded = (None if x is None else _split(x, len(devices)) for x in (image, label, truth))
            # The result is read at once: simulated CPU devices abort when many calls are queued.
            counts, each, shown = count(*model, *padded)
            counts, each = np.asarray(counts), jax.tree.map(_join, each)
            _add(tally, batch, counts, each)
            if maps is not None:
                maps |= gather.by_id(batch["id"], valid, each["small"][: len(valid)])
            chosen = _chosen(batch, pictures, len(examples))
            at_an_end = _outer(ranked, each["score"], valid, extremes)
            if chosen or at_an_end:
                shown = {"prediction": each["prediction"], **jax.tree.map(_join, shown)}
                examples += [_example(batch, shown, truth, i) for i in chosen]
                found = ((float(each["score"][i]), i) for i in at_an_end)
                _rank(ranked, [(x, _example(batch, shown, truth, i)) for x, i in found], extremes)
        counted = dict(tally.total(), scored=scored, also=also, cap=depth_cap)
        return results.result(classes, **counted), examples

    return evaluate


def _make_count(
    predict: Callable,
    num_classes: int,
    devices: list[jax.Device],
    depth: Callable | None,
    depth_cap: float,
    look: bool,
    check: Callable[[Any], None] | None,
) -> Callable:
    """Makes the function that runs on the D devices; other arguments as in `make_evaluator`.

    Args:
      look: whether to return predicted depth even if the true depth is unknown, for pictures.

    Returns:
      (params, stats, memory, image uint8 [D,n,H,W,3], label uint8 [D,n,h,w], truth float32
      [D,n,h,w] or None) -> three values: the confusion matrix over all devices, integers [K,K];
      arrays that the host adds up, {'mean' entropy float32 [D,n], 'prediction' uint8 [D,n,h,w],
      'small' uint8 [D,n,h',w'], 'points' float32 [D,n,P,K], 'errors' float32 [D,n,C], 'score' mean
      IoU of each image, float32 [D,n]}; maps for pictures, {'entropy', 'depth' float32 [D,n,h,w]}.
    """

    def count(params, stats, memory, image, label, truth):
        logits = predict(params, stats, memory, image).astype(jnp.float32)
        full = resize_bilinear(logits, label.shape[1:3])
        prediction = jnp.argmax(full, axis=-1).astype(jnp.uint8)
        entropy = entropy_map(full)
        counts = confusion.by_image(prediction, label, num_classes)
        score = confusion.image_iou(counts)
        counts = lax.psum(counts.sum(0), AXIS)
        coarse = logits[:, *map(_thinned, logits.shape[1:3], image.shape[1:3])]
        rows, columns = selection.grid(*coarse.shape[1:3])
        points = coarse[:, rows[:, None], columns].reshape(len(coarse), -1, num_classes)
        small = jnp.argmax(coarse, axis=-1).astype(jnp.uint8)
        each = dict(
            mean=entropy.mean((1, 2)), prediction=prediction, small=small, points=points,
            score=score,
        )  # fmt: skip
        shown = dict(entropy=entropy)
        if depth is not None and (look or truth is not None):
            metres = depth(params, stats, memory, image).astype(jnp.float32)
            size = (label if truth is None else truth).shape[1:3]
            shown["depth"] = resize_bilinear(metres[..., None], size)[..., 0]
        if depth is not None and truth is not None:
            each["errors"] = metrics_depth.rows(shown["depth"], truth, depth_cap)
        return counts, each, shown

    counting = jax.pmap(
        count,
        AXIS,
        in_axes=(None, None, None, 0, 0, 0),
        out_axes=(None, 0, 0),
        devices=devices,
    )
    if check is None:
        return counting
    return engine_memory.looked_at(counting, lambda compiled, *_: check(compiled))


def _checked(batch: Mapping[str, Any], num_classes: int) -> dict[str, Any]:
    """The batch as arrays; labels of padding images are set to ignore."""
    batch = {key: x if key == "id" else np.asarray(x) for key, x in batch.items()}
    label, valid = batch["label"], batch["valid"]
    _check_labels(label, valid, batch["id"], num_classes)
    label = np.where(valid[:, None, None], label, confusion.IGNORE).astype(np.uint8)
    return {**batch, "label": label}


def _chosen(batch: Mapping[str, Any], pictures: int | Collection[str], kept: int) -> list[int]:
    """Positions of the images in a batch to return as examples; `kept` were returned before."""
    valid = np.flatnonzero(batch["valid"]).tolist()
    if isinstance(pictures, int):
        return valid[: max(pictures - kept, 0)]
    return [i for i in valid if str(batch["id"][i]) in pictures]


def _add(tally: Tally, batch: Mapping[str, Any], counts: np.ndarray, each: dict) -> None:
    """Counts a batch, of which `_make_count` has measured `counts` and `each`."""
    density = selection.neighbourhood_density(each["points"]).astype(np.float32)
    tally.add(batch, counts, (each["mean"], density), each["prediction"], each.get("errors"))


def _rank(ranked: Ranked | None, found: Ranked, count: int) -> None:
    """Adds scored examples to the worst and best so far, of which `count` each are kept."""
    if found:
        ranked.extend(found)
        ranked.sort(key=lambda one: one[0])
        del ranked[count : max(count, len(ranked) - count)]


def _outer(ranked: Ranked | None, scores: np.ndarray, valid: np.ndarray, count: int) -> list[int]:
    """Positions of the images in a batch that are among the worst or the best so far; none if
    nothing is ranked."""
    if ranked is None or not count:
        return []
    known = [i for i in np.flatnonzero(valid).tolist() if np.isfinite(scores[i])]
    if len(ranked) >= 2 * count:
        low, high = ranked[count - 1][0], ranked[-count][0]
        known = [i for i in known if scores[i] < low or scores[i] > high]
    order = sorted(known, key=lambda i: scores[i])
    return sorted(set(order[:count] + order[len(order) - min(count, len(order)) :]))


def _example(
    batch: Mapping[str, Any],
    shown: Mapping[str, np.ndarray],
    truth: np.ndarray | None,
    index: int,
) -> Example:
    parts = (
        batch["image"], batch["label"], shown["prediction"], shown["entropy"], shown.get("depth"),
        truth,
    )  # fmt: skip
    return Example(
        str(batch["id"][index]), *(None if part is None else part[index] for part in parts)
    )


def _check_labels(label, valid, ids, num_classes) -> None:
    """Refuses label ids of no class, which would silently be ignored: the data set or the table of
    classes is wrong."""
    wrong = (label >= num_classes) & (label != confusion.IGNORE) & valid[:, None, None]
    if wrong.any():
        i = int(np.flatnonzero(wrong.any((1, 2)))[0])
        raise UserError(
            f"the label of {ids[i]} holds class id {label[i][wrong[i]][0]}, but the network has "
            f"{num_classes} classes: evaluate with the label set the network was trained for"
        )


def _split(array: np.ndarray, devices: int) -> np.ndarray:
    """[n, ...] -> [devices, ceil(n / devices), ...], padded with 255 (ignore, in labels)."""
    missing = -len(array) % devices
    if missing:
        rest = np.full((missing, *array.shape[1:]), confusion.IGNORE, array.dtype)
        array = np.concatenate([array, rest])
    return array.reshape(devices, -1, *array.shape[1:])


def _join(array: jax.Array) -> np.ndarray:
    array = np.asarray(array)
    return array.reshape(-1, *array.shape[2:])


def _thinned(size: int, pixels: int) -> slice:
    """Selects about every STRIDE-th pixel of the input; all if the logits are no finer."""
    step = max(1, round(STRIDE * size / pixels))
    return slice(step // 2, None, step)
