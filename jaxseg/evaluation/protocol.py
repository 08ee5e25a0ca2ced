"""Prediction protocols for a finished network: mirrored images, several scales, a sliding window,
and several networks at once.

Each takes a `predict` function and returns one with the same signature, so that evaluation and
prediction need not know of them. Logits are averaged, not probabilities, unless an ensemble is told
to. Multi-scale inference with
mirrored images follows the VIPriors 2020 MiniCity baselines, the ensemble ADVENT's of AdvEnt and
MinEnt (Vu et al., 2019).
"""

import math
from collections.abc import Callable, Sequence
from numbers import Integral, Real

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxseg.resize import resize_bilinear

Predict = Callable[..., jax.Array]


def protocol(
    predict: Predict,
    *,
    flip: bool = False,
    scales: Sequence[float] = (1.0,),
    window: Sequence[int] | None = None,
    stride: Sequence[int] | None = None,
) -> Predict:
    """Wraps a prediction function with test-time scales, mirror images and a sliding window.

    - `scales`: the image is resized to floor(scale * size), bilinear with aligned corners and
      without antialiasing, as the MiniCity baselines do; the logits of every scale are resized with
      aligned corners to the image's own size and averaged. Corners coincide at every scale, so no
      scale is shifted against another.
    - `flip`: averages the logits of the image and those of its mirror image, mirrored back.
    - `window`: the network sees one window of this size at a time; the last one in a row or column
      ends at the image's edge. Each window's logits are resized to the window (aligned corners),
      and every pixel gets the mean over the windows that contain it. An image smaller than the
      window is padded by repeating its last row and column, and the result is cropped.
      With scales, the image is resized and the window keeps its size.

    It compiles one program for each shape of batch, which computes scales, mirror images and
    windows in sequence: memory holds one window (or one scaled image) and the sum of the logits.

    Args:
      predict: (params, stats, memory, images uint8 or float 0..255 [N,H,W,3]) -> logits [N,h,w,K]
        at any stride.
      flip: also uses the mirror image.
      scales: factors of height and width.
      window: (height, width) in pixels; None or empty for the whole image at once.
      stride: (height, width) between windows, at most the window's size; None or empty for two
        thirds of it.

    Returns:
      A function with the same signature: logits float32 [N,H,W,K] with `scales` or `window`, else
      the size of `predict`'s; `predict` itself if all arguments are defaults.

    Raises:
      ValueError: see `check`.
    """
    check(flip=flip, scales=scales, window=window, stride=stride)
    if window:
        predict = _windowed(predict, tuple(window), tuple(stride or _two_thirds(window)))
    if flip:
        predict = _mirrored(predict)
    if tuple(scales) != (1.0,):
        predict = _scaled(predict, tuple(scales))
    return predict


def check(
    *,
    flip: bool = False,
    scales: Sequence[float] = (1.0,),
    window: Sequence[int] | None = None,
    stride: Sequence[int] | None = None,
) -> None:
    """Raises ValueError for an invalid setting; the message begins with its name and value."""
    if not isinstance(flip, bool):
        raise ValueError(f"flip={flip!r} is neither True nor False")
    if not scales or not all(_number(s, Real) and 0 < s < math.inf for s in scales):
        raise ValueError(f"scales={tuple(scales)}: wants one or more factors above 0")
    for name, size in (("window", window), ("stride", stride)):
        if size and not (len(size) == 2 and all(_number(s, Integral) and s > 0 for s in size)):
            raise ValueError(f"{name}={tuple(size)} is not (height, width) in pixels")
    if stride and not window:
        raise ValueError(f"stride={tuple(stride)} needs a window")
    if stride and any(step > side for step, side in zip(stride, window, strict=True)):
        raise ValueError(f"stride={tuple(stride)} leaves gaps between windows of {tuple(window)}")


AVERAGES = ("logits", "probabilities")


