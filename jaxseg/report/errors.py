"""Pictures made of saved ones: where a prediction is wrong, and it over its photograph."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from jaxseg.data.labels import IGNORE
from jaxseg.report import paint

RIGHT, WRONG, UNLABELLED = range(3)


def error_map(truth: Path, prediction: Path) -> tuple[bytes | None, float | None]:
    """Compares two palette PNGs of class ids, pixel by pixel.

    Args:
      truth, prediction: as `paint.save_pictures` writes them, of the same size.

    Returns:
      (PNG in the colours of `paint.ERRORS`, share of the labelled pixels that are wrong). Both are
      None without one of the files, or if the sizes differ; the share also if nothing is labelled.
    """
    try:
        ids = [np.asarray(Image.open(path)) for path in (truth, prediction)]
    except OSError:
        return None, None
    if ids[0].shape != ids[1].shape or ids[0].ndim != 2:
        return None, None
    labelled, wrong = ids[0] != IGNORE, ids[0] != ids[1]
    kinds = np.where(labelled, np.where(wrong, WRONG, RIGHT), UNLABELLED).astype(np.uint8)
    picture = Image.fromarray(kinds)
    picture.putpalette([channel for colour in paint.ERRORS for channel in colour])
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    return file.getvalue(), float(wrong[labelled].mean()) if labelled.any() else None


def overlaid(photograph: Path, prediction: Path, strength: float = 0.55) -> bytes | None:
    """Lays a prediction's colours over its photograph.

    Args:
      photograph, prediction: as `paint.save_pictures` writes them; the prediction has a palette.
      strength: 0 shows the photograph, 1 the colours.

    Returns:
      A JPEG of the prediction's size; None without one of the files.
    """
    try:
        colours = Image.open(prediction).convert("RGB")
        image = Image.open(photograph).convert("RGB").resize(colours.size)
    except OSError:
        return None
    file = io.BytesIO()
    Image.blend(image, colours, strength).save(file, "JPEG", quality=88)
    return file.getvalue()
