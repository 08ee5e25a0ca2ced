"""The result of an evaluation: its contents, and its table."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from jaxseg.evaluation.metrics import boundary as metrics_boundary
from jaxseg.evaluation.metrics import cityscapes, confusion
from jaxseg.evaluation.metrics import depth as metrics_depth

# The rows of a table below the mean IoU, where the value is known.
SUMMARY = {
    "pixel_accuracy": "pixel accuracy",
    "mean_class_accuracy": "mean class accuracy",
    "frequency_weighted_iou": "frequency-weighted IoU",
    "category_miou": "mean of categories",
    "miiou": "mean iIoU",
    "category_miiou": "iIoU of categories",
    "boundary_miou": "boundary mIoU",
    "entropy": "mean entropy",
}
# Values by class that are left out of lists of results.
DETAILS = (
    *("class_accuracy", "category_iou", "iiou", "category_iiou", "boundary_iou"),
    "confusion",
)


def result(
    classes: Sequence[str],
    *,
    counts: np.ndarray,
    means: Mapping[str, float],
    images: int,
    ignored: int = 0,
    scored: Sequence[int] | None = None,
    also: Mapping[str, Sequence[int]] | None = None,
    objects: np.ndarray | None = None,
    boundary: metrics_boundary.BoundaryCounts | None = None,
    depth: np.ndarray | None = None,
    cap: float = 0.0,
) -> dict[str, Any]:
    """Makes the result of evaluating a split.

    Args:
      classes: K names.
      counts: int64 [K, K], the confusion matrix, rows the truth.
      means: further numbers of the whole split, such as entropy.
      images: number of images.
      ignored: pixels that are in no row of `counts`.
      scored: ids of the classes that means are taken over; None for all.
      also: name -> class ids of a further mean IoU.
      objects: int64 [M, 4] of all images in order, from `cityscapes.instance_rows`; None
        without instance maps, or if `classes` are not of Cityscapes.
      boundary: counts of all images; None without boundary IoU.
      depth: float32 [images, 8] in order, from `depth.rows`; None without depth.
      cap: metres; pixels with a larger true depth were ignored.

    Returns:
      Scalars first, then dictionaries by class. Scores are fractions; None if undefined.
        miou, the mean of iou {class: value}, and miou_<name> of each further set of classes;
        pixel_accuracy, over the labelled pixels; pixel_accuracy_all, over all of them;
        mean_class_accuracy, the mean of class_accuracy {class: value};
        frequency_weighted_iou; pixels {class: share of the labelled pixels};
        entropy (mean over pixels and images, in units of log K), neighbourhood_density (mean over
        images, nats; see `selection`), images;
        if the classes are Cityscapes': category_miou, the mean of category_iou {category: value};
        with instance maps: miiou, the mean of iiou {class: value}, and category_miiou, of
        category_iiou {category: value}; see `metrics.cityscapes`;
        with `boundary`: boundary_miou, the mean of boundary_iou {class: value};
        with `depth`: depth, see `depth.scores`, with its cap;
        with any label: confusion, {'classes': names, 'pixels': `counts` as lists}.
    """
    ids = list(range(len(classes))) if scored is None else [int(i) for i in scored]
    table = cityscapes.known(classes)
    scores = cityscapes.scores(
        counts, table, None if objects is None else [objects],
        names=classes, scored=ids, ignored=ignored,
    )  # fmt: skip
    if not counts.any():  # without any label this accuracy is unknown too
        scores["pixel_accuracy_all"] = None
    if boundary is not None:
        chosen = metrics_boundary.BoundaryCounts(*(field[ids] for field in boundary))
        scores |= metrics_boundary.scores(chosen, [classes[i] for i in ids])
    pixels = counts.sum(1)[ids]
    scores["pixels"] = {
        classes[i]: float(n / max(pixels.sum(), 1)) for i, n in zip(ids, pixels, strict=True)
    }
    if depth is not None and (of_depth := metrics_depth.scores(depth))["images"]:
        scores["depth"] = {**of_depth, "cap": float(cap)}
    numbers = {
        "miou": scores["miou"],
        **{
            f"miou_{n}": _number(confusion.mean_iou(counts, few)) for n, few in (also or {}).items()
        },
        "pixel_accuracy": scores["pixel_accuracy"],
        **{key: value for key, value in scores.items() if not isinstance(value, dict)},
        **{name: _number(value) for name, value in means.items()},
        "images": int(images),
    }
    by_class = {key: value for key, value in scores.items() if isinstance(value, dict)}
    found = {**numbers, "iou": by_class["iou"], "pixels": by_class["pixels"], **by_class}
    if counts.any():
        found["confusion"] = {"classes": list(classes), "pixels": counts.tolist()}
    return found


def brief(result: Mapping[str, Any]) -> dict[str, Any]:
    """The result without details, for a list of many: by class only IoU and share of pixels."""
    return {key: value for key, value in result.items() if key not in DETAILS}


def print_table(
    result: Mapping[str, Any],
    classes: Sequence[str],
    console: Console | None = None,
    *,
    name: str = "",
) -> None:
    """Prints a result: each class's IoU in percent, with a bar, and share of the labelled pixels;
    then the means.

    Args:
      result: see `result`, optionally with step and split; missing entries are left out.
      classes: the names in the order of the rows; classes that are not scored are left out.
      console: where to print; standard output by default.
      name: of the evaluated network; 'step N' by default.
    """
    name = name or (f"step {result['step']}" if "step" in result else "")
    parts = (result.get("split"), name, f"{result['images']} images")
    table = Table(
        title=", ".join(part for part in parts if part), title_justify="left",
        caption=depth_line(result), caption_justify="left",
    )  # fmt: skip
    table.add_column("class", no_wrap=True)
    table.add_column("IoU %", justify="right")
    table.add_column("", min_width=20, no_wrap=True)
    table.add_column("pixels %", justify="right")
    for each in (each for each in classes if each in result["iou"]):
        value, share = result["iou"][each], result["pixels"][each]
        table.add_row(each, percent(value, 1, ""), _bar(value), percent(share, 2, ""))
    table.add_section()
    for key, title in SUMMARY.items():
        if key in result:
            table.add_row(title, percent(result[key], 1, ""))
    mean = result["miou"]
    table.add_row("mean IoU", percent(mean, 1, ""), _bar(mean), style="bold")
    for key in (key for key in result if key.startswith("miou_")):
        value = result[key]
        table.add_row(f"mean IoU, {key[5:]}", percent(value, 1, ""), _bar(value))
    (console or Console()).print(table)


def depth_line(result: Mapping[str, Any]) -> str | None:
    """'depth up to 80 m: abs rel 0.213, RMSE 4.21 m'; None if the result has no depth."""
    if not (depth := result.get("depth")):
        return None
    parts = (
        f"abs rel {plain(depth['abs_rel'])}",
        f"RMSE {plain(depth['rmse'], 2)} m",
        f"RMSE log {plain(depth['rmse_log'])}",
        f"within 1.25: {percent(depth['delta1'], 1)}",
    )
    return f"depth up to {depth['cap']:g} m: {', '.join(parts)}"


def plain(value: float | None, digits: int = 3) -> str:
    """0.12345 as '0.123', None as '–'."""
    return "–" if value is None else f"{value:.{digits}f}"


def percent(value: float | None, digits: int = 2, unit: str = " %") -> str:
    """0.1234 as '12.34 %', None (nothing was labelled) as '–'."""
    return "–" if value is None else f"{100 * value:.{digits}f}{unit}"


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _bar(value: float | None, width: int = 20) -> str:
    """A text bar, drawn to an eighth of a character."""
    if value is None:
        return ""
    eighths = round(value * width * 8)
    return "█" * (eighths // 8) + ("", *"▏▎▍▌▋▊▉")[eighths % 8]
