"""Data sets as the page sees them: those made here, those prepared, and those that can be.

A data set made here is a JSON file `.web/datasets/NAME.json` in the folder of runs: the options of
`jaxseg.data.builders.folder`, the size, and the report that was shown before it was prepared.
"""

import ast
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jaxseg.data.builders
from jaxseg.errors import UserError
from jaxseg.web.places import Missing, Places, new_name, read_json, within, write_json

IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
CLASSES = (".txt", ".csv")
WEIGHTS = (".pth", ".pt", ".npz", ".safetensors", ".caffemodel")
LISTED = 400  # folders that are offered
VALUES = ("auto", "index", "colour")
DEFAULT_RECORDS = "~/.cache/jaxseg"


def own(where: Places) -> list[dict[str, Any]]:
    """The data sets made here, by name."""
    found = map(read_json, sorted((where.own / "datasets").glob("*.json")))
    return [{**d, "kind": "own"} for d in found if d]


def get(where: Places, name: str) -> dict[str, Any]:
    """A data set made here; Missing if there is none."""
    found = read_json(where.own / "datasets" / f"{new_name(name)}.json")
    if found is None:
        raise Missing(f"there is no data set {name!r}")
    return found


def save(where: Places, content: Mapping[str, Any]) -> None:
    """Keeps a data set."""
    write_json(where.own / "datasets" / f"{content['name']}.json", dict(content))


def checked(where: Places, form: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a form for a new data set, paths made absolute.

    Raises:
      UserError: a path that is missing or outside the data's folder, a value out of range.
    """
    images, labels = (_folder(where, form, key) for key in ("images", "labels"))
    if not images:
        raise UserError("choose the folder of the images")
    classes = str(form.get("classes") or "")
    if labels and not classes:
        raise UserError("labels need the class file, or the name of a built-in set of classes")
    if "/" in classes or "." in classes:
        classes = str(within(where.data, classes))
    values = form.get("label_values") or "auto"
    if values not in VALUES:
        raise UserError(f"label_values is one of {', '.join(VALUES)}")
    return {
        "name": new_name(str(form.get("name") or "")),
        "images": images, "labels": labels, "classes": classes if labels else "",
        "label_values": values,
        "image_suffix": str(form.get("image_suffix") or ""),
        "label_suffix": str(form.get("label_suffix") or ""),
        "val_percent": _number(form, "val_percent", 10.0, 0, 99),
        "split_seed": int(_number(form, "split_seed", 0, 0, 2**31)),
        "size": [int(_number(form, key, 128, 16, 8192)) for key in ("height", "width")],
    }  # fmt: skip


def _folder(where: Places, form: Mapping[str, Any], key: str) -> str:
    """A folder's absolute path; its part '{split}', if any, stays."""
    given = str(form.get(key) or "")
    if not given:
        return ""
    shown, split, rest = given.partition("{split}")
    path = within(where.data, shown or ".")
    if not path.is_dir():
        raise UserError(f"{given} is no folder")
    return f"{path}{'/' if split else ''}{split}{rest}"


def _number(form: Mapping[str, Any], key: str, default: float, low: float, high: float) -> float:
    try:
        value = float(form.get(key, default))
    except (TypeError, ValueError):
        value = low - 1
    if not low <= value <= high:
        raise UserError(f"{key} is a number from {low:g} to {high:g}")
    return value


def prepared(where: Places) -> list[dict[str, Any]]:
    """The prepared records: data set, config, images, bytes and splits of each."""
    top = Path(where.records or DEFAULT_RECORDS).expanduser()
    found = []
    for path in sorted(top.glob("*/*/*/dataset_info.json")):
        info = read_json(path) or {}
        splits = {
            s.get("name", ""): sum(map(int, s.get("shardLengths") or [0]))
            for s in info.get("splits") or []
        }
        size = sum(int(s.get("numBytes") or 0) for s in info.get("splits") or [])
        name, config = path.parts[-4:-2]
        found.append({"kind": "prepared", "data": name, "config": config, "splits": splits,
                      "bytes": size, "changed": path.stat().st_mtime})  # fmt: skip
    return found


def published(where: Places) -> list[dict[str, Any]]:
    """The data sets with a builder, whether their files are here, and what the builder says."""
    folder = Path(jaxseg.data.builders.__file__).parent
    found = []
    for path in sorted(folder.glob("[a-z]*.py")):
        title = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        place = where.data / path.stem
        found.append({
            "kind": "published", "name": path.stem,
            "title": title.split("\n\n")[0].replace("\n", " ").replace("`", ""),
            "here": True if path.stem == "streets" else place.is_dir(), "place": str(place),
        })  # fmt: skip
    return [d for d in found if d["name"] != "folder"]


def folders(where: Places) -> dict[str, Any]:
    """What can be chosen within the folder of data: folders that hold images, class files, weights;
    each as a path relative to it."""
    top = where.data
    images, classes, weights = [], [], []
    for here, inside, files in os.walk(top):  # links are not followed
        inside[:] = sorted(d for d in inside if not d.startswith("."))
        relative = os.path.relpath(here, top)
        if relative.count(os.sep) >= 5:
            inside.clear()
        number = sum(os.path.splitext(f)[1].lower() in IMAGES for f in files)
        if number and len(images) < LISTED:
            images.append({"path": relative, "images": number})
        for file in sorted(files):
            path = os.path.normpath(os.path.join(relative, file))
            if file.endswith(CLASSES) and len(classes) < LISTED:
                classes.append(path)
            if file.endswith(WEIGHTS) and len(weights) < LISTED:
                weights.append(path)
    return {"top": str(top), "images": images, "classes": classes, "weights": weights}
