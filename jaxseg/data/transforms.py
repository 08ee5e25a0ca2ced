"""Decodes records to arrays of one size and augments them at random, one sample at a time."""

import math
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np

from jaxseg.data import codec, colour, style
from jaxseg.data.labels import IGNORE
from jaxseg.errors import UserError

_FILL = {"image": 0, "label": IGNORE, "depth": 0.0, "instances": 0, "valid": 0}
_DECODERS = {
    "image": codec.decode_image,
    "label": codec.decode_ids,
    "depth": codec.decode_depth,
    "instances": codec.decode_instances,
}
_STRENGTH = (Real, 1, lambda s: 0 <= s <= 1, "a strength, 0 to 1")
_PROBABILITY = (Real, 1, lambda p: 0 <= p <= 1, "a probability, 0 to 1")
_RANGE = (Real, 2, lambda a, b: 0 < a <= b < math.inf)
# For each setting: type of its numbers, how many, the allowed range, and the range in words.
_AUGMENT = {
    "flip": _PROBABILITY,
    "scale": (*_RANGE, "(lowest, highest) factor above 0"),
    "crop": (Integral, 2, lambda h, w: min(h, w) > 0, "(height, width) in pixels"),
    "crop_cap": (Real, 1, lambda s: 0 <= s <= 1, "a share of the labelled pixels, 0 to 1"),
    "crop_tries": (Integral, 1, lambda n: n >= 1, "a number of at least 1"),
    "jitter": _STRENGTH,
    "brightness": _STRENGTH,
    "contrast": _STRENGTH,
    "saturation": _STRENGTH,
    "hue": (Real, 1, lambda h: 0 <= h <= 0.5, "turns of the colour circle, 0 to 0.5"),
    "blur": _PROBABILITY,
    "blur_sigma": (*_RANGE, "(lowest, highest) deviation in pixels above 0"),
    "noise": (Real, 1, lambda s: 0 <= s < math.inf, "a deviation in grey levels, 0 or more"),
    "lab": _PROBABILITY,
    "histogram": _PROBABILITY,
    "fda": (Real, 1, lambda b: 0 <= b < 0.5, "a share of the shorter side, 0 to 0.5"),
}
LOOKS = ("lab", "histogram", "fda")  # these need an image of the other domain
_PARTS = ("brightness", "contrast", "saturation")  # `jitter` sets all three
_DETAILS = {"crop_tries": "crop_cap", "blur_sigma": "blur"}  # detail: setting it belongs to