def ensemble(predicts: Sequence[Predict], weights: Sequence[float], of: str = "logits") -> Predict:
    """The weighted mean of several networks' predictions, as one prediction function.

    Args:
      predicts: prediction functions as in `protocol`, all with the same classes.
      weights: one non-negative number for each; they are normalised to a sum of one.
      of: what is averaged, 'logits' (ADVENT) or 'probabilities', the softmax of each network at
        the images' size (FDA's transfer of several bands).

    Returns:
      (params, stats, memory, images) -> logits float32 [N,h,w,K], where params, stats and memory
      are tuples with one entry for each network. Logits of different sizes are first resized to
      the images' size with aligned corners. (Resizing is linear, so for equal sizes it makes no
      difference whether logits are averaged before or after.) Of probabilities it is the logarithm
      of their mean, at the images' size: its softmax is the mean.

    Raises:
      ValueError: no network, a wrong number of weights, a negative weight, none above 0, or
        another thing to average.
    """
    if of not in AVERAGES:
        raise ValueError(f"{of!r} is not averaged; choose one of {', '.join(AVERAGES)}")
    predicts, weights = tuple(predicts), np.asarray(weights, np.float64)
    if not predicts or weights.shape != (len(predicts),):
        raise ValueError(f"{weights.size} weights for {len(predicts)} networks")
    if not (np.isfinite(weights).all() and (weights >= 0).all() and weights.sum() > 0):
        raise ValueError(f"weights {tuple(weights.tolist())}: none may be negative, not all 0")
    weights = (weights / weights.sum()).tolist()

    def averaged(params, stats, memory, images):
        models = zip(predicts, params, stats, memory, strict=True)
        maps = [one(p, s, m, images).astype(jnp.float32) for one, p, s, m in models]
        equal = of == "logits" and len({m.shape for m in maps}) == 1
        maps = [resize_bilinear(m, (maps[0] if equal else images).shape[1:3]) for m in maps]
        if of == "logits":
            return sum(w * m for w, m in zip(weights, maps, strict=True))
        shares = [w * jax.nn.softmax(m) for w, m in zip(weights, maps, strict=True)]
        return jnp.log(jnp.maximum(sum(shares), jnp.finfo(jnp.float32).tiny))

    return averaged


def _scaled(predict: Predict, scales: tuple[float, ...]) -> Predict:
    def scaled(params, stats, memory, images):
        size, total = images.shape[1:3], None
        for scale in scales:
            seen, wanted = images, tuple(max(1, math.floor(scale * n + 1e-6)) for n in size)
            if wanted != size:
                seen = resize_bilinear(images.astype(jnp.float32), wanted)
            if total is not None:  # one scale at a time: two need the memory of both
                seen, total = lax.optimization_barrier((seen, total))
            logits = predict(params, stats, memory, seen).astype(jnp.float32)
            logits = resize_bilinear(logits, size)
            total = logits if total is None else total + logits
        return total / len(scales)

    return scaled


def _mirrored(predict: Predict) -> Predict:
    def mirrored(params, stats, memory, images):
        def one(images):
            return predict(params, stats, memory, images).astype(jnp.float32)

        plain, mirror = lax.map(one, jnp.stack([images, images[:, :, ::-1]]))
        return (plain + mirror[:, :, ::-1]) / 2

    return mirrored


def _windowed(predict: Predict, window: tuple[int, int], stride: tuple[int, int]) -> Predict:
    @jax.jit  # traced once for all scales
    def look(params, stats, memory, images):
        logits = predict(params, stats, memory, images).astype(jnp.float32)
        return resize_bilinear(logits, window)

    def windowed(params, stats, memory, images):
        batch, height, width, channels = images.shape
        missing = [max(0, w - n) for w, n in zip(window, (height, width), strict=True)]
        images = jnp.pad(images, ((0, 0), *((0, n) for n in missing), (0, 0)), mode="edge")
        axes = zip(window, stride, images.shape[1:3], strict=True)
        starts = [_starts(*axis) for axis in axes]

        def add(total, corner):
            where = (0, corner[0], corner[1], 0)
            part = lax.dynamic_slice(images, where, (batch, *window, channels))
            logits = look(params, stats, memory, part)
            logits += lax.dynamic_slice(total, where, logits.shape)
            return lax.dynamic_update_slice(total, logits, where), None

        part = jax.ShapeDtypeStruct((batch, *window, channels), images.dtype)
        classes = jax.eval_shape(look, params, stats, memory, part).shape[-1]
        total = jnp.zeros((*images.shape[:3], classes), jnp.float32)
        corners = np.array([(top, left) for top in starts[0] for left in starts[1]], np.int32)
        total, _ = lax.scan(add, total, corners)
        rows, columns = (
            _covered(*args) for args in zip(starts, window, images.shape[1:3], strict=True)
        )
        counts = np.outer(rows, columns).astype(np.float32)[:height, :width, None]
        return total[:, :height, :width] / counts

    return windowed


def _starts(window: int, stride: int, length: int) -> list[int]:
    """Where windows begin along an axis no shorter than they are; the last one ends at its end."""
    return [*range(0, length - window, stride), length - window]


def _covered(starts: list[int], window: int, length: int) -> np.ndarray:
    """The number of windows that contain each position."""
    position = np.arange(length)
    return sum(((position >= s) & (position < s + window)).astype(np.int64) for s in starts)


def _two_thirds(window: Sequence[int]) -> tuple[int, ...]:
    return tuple(max(1, round(2 * side / 3)) for side in window)


def _number(value: object, kind: type) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)
