"""Pictures of labels, predictions and entropies, and the ones a run saves at each evaluation."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from jaxseg.data.labels import IGNORE, LabelSet, colorize
from jaxseg.evaluation.evaluator import Example
from jaxseg.report import paint_depth

# Dark violet through red to pale yellow, rising in lightness: dark is certain, bright is uncertain.
_HEAT = (
    *((11, 8, 36), (62, 22, 104), (126, 36, 118), (190, 55, 98)),
    *((236, 103, 72), (249, 174, 86), (252, 246, 196)),
)
_INK, _PAPER, _EDGE = (38, 38, 44), (255, 255, 255), 255
INDEX = "index.json"
ERRORS = ((226, 229, 233), (200, 29, 60), (138, 144, 153))  # right, wrong, not labelled
LARGE, SMALL = 960, 480  # widths that pictures are saved at, at most; of entropy the second


def heat_palette() -> np.ndarray:
    """The 256 colours of `heat`, uint8 [256,3]."""
    anchors = np.linspace(0, 255, len(_HEAT))
    channels = [np.interp(np.arange(256), anchors, channel) for channel in zip(*_HEAT, strict=True)]
    return np.stack(channels, -1).round().astype(np.uint8)


def heat(values: np.ndarray) -> np.ndarray:
    """Paints an entropy map.

    Args:
      values: floats [H,W]; 0 becomes dark violet, 1 pale yellow; other values are clipped.

    Returns:
      uint8 [H,W,3].
    """
    return heat_palette()[_levels(values)]


def overlay(
    image: np.ndarray, label: np.ndarray, label_set: LabelSet, strength: float = 0.55
) -> np.ndarray:
    """Lays the colours of a label map over a photograph, with fine light lines between classes.

    Args:
      image: uint8 [H,W,3].
      label: train ids [H,W]; ignored pixels show the photograph.
      label_set: gives the colours.
      strength: 0 shows the photograph, 1 the colours.

    Returns:
      uint8 [H,W,3].
    """
    known, values = len(label_set.palette), np.arange(256.0)[:, None]
    colours = np.zeros((known + 1, 1, 3))  # black for ids that the set lacks
    colours[:known, 0] = label_set.palette
    mixed = (1 - strength) * values + strength * colours
    mixed = np.concatenate([mixed, np.broadcast_to(values, (1, 256, 3))])
    # What becomes of each value under each class, and under each class where its edge is.
    table = np.concatenate([mixed, 0.45 * mixed + 0.55 * _EDGE]).round().astype(np.uint8)
    rows = np.where((label >= 0) & (label < known), label, known)
    rows = np.where(label == IGNORE, known + 1, rows).astype(np.intp)
    edge = np.zeros(label.shape, bool)
    edge[:, 1:] |= label[:, 1:] != label[:, :-1]
    edge[1:] |= label[1:] != label[:-1]
    at = (rows + edge * len(mixed)) << 8
    found = [table[..., c].ravel()[at + image[..., c]] for c in range(3)]
    return np.stack(found, -1)


def grid(
    rows: Sequence[Sequence[np.ndarray]], captions: Sequence[str], width: int = 320, gap: int = 6
) -> np.ndarray:
    """Puts pictures side by side under captions.

    Args:
      rows: pictures uint8 [H,W,3]; a row may be shorter than the captions.
      captions: one for each column.
      width: of a column in pixels; pictures are scaled to it and keep their shape.
      gap: between pictures in pixels.

    Returns:
      uint8 [H,W,3] on white.
    """
    font = ImageFont.load_default(size=max(11, min(18, width // 16)))
    head = font.size + 2 * gap if any(captions) else gap
    scaled = [[_fit(picture, width) for picture in row] for row in rows]
    heights = [max((p.height for p in row), default=0) for row in scaled]
    size = (
        gap + len(captions) * (width + gap),
        head + sum(height + gap for height in heights),
    )
    canvas = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(canvas)
    for column, caption in enumerate(captions):
        x = gap + column * (width + gap)
        draw.text((x + 1, head // 2), caption, fill=_INK, font=font, anchor="lm")
    y = head
    for row, height in zip(scaled, heights, strict=True):
        for column, picture in enumerate(row):
            canvas.paste(picture, (gap + column * (width + gap), y))
        y += height + gap
    return np.asarray(canvas)


def legend(label_set: LabelSet, width: int, gap: int = 6) -> np.ndarray:
    """A strip with the name of each class beside its colour, uint8 [H,width,3] on white."""
    font = ImageFont.load_default(size=14)
    places, x, y, line = [], gap, gap, 22
    for name in label_set.classes:
        wide = 20 + int(font.getlength(name)) + 14
        if x + wide > width and x > gap:
            x, y = gap, y + line
        places.append((x, y))
        x += wide
    canvas = Image.new("RGB", (width, y + line), _PAPER)
    draw = ImageDraw.Draw(canvas)
    for (x, y), name, colour in zip(places, label_set.classes, label_set.palette, strict=True):
        draw.rounded_rectangle((x, y, x + 14, y + 14), 3, fill=tuple(colour))
        draw.text((x + 20, y + 7), name, fill=_INK, font=font, anchor="lm")
    return np.asarray(canvas)


def panel(examples: Sequence[Example], label_set: LabelSet, width: int = 320) -> np.ndarray:
    """Image, ground truth if there is any, prediction and entropy of examples, depth where it is
    predicted, and the legend, uint8 [H,W,3]."""
    labelled = any((example.label != IGNORE).any() for example in examples)
    captions = ["image", *(["ground truth"] if labelled else []), "prediction", "entropy"]
    rows = [
        [
            example.image,
            *([colorize(example.label, label_set)] if labelled else []),
            colorize(example.prediction, label_set),
            heat(example.entropy),
        ]
        for example in examples
    ]
    for name, kind in (("depth_truth", "true depth"), ("depth", "predicted depth")):
        maps = [getattr(example, name) for example in examples]
        if _depth_predicted(examples) and any(metres is not None for metres in maps):
            captions.append(kind)
            for row, metres, example in zip(rows, maps, examples, strict=True):
                metres = np.zeros(example.label.shape) if metres is None else metres
                row.append(paint_depth.paint_depth(metres))
    pictures = grid(rows, captions, width)
    return np.concatenate([pictures, legend(label_set, pictures.shape[1])])


def save_pictures(
    folder: str | Path,
    step: int,
    examples: Sequence[Example],
    label_set: LabelSet,
    width: int = LARGE,
) -> np.ndarray:
    """Saves the images of an evaluation, for the report and as files to look at.

    Writes <folder>/<i>_image.jpg and <i>_truth.png, <folder>/<step>/<i>_prediction.png and
    <i>_entropy.png (palette PNG: train ids and entropy in 255ths), <step>/panel.jpg, and
    index.json. Where depth is predicted, <step>/<i>_depth.png as well, and <i>_depth.png where it
    is known (palette PNG: see `paint_depth`).

    Args:
      folder: usually <workdir>/pictures.
      step: of the evaluation.
      examples: from the evaluator.
      label_set: gives names and colours.
      width: pictures that are wider are saved at this width, entropies at SMALL.

    Returns:
      The panel of all examples, uint8 [H,W,3].
    """
    folder = Path(folder)
    here = folder / f"{step:08d}"
    here.mkdir(parents=True, exist_ok=True)
    colours, predicted = palette_of(label_set), _depth_predicted(examples)
    for i, example in enumerate(examples):
        size = saved_size(example.image, width)
        save_example(folder, here, i, example, colours, width)
        if predicted:
            save_depth(here / f"{i}_depth.png", example.depth, size)
            if example.depth_truth is not None:
                save_depth(folder / f"{i}_depth.png", example.depth_truth, size)
    shown = panel(examples, label_set)
    Image.fromarray(shown).save(here / "panel.jpg", quality=90)
    index = {"ids": [example.id for example in examples], **described(label_set)}
    if predicted:
        index["depth"] = {"truth": [example.depth_truth is not None for example in examples]}
    (folder / INDEX).write_text(json.dumps(index))
    return shown


def save_example(
    folder: Path, here: Path, i: int, example: Example, colours: np.ndarray, width: int
) -> None:
    """Saves image and truth into `folder`, prediction and entropy into `here`: see
    `save_pictures`."""
    size = saved_size(example.image, width)
    small = saved_size(example.image, min(width, SMALL))
    save_photograph(folder / f"{i}_image.jpg", example.image, size)
    save_indexed(folder / f"{i}_truth.png", example.label, colours, size)
    save_indexed(here / f"{i}_prediction.png", example.prediction, colours, size)
    save_indexed(here / f"{i}_entropy.png", _levels(example.entropy), heat_palette(), small)


def _depth_predicted(examples: Sequence[Example]) -> bool:
    return any(example.depth is not None for example in examples)


def palette_of(label_set: LabelSet) -> np.ndarray:
    """The colours of the classes by id, black where there is none, uint8 [256,3]."""
    colours = np.zeros((256, 3), np.uint8)
    colours[: len(label_set.palette)] = label_set.palette
    return colours


def described(label_set: LabelSet) -> dict[str, list]:
    """Names and colours of the classes as JSON has them."""
    palette = [list(map(int, colour)) for colour in label_set.palette]
    return {"classes": list(label_set.classes), "palette": palette}


def saved_size(image: np.ndarray, width: int) -> tuple[int, int]:
    """(width, height) that a picture [H,W,3] is saved at: its own, or `width` if it is wider."""
    height = round(image.shape[0] / image.shape[1] * width)
    return (width, height) if image.shape[1] > width else image.shape[1::-1]


def save_photograph(
    path: Path, image: np.ndarray, size: tuple[int, int], quality: int = 88
) -> None:
    """Writes uint8 [H,W,3] as JPEG at a size (width, height)."""
    photograph = Image.fromarray(image).resize(size, Image.Resampling.BICUBIC)
    photograph.save(path, quality=quality)


def save_depth(path: Path, metres: np.ndarray, size: tuple[int, int]) -> None:
    """Writes depths [H,W] as palette PNG in the colours of `paint_depth`."""
    levels = paint_depth.depth_levels(metres)
    save_indexed(path, levels, paint_depth.depth_palette(), size)


def save_indexed(path: Path, ids: np.ndarray, palette: np.ndarray, size: tuple[int, int]) -> None:
    """Writes uint8 [H,W] as PNG with a palette uint8 [256,3] at a size (width, height)."""
    picture = Image.fromarray(ids.astype(np.uint8))
    picture = picture.resize(size, Image.Resampling.NEAREST)
    picture.putpalette(palette.reshape(-1).tolist())
    picture.save(path, optimize=True)


def _levels(values: np.ndarray) -> np.ndarray:
    """0..1 as 0..255."""
    return (np.clip(np.nan_to_num(values), 0, 1) * 255).round().astype(np.uint8)


def _fit(picture: np.ndarray, width: int) -> Image.Image:
    image = Image.fromarray(picture)
    size = (width, max(1, round(image.height * width / image.width)))
    # Photographs are smoothed when they shrink; enlarging keeps the pixels of a label map.
    smooth = image.width > width
    return image.resize(size, Image.Resampling.LANCZOS if smooth else Image.Resampling.NEAREST)
