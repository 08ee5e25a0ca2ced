"""What a network's layers hold for an image: activations and weights, as NVIDIA DIGITS showed them.

Activations are taken while the network runs, from every module that returns a map; each becomes a
mean, a deviation, a histogram, and a grid of its first channels. All of it is computed within the
compiled program, so that a large network's maps need not be kept.
"""

import re
import zlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.traverse_util import flatten_dict

from jaxseg.web import network

BINS = 32
CHANNELS = 64  # of a grid
SIDE = 72  # most pixels along a side of one channel's picture
DRAWN = 2**17  # values that a histogram is made of: all, or every n-th
_programs: dict[int, Any] = {}


def layers(request: Mapping[str, Any], blob: bytes) -> tuple[dict, bytes]:
    """All layers of a network for one image.

    Args:
      request: source and step, see `network.model`.
      blob: the image's file.

    Returns:
      activations and weights, lists of name, shape, mean, deviation, low, high, histogram (shares
      of `BINS` equal bins from low to high), tiles [n, h, w] and offset (into the bytes); the
      tiles, uint8 in 255ths between three deviations below the mean and three above it (weights:
      around 0), compressed with zlib.
    """
    from jaxseg.run import images

    model = network.model(request["source"], request["step"])
    image = images.resized(network.read(blob)[None], model.size)
    found = {k: jax.tree.map(np.asarray, v) for k, v in activations(model, image).items()}
    parts: list[bytes] = []
    made = {
        "network": model.name,
        "seen": list(image.shape[1:3]),
        "activations": [_entry(name, value, parts) for name, value in found.items()],
        "weights": [
            _entry(name, weight_summary(value), parts)
            for name, value in _in_order(flatten_dict(model.variables[0]["gen"], sep="/"))
        ],
    }
    return made, zlib.compress(b"".join(parts), 1)


def _in_order(parameters: dict[str, Any]) -> list[tuple[str, Any]]:
    """By name, block2 before block10."""

    def natural(item: tuple[str, Any]) -> list[tuple[int, str]]:
        return [(int(p) if p.isdigit() else -1, p) for p in re.split(r"(\d+)", item[0])]

    return sorted(parameters.items(), key=natural)


def activations(model, image: np.ndarray) -> dict[str, dict[str, Any]]:
    """Summaries of the maps [1, h, w, C] that the modules return, in the order of computation.

    Args:
      model: see `jaxseg.load`.
      image: uint8 [1, H, W, 3], as the network sees it.
    """
    if id(model) not in _programs:
        _programs.clear()  # those of networks that are no longer kept
        _programs[id(model)] = model, jax.jit(lambda variables, x: _tapped(model, variables, x))
    found = _programs[id(model)][1](model.variables, image)
    for each in found.values():
        ends = float(each["low"]), float(each["high"])
        each["histogram"] = histogram(np.asarray(each.pop("drawn")), *ends)
    return dict(sorted(found.items(), key=lambda item: int(item[1]["place"])))


def _tapped(model, variables: tuple, image: jax.Array) -> dict[str, dict[str, jax.Array]]:
    found: dict[str, dict[str, Any]] = {}

    def tap(call, args, kwargs, context):
        out = call(*args, **kwargs)
        name = "/".join(context.module.path)
        if name and context.method_name == "__call__" and getattr(out, "ndim", 0) == 4:
            while name in found:
                name += "'"
            facts = {"place": jnp.int32(len(found)), "shape": jnp.array(out.shape[1:])}
            found[name] = {**summary(out[0]), **facts}
        return out

    with nn.intercept_methods(tap):
        model.predict(*variables, image)
    return found


def summary(values: jax.Array) -> dict[str, jax.Array]:
    """Mean, deviation, low, high, tiles and evenly drawn values of a map [h, w, C]."""
    values = values.astype(jnp.float32)
    mean, deviation = values.mean(), values.std()
    near = (values - mean) / jnp.maximum(6 * deviation, 1e-12) + 0.5
    step = [max(1, -(-n // SIDE)) for n in values.shape[:2]]
    tiles = jnp.clip(near[:: step[0], :: step[1], :CHANNELS], 0, 1).transpose(2, 0, 1)
    return {
        "mean": mean, "deviation": deviation, "low": values.min(), "high": values.max(),
        "tiles": jnp.round(tiles * 255).astype(jnp.uint8),
        "drawn": values.ravel()[:: -(-values.size // DRAWN)],
    }  # fmt: skip


def histogram(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Shares of the values in `BINS` equal bins from low to high."""
    counts, _ = np.histogram(values, BINS, (low, high if high > low else low + 1.0))
    return counts / max(1, values.size)


def weight_summary(values: Any) -> dict[str, Any]:
    """The same of a parameter: kernels [kh, kw, in, out] as tiles, the mean over their inputs; 1x1
    kernels and matrices as one tile [in, out]; the rest without tiles."""
    values = np.asarray(values, np.float32)
    low, high = float(values.min(initial=np.inf)), float(values.max(initial=-np.inf))
    tiles = np.zeros((0, 1, 1))
    if values.ndim == 4 and values.shape[0] * values.shape[1] > 1:
        tiles = values.mean(2).transpose(2, 0, 1)[:CHANNELS]
    elif values.ndim >= 2:
        flat = values.reshape(-1, values.shape[-1])
        step = [max(1, -(-n // 256)) for n in flat.shape]
        tiles = flat[None, :: step[0], :: step[1]]
    if tiles.size:
        tiles = tiles / np.abs(tiles).max(initial=1e-12) / 2 + 0.5  # the middle is 0
    return {
        "shape": list(values.shape), "mean": values.mean(), "deviation": values.std(), "low": low,
        "high": high, "histogram": histogram(values, low, high),
        "tiles": np.round(tiles * 255).astype(np.uint8),
    }  # fmt: skip


def _entry(name: str, found: Mapping[str, Any], parts: list[bytes]) -> dict[str, Any]:
    offset = sum(map(len, parts))
    parts.append(np.ascontiguousarray(found["tiles"]).tobytes())
    return {
        "name": name.removeprefix("segmenter/"), "shape": list(map(int, found["shape"])),
        "offset": offset, "tiles": list(found["tiles"].shape),
        **{k: float(found[k]) for k in ("mean", "deviation", "low", "high")},
        "histogram": [round(float(v), 6) for v in found["histogram"]],
    }  # fmt: skip
