"""What the worker computes with networks: predictions, and checks of settings."""

import collections
import difflib
import functools
import io
import os
import re
import sys
import time
import warnings
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict
from PIL import Image

import jaxseg
from jaxseg.data import photograph, quick_png
from jaxseg.data.labels import LabelSet, colorize
from jaxseg.errors import UserError
from jaxseg.report import paint
from jaxseg.web.places import read_json

PIXELS = 40_000_000  # most of an image: a small file can hold very many
KEPT = 3  # networks that stay loaded
PREDICTIONS = 24  # whose pictures can be asked for later
MOST_KEPT = 100_000_000  # pixels of all of them together, of 5 bytes each

_models: collections.OrderedDict[tuple, Any] = collections.OrderedDict()
_made: collections.OrderedDict[str, "Prediction"] = collections.OrderedDict()


class Prediction(NamedTuple):
    """What was predicted for an image: all arrays at its own size."""

    image: np.ndarray  # uint8 [H, W, 3]
    ids: np.ndarray  # uint8 [H, W]
    levels: np.ndarray  # the entropy, uint8 [H, W], in 255ths
    label_set: LabelSet


def model(source: str, step: str):
    """A network, loaded once; see `jaxseg.load`.

    Args:
      source: folder of a run, or a weights file.
      step: of a run.
    """
    state = os.stat(Path(source, "checkpoints") if os.path.isdir(source) else source)
    key = (source, step, state.st_mtime_ns)
    if key not in _models:
        told: list[str] = []
        net = (read_json(Path(source, "config.json")) or {}).get("net") or {}
        # Rematerialised blocks save memory in training only, and hide their layers.
        changed = {"net.remat": False} if net.get("remat") else {}
        found = jaxseg.load(source, step, settings=changed, announce=told.append)
        _models[key] = found
        while len(_models) > KEPT:
            _models.popitem(last=False)
    _models.move_to_end(key)
    return _models[key]


def predict(request: Mapping[str, Any], blob: bytes) -> tuple[dict, bytes]:
    """Segments an image.

    Args:
      request: source and step, see `model`; kind: 'json', 'maps', or a picture of which nothing is
        kept, see `picture`, with its strength.
      blob: the image's file.

    Returns:
      For a picture {} and its PNG. Else id, for `picture`; network, height, width, classes,
      palette, shares (of the pixels, by class), entropy (the mean), seconds (of the network); for
      'maps' the class ids, then the entropies in 255ths, each uint8 [height * width], compressed
      with zlib.
    """
    image, kind = read(blob), request.get("kind", "maps")
    network = model(request["source"], request["step"])
    began = time.perf_counter()
    seen = network(image)
    if kind in ("ids", "color", "overlay"):  # which need no entropy
        ids = seen.labels.astype(np.uint8)
        return {}, drawn(Prediction(image, ids, ids, network.label_set), request)
    ids, levels, entropy = seen.small
    made = Prediction(image, ids, levels, network.label_set)
    if kind == "entropy":
        return {}, drawn(made, request)
    seconds = time.perf_counter() - began
    counts = np.bincount(ids.ravel(), minlength=len(network.classes))
    return {
        "id": keep(made),
        "network": network.name,
        "height": ids.shape[0],
        "width": ids.shape[1],
        "classes": list(network.classes),
        "palette": [list(map(int, colour)) for colour in network.label_set.palette],
        "shares": (counts / ids.size).tolist(),
        "entropy": float(entropy),
        "seconds": seconds,
    }, zlib.compress(ids.tobytes() + levels.tobytes(), 1) if kind == "maps" else b""


def keep(made: Prediction) -> str:
    """Keeps a prediction for `picture`, forgets the oldest ones, and returns its id."""
    name = os.urandom(9).hex()
    _made[name] = made
    while len(_made) > 1 and (
        len(_made) > PREDICTIONS or sum(p.ids.size for p in _made.values()) > MOST_KEPT
    ):
        _made.popitem(last=False)
    return name


def picture(request: Mapping[str, Any], blob: bytes) -> tuple[dict, bytes]:
    """A kept prediction as a PNG: request has its id, and what `drawn` needs."""
    found = _made.get(request["id"])
    if found is None:
        raise UserError("this prediction is no longer kept: predict again")
    return {}, drawn(found, request)