def decode(
    record: Mapping[str, Any],
    *,
    where: str,
    size: tuple[int, int] | None,
    keys: Sequence[str] = ("image", "label"),
    table: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """Decodes a record and resizes its arrays to one size.

    Args:
      record: encoded bytes by key.
      where: name of the record in messages.
      size: (height, width); None keeps the stored size.
      keys: which of image, label, depth and instances are wanted.
      table: uint8 [256] applied to the label ids, such as from `labels.remap`.

    Returns:
      'image' uint8 [H, W, 3] (bicubic), 'label' uint8 [H, W] (nearest), 'depth' float32
      [H, W] metres (nearest), 'instances' int32 [H, W] object ids as stored (nearest).

    Raises:
      UserError: bytes that cannot be decoded, or a key that the record lacks.
    """
    sample = {}
    for key in keys:
        if key not in record:
            raise UserError(f"{where} has no {key}; choose a data set with one")
        with codec.naming(where, "delete that folder to prepare it anew"):
            array = _DECODERS[key](record[key])
            if size is not None:
                resize = codec.resize_image if key == "image" else codec.resize_nearest
                array = resize(array, size)
        sample[key] = table.take(array) if key == "label" and table is not None else array
    return sample


def inside(size: tuple[int, int], margins: Sequence[float]) -> np.ndarray:
    """Which pixels of a whole image are not in its margins, uint8 [H, W]: 1 or 0.

    Args:
      size: (height, width).
      margins: (top, bottom, left, right) in shares of the image's sides.
    """
    top, bottom, left, right = (
        round(share * side) for share, side in zip(margins, np.repeat(size, 2), strict=True)
    )
    found = np.zeros(size, np.uint8)
    found[top : size[0] - bottom, left : size[1] - right] = 1
    return found


def meaning(name: str) -> str:
    """Returns in words which values a setting of `augment_sample` takes; '' if unknown."""
    return _AUGMENT[name][3] if name in _AUGMENT else ""


def check_augment(augment: Mapping[str, Any]) -> dict[str, Any]:
    """Checks settings of `augment_sample` and returns those that are switched on.

    Raises:
      UserError: an unknown setting, a value out of range, or two contradictory settings.
    """
    for name in augment:
        if name not in _AUGMENT:
            raise UserError(
                f"no augmentation is called {name!r}; choose from {', '.join(_AUGMENT)}"
            )
    wanted = {name: value for name, value in augment.items() if value or name in _DETAILS}
    for name, value in wanted.items():
        kind, length, fits, meaning = _AUGMENT[name]
        values = value if length > 1 and isinstance(value, Sequence) else (value,)
        numbers = all(isinstance(v, kind) and not isinstance(v, bool) for v in values)
        if len(values) != length or not numbers or not fits(*values):
            raise UserError(f"augmentation {name}={value!r}: it must be {meaning}")
    for name in _PARTS:
        if name in wanted and "jitter" in wanted:
            raise UserError(
                f"augmentation jitter={wanted['jitter']!r} already sets {name}; set either to 0"
            )
    if "crop_cap" in wanted and not wanted.keys() & {"crop", "scale"}:
        raise UserError("augmentation crop_cap needs a crop or a scale; set one, or crop_cap to 0")
    return {name: v for name, v in wanted.items() if _DETAILS.get(name, name) in wanted}


def augment_sample(
    sample: dict[str, np.ndarray],
    rng: np.random.Generator,
    *,
    flip: float = 0.0,
    scale: tuple[float, float] | None = None,
    crop: tuple[int, int] | None = None,
    crop_cap: float = 0.0,
    crop_tries: int = 10,
    jitter: float = 0.0,
    brightness: float = 0.0,
    contrast: float = 0.0,
    saturation: float = 0.0,
    hue: float = 0.0,
    blur: float = 0.0,
    blur_sigma: tuple[float, float] = (0.15, 1.15),
    noise: float = 0.0,
    lab: float = 0.0,
    histogram: float = 0.0,
    fda: float = 0.0,
    reference: np.ndarray | None = None,
    shows: tuple[int, int] | None = None,
) -> dict[str, np.ndarray]:
    """Augments one sample; everything is off unless asked for.

    The order is lab, histogram, fda, scale, crop, flip, brightness, contrast, saturation, hue,
    blur, noise. An augmentation that is off draws no random numbers, so switching it on does not
    change those before it.

    Args:
      sample: as from `decode`.
      rng: random generator for this sample in this epoch.
      flip: probability of mirroring left and right.
      scale: (lowest, highest) factor, drawn uniformly; the result is cropped or padded to `crop`,
        or else to the original size.
      crop: (height, width) of a window at a random place.
      crop_cap: largest share that one class may have of the window's labelled pixels, 0 for no
        limit; a window that exceeds it, or has no labelled pixel, is drawn again (like
        `cat_max_ratio` in mmsegmentation, which uses 0.75).
      crop_tries: largest number of windows drawn; the last one is used in any case.
      jitter: strength s; brightness, contrast and saturation are multiplied by factors from U(1 -
        s, 1 + s).
      brightness, contrast, saturation: strength of each alone, instead of `jitter`.
      hue: h; the hue is rotated by U(-h, h) turns of the colour circle.
      blur: probability of blurring with a Gaussian.
      blur_sigma: (lowest, highest) standard deviation in pixels, drawn uniformly.
      noise: largest standard deviation, in grey levels, of independent Gaussian noise on every
        value; the deviation is drawn from U(0, noise).
      lab, histogram: probability of matching the reference's colours, see `style.match_lab` and
        `style.match_histograms`.
      fda: width of the frequency band taken from the reference, see `style.match_spectrum`.
      reference: uint8 [H, W, 3], an image of the other domain, for lab, histogram and fda.
      shows: (class, pixels); the window must show more pixels of the class than this, otherwise it
        is drawn again, up to `crop_tries` times.

    Returns:
      the sample with arrays [h, w, ...], (h, w) = crop or the original size. Where a shrunken image
      leaves the window empty, the image is black, the label 255 and the depth 0 (no value). Scaling
      does not change depth values.

    Raises:
      UserError: crop_cap without labels.
    """
    target = tuple(crop or sample["image"].shape[:2])
    if reference is not None:
        image = _looking_like(sample["image"], reference, rng, lab, histogram, fda)
        sample = {**sample, "image": image}
    if scale:
        sample = _scaled(sample, rng.uniform(*scale))
    if crop_cap and "label" not in sample:
        raise UserError("augmentation crop_cap needs labels, which are not read here; set it to 0")
    if scale or crop:
        sample = _windowed(sample, target, rng, crop_cap, crop_tries, shows)
    if flip and rng.random() < flip:
        sample = {key: np.ascontiguousarray(array[:, ::-1]) for key, array in sample.items()}
    parts = (brightness, contrast, saturation)
    image = _developed(sample["image"], rng, parts, jitter, hue, blur, blur_sigma, noise)
    return {**sample, "image": image}


def _scaled(sample, factor):
    size = tuple(max(1, round(n * factor)) for n in sample["image"].shape[:2])
    return {
        key: (codec.resize_image if key == "image" else codec.resize_nearest)(array, size)
        for key, array in sample.items()
    }


def _windowed(sample, target, rng, crop_cap, crop_tries, shows):
    """A window of the sample that shows what it must, or the last one that was tried.

    Each of the windows that are looked at for what they show is, as in DAFormer's code, the first
    of as many that is varied enough.
    """
    for _ in range(crop_tries if shows else 1):
        for _ in range(crop_tries if crop_cap else 1):
            take, put = _window(sample["image"].shape[:2], target, rng)
            if not crop_cap or _varied(sample["label"][take], crop_cap):
                break
        if not shows or np.count_nonzero(sample["label"][take] == shows[0]) > shows[1]:
            break
    return {key: _cut(array, target, take, put, key) for key, array in sample.items()}


def _developed(image, rng, parts, jitter, hue, blur, blur_sigma, noise):
    """The image with other colours, blur and noise, in this order."""
    factors = dict(zip(_PARTS, parts, strict=True))
    if jitter:
        factors = dict(zip(_PARTS, rng.uniform(1 - jitter, 1 + jitter, 3), strict=True))
    else:
        factors = {name: rng.uniform(1 - s, 1 + s) for name, s in factors.items() if s}
    if hue:
        factors["hue"] = rng.uniform(-hue, hue)
    if factors:
        image = colour.adjust(image, **factors)
    if blur and rng.random() < blur:
        image = colour.blur(image, rng.uniform(*blur_sigma))
    if noise:
        grain = rng.normal(0, rng.uniform(0, noise), image.shape)
        image = np.clip(np.round(image + grain), 0, 255).astype(np.uint8)
    return image


def _looking_like(image, reference, rng, lab, histogram, fda):
    if lab and rng.random() < lab:
        image = style.match_lab(image, reference)
    if histogram and rng.random() < histogram:
        image = style.match_histograms(image, reference)
    return style.match_spectrum(image, reference, fda) if fda else image


def _window(
    size: tuple[int, int], target: tuple[int, int], rng: np.random.Generator
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Returns the slices to read from an image, and those to write in the target window."""
    # Along each axis, the smaller of window and image lies at a random place in the larger.
    offsets = [int(rng.integers(abs(n - m) + 1)) for n, m in zip(size, target, strict=True)]
    take, put = [], []
    for n, m, offset in zip(size, target, offsets, strict=True):
        length = min(n, m)
        take.append(slice(offset, offset + length) if n > m else slice(0, length))
        put.append(slice(offset, offset + length) if n < m else slice(0, length))
    return tuple(take), tuple(put)


def _cut(array: np.ndarray, target: tuple[int, int], take, put, key: str) -> np.ndarray:
    out = np.full((*target, *array.shape[2:]), _FILL[key], array.dtype)
    out[put] = array[take]
    return out


def _varied(label: np.ndarray, cap: float) -> bool:
    """Whether there are labelled pixels and no class has more than the share `cap` of them."""
    counts = np.bincount(label.ravel(), minlength=256)
    counts[IGNORE] = 0
    return bool(0 < counts.max() <= cap * counts.sum())
