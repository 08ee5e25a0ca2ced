"""From a record to arrays of one size, and the random augmentations; one sample at a time."""

import math
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np

from jaxseg.data import codec
from jaxseg.data.labels import IGNORE
from jaxseg.errors import UserError

_FILL = {"image": 0, "label": IGNORE, "depth": 0.0}
# Of which type a setting's numbers are, within what, and the same in words.
_AUGMENT = {
    "flip": (Real, lambda p: 0 <= p <= 1, "a probability, 0 to 1"),
    "scale": (Real, lambda a, b: 0 < a <= b < math.inf, "(lowest, highest) factor above 0"),
    "crop": (Integral, lambda h, w: min(h, w) > 0, "(height, width) in pixels"),
    "jitter": (Real, lambda s: 0 <= s <= 1, "a strength, 0 to 1"),
}


def decode(
    record: Mapping[str, Any],
    *,
    where: str,
    size: tuple[int, int] | None,
    keys: Sequence[str] = ("image", "label"),
    table: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """Decodes a record and brings it to one size.

    Args:
      record: encoded bytes by key.
      where: how messages name the record.
      size: (height, width); None keeps the stored size.
      keys: which of image, label and depth are wanted.
      table: uint8 [256] applied to the label ids, such as `labels.remap` returns.

    Returns:
      'image' uint8 [H, W, 3] (bicubic), 'label' uint8 [H, W] (nearest), 'depth' float32
      [H, W] metres (nearest).

    Raises:
      UserError: bytes that cannot be decoded, or a key that the record lacks.
    """
    sample = {}
    for key in keys:
        if key not in record:
            raise UserError(f"{where} has no {key}; choose a data set with one")
        with codec.naming(where, "delete that folder to prepare it anew"):
            if key == "image":
                array = codec.decode_image(record[key])
                sample[key] = array if size is None else codec.resize_image(array, size)
                continue
            array = (
                codec.decode_ids(record[key]) if key == "label" else codec.decode_depth(record[key])
            )
        array = array if size is None else codec.resize_nearest(array, size)
        sample[key] = table[array] if key == "label" and table is not None else array
    return sample


def check_augment(augment: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what is on of the settings of `augment_sample`; UserError for an unknown one and for
    a value that makes no sense.
    """
    for name in augment:
        if name not in _AUGMENT:
            raise UserError(
                f"no augmentation is called {name!r}; choose from {', '.join(_AUGMENT)}"
            )
    wanted = {name: value for name, value in augment.items() if value}
    for name, value in wanted.items():
        kind, fits, meaning = _AUGMENT[name]
        pair = name in ("scale", "crop")
        values = value if pair and isinstance(value, Sequence) else (value,)
        numbers = all(isinstance(v, kind) and not isinstance(v, bool) for v in values)
        if len(values) != 1 + pair or not numbers or not fits(*values):
            raise UserError(f"augmentation {name}={value!r}: it must be {meaning}")
    return wanted


def augment_sample(
    sample: dict[str, np.ndarray],
    rng: np.random.Generator,
    *,
    flip: float = 0.0,
    scale: tuple[float, float] | None = None,
    crop: tuple[int, int] | None = None,
    jitter: float = 0.0,
) -> dict[str, np.ndarray]:
    """Augments one sample; everything is off unless asked for.

    Args:
      sample: as from `decode`.
      rng: the randomness of this sample in this epoch.
      flip: probability of mirroring left and right.
      scale: (lowest, highest) factor, drawn uniformly; the result is cut or filled to `crop`, or to
        the size it had.
      crop: (height, width) of a window at a random place.
      jitter: strength s; brightness, contrast and saturation are multiplied by factors from U(1 -
        s, 1 + s).

    Returns:
      the sample, its arrays [h, w, ...] with (h, w) = crop or the size before. Where a shrunken
      image leaves the window empty, the image is black, the label 255 and the depth 0 (no value).
      Depth keeps its metres under scale.
    """
    target = tuple(crop or sample["image"].shape[:2])
    if scale:
        factor = rng.uniform(*scale)
        size = tuple(max(1, round(n * factor)) for n in sample["image"].shape[:2])
        sample = {
            key: (codec.resize_image if key == "image" else codec.resize_nearest)(array, size)
            for key, array in sample.items()
        }
    if scale or crop:
        sample = _window(sample, target, rng)
    if flip and rng.random() < flip:
        sample = {key: np.ascontiguousarray(array[:, ::-1]) for key, array in sample.items()}
    if jitter:
        sample = {
            **sample,
            "image": _jitter(sample["image"], rng.uniform(1 - jitter, 1 + jitter, 3)),
        }
    return sample


def _window(
    sample: dict[str, np.ndarray], target: tuple[int, int], rng: np.random.Generator
) -> dict[str, np.ndarray]:
    size = sample["image"].shape[:2]
    # Where the window is smaller it lies at a random place in the image; where it is larger, the
    # other way round.
    offsets = [int(rng.integers(abs(n - m) + 1)) for n, m in zip(size, target, strict=True)]
    take, put = [], []
    for n, m, offset in zip(size, target, offsets, strict=True):
        length = min(n, m)
        take.append(slice(offset, offset + length) if n > m else slice(0, length))
        put.append(slice(offset, offset + length) if n < m else slice(0, length))
    out = {}
    for key, array in sample.items():
        out[key] = np.full((*target, *array.shape[2:]), _FILL[key], array.dtype)
        out[key][tuple(put)] = array[tuple(take)]
    return out


def _jitter(image: np.ndarray, factors: np.ndarray) -> np.ndarray:
    brightness, contrast, saturation = factors.astype(np.float32)
    grey_weights = np.array((0.299, 0.587, 0.114), np.float32)
    out = image.astype(np.float32) * brightness
    mean = np.float32((out @ grey_weights).mean())
    out = mean + (out - mean) * contrast
    grey = (out @ grey_weights)[..., None]
    out = grey + (out - grey) * saturation
    return np.clip(np.round(out), 0, 255).astype(np.uint8)