def drawn(made: Prediction, request: Mapping[str, Any]) -> bytes:
    """A prediction as a PNG: request has its kind (ids, color, overlay or entropy) and, for
    overlay, strength (0..1)."""
    kinds = {
        "ids": lambda: made.ids,
        "color": lambda: colorize(made.ids, made.label_set),
        "entropy": lambda: paint.heat_palette()[made.levels],
        "overlay": lambda: paint.overlay(
            made.image, made.ids, made.label_set, float(request.get("strength", 0.55))
        ),
    }
    if request["kind"] not in kinds:
        raise UserError(f"there is no picture {request['kind']!r}: choose {', '.join(kinds)}")
    return quick_png.encode(kinds[request["kind"]]())


def read(blob: bytes) -> np.ndarray:
    """An image file as uint8 [H,W,3], turned upright.

    Raises:
      UserError: it is none, or has too many pixels; that is known before they are decoded.
    """
    try:
        with Image.open(io.BytesIO(blob)) as image:
            width, height = image.size
        if width * height > PIXELS:
            raise UserError(
                f"the image has {width}x{height} pixels; at most {PIXELS // 10**6} million"
            )
        return photograph.read(blob)
    except UserError:
        raise
    except Image.DecompressionBombError as error:
        raise UserError(f"the image has too many pixels: {error}") from error
    except Exception as error:  # Pillow raises many kinds for damaged files
        raise UserError("this is not an image that can be read") from error


def check(request: Mapping[str, Any], blob: bytes) -> tuple[dict, bytes]:
    """Checks the settings of a training as the command line does.

    Args:
      request: config, as --config takes it; overrides, a list of '--config.KEY=VALUE'.

    Raises:
      UserError: a mistake in them.
    """
    from absl import flags
    from ml_collections import config_flags

    from jaxseg.experiment import check as experiment_check
    from jaxseg.experiment import networks, presets

    values, argv = flags.FlagValues(), ["jaxseg", f"--config={request['config']}"]
    argv += request["overrides"]
    config_flags.DEFINE_config_file("config", None, "", flag_values=values, lock_config=True)
    before = sys.argv
    with presets.importable(), warnings.catch_warnings():
        # The config's own mistakes come before those of the overrides.
        refuse_unknown(presets.load(request["config"]), request["overrides"])
        warnings.simplefilter("ignore", DeprecationWarning)  # of how ml_collections loads a file
        try:
            sys.argv = argv  # where ml_collections looks for overrides
            values(argv)
            config = values["config"].value
            given = config_flags.get_override_values(values["config"])
        except Exception as error:  # ml_collections raises many kinds for overrides
            raise UserError(_refusal(presets.load(request["config"]), str(error))) from error
        finally:
            sys.argv = before
    networks.settle(config, given)
    experiment_check.check(config)
    return {}, b""


def _refusal(config: ConfigDict, text: str) -> str:
    """What ml_collections says of an override, in words of settings instead of Python's."""
    found = re.match(r"flag --config\.([\w.]+)=(.*?): ", text, re.DOTALL)
    if not found:
        return " ".join(text.replace("\\n", " ").split())
    key, given = found.groups()
    value = functools.reduce(lambda inside, part: inside[part], key.split("."), config)
    if isinstance(value, ConfigDict):
        return f"{key} is a group of settings: name one of them, as {key}.{next(iter(value), '')}"
    wanted = {bool: "true or false", int: "a whole number", float: "a number"}
    what = wanted.get(type(value)) or f"a value like {value!r}"
    return f"{key}={given}: wanted {what}"


def refuse_unknown(config: ConfigDict, overrides: Sequence[str]) -> None:
    """Raises UserError for the first '--config.KEY=VALUE' whose key the config does not have."""
    for override in overrides:
        inside, group = config, ""
        key = override.removeprefix("--config.").partition("=")[0]
        for part in key.split("."):
            if not isinstance(inside, ConfigDict) or part not in inside:
                known = list(inside) if isinstance(inside, ConfigDict) else []
                near = [f"{group}{n}" for n in difflib.get_close_matches(part, known, 1)]
                raise UserError(
                    f"no setting {key}" + (f"; did you mean {near[0]}?" if near else "")
                )
            group += f"{part}."
            inside = inside[part]
