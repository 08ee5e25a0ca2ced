"""What the worker reads of data sets: their splits and single images, as the network gets them."""

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from jaxseg.data import codec, labels, records, transforms
from jaxseg.errors import UserError
from jaxseg.experiment import batches, of_run, settings

_opened: dict[tuple, Any] = {}
SIDE = 1024  # most pixels of an image's longer side


def splits(request: Mapping[str, Any], blob: bytes) -> tuple[dict, bytes]:
    """The splits of both domains of a run or of an experiment.

    Args:
      request: config, the folder of a run or the JSON file of an experiment, see `launcher`.

    Returns:
      classes, palette; parts, a list of side, split, data, images, labelled, said (what is wrong
      with one that cannot be opened).
    """
    config = _config(request)
    names = settings.label_set(config)
    parts = []
    for side in ("source", "target"):
        own = config.data[side]
        for split in filter(None, dict.fromkeys((own.split, own.get("val_split", "")))):
            part = {"side": side, "split": split, "data": own.name, "images": 0,
                    "labelled": False, "said": ""}  # fmt: skip
            try:
                source = _source(request, config, side, split)
                part |= {"images": len(source), "labelled": source.labelled}
            except UserError as error:
                part["said"] = str(error)
            parts.append(part)
    palette = [list(map(int, colour)) for colour in names.palette]
    return {"classes": list(names.classes), "palette": palette, "parts": parts}, b""


def image(request: Mapping[str, Any], blob: bytes) -> tuple[dict, bytes]:
    """One image of a split as JPEG, or its label as a grey PNG of class ids (255: ignored).

    Args:
      request: config as above; side, split, index, kind ('image' or 'label').
    """
    config = _config(request)
    source = _source(request, config, request["side"], request["split"])
    index = int(request["index"])
    if not 0 <= index < len(source):
        raise UserError(f"there is no image {index} among {len(source)}")
    record = source[index]
    height, width = codec.size_of(record["image"])
    scale = min(1.0, SIDE / max(height, width))
    size = None if scale == 1 else (round(height * scale), round(width * scale))
    kind = request["kind"]
    if kind == "label" and not source.labelled:
        raise UserError("these images have no labels")
    table = labels.remap(source.label_set, settings.label_set(config)) if source.labelled else None
    keys = ("image", "label") if kind == "label" else ("image",)
    sample = transforms.decode(
        record, where=source.where(record), size=size, keys=keys, table=table
    )
    file = io.BytesIO()
    picture = Image.fromarray(np.asarray(sample[kind]))
    picture.save(
        file, "PNG" if kind == "label" else "JPEG", **({} if kind == "label" else {"quality": 92})
    )
    return {"id": str(record["id"])}, file.getvalue()


def _config(request: Mapping[str, Any]) -> ConfigDict:
    path = request["config"]
    if path.endswith(".json"):
        from jaxseg.web import composed

        config = composed.get_config(path).copy_and_resolve_references().unlock()
    else:
        config = of_run.get_config(path).unlock()
    for key in ("root", "records"):
        if request.get(key) and not path_given(config, key):
            config.data[key] = request[key]
    return config


def path_given(config: ConfigDict, key: str) -> bool:
    """Whether a run's own config names the folder, which then counts."""
    return config.data[key] not in ("", "data")


def _source(
    request: Mapping[str, Any], config: ConfigDict, side: str, split: str
) -> records.Source:
    key = request["config"], side, split
    if key not in _opened:
        if len(_opened) > 12:
            _opened.clear()
        own = config.data[side]
        if split not in (own.split, own.get("val_split", "")):
            raise UserError(f"the {side} has no split {split!r}")
        scored = side == "target" and split != own.split
        _opened[key] = batches.open_records(config, own, split, as_published=scored)
    return _opened[key]
