"""What a method brings along for the report: titles of its metrics and of its views.

The report is made from a run's folder alone, without building the method. So a run writes these
words into `<workdir>/method.json`; a folder without that file (an older run) has a report with
common titles instead.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from jaxseg.engine.method import Method, Tile
from jaxseg.report.parts import read_json

FILE = "method.json"


class Brought(NamedTuple):
    """titles: chart of metrics -> title. tiles: metric -> Tile. warms_up: whether training begins
    with a phase of its own. See `Method`."""

    titles: Mapping[str, str] = {}
    tiles: Mapping[str, Tile] = {}
    warms_up: bool = True


def write(workdir: str | Path, method: Method) -> None:
    """Writes method.json, whole or not at all."""
    views = {n: {"title": v.title, "kind": v.kind, "side": v.side} for n, v in method.views.items()}
    tiles = {name: tile._asdict() for name, tile in method.tiles.items()}
    words = {"titles": dict(method.titles), "tiles": tiles, "views": views}
    words["warms_up"] = method.warmup is not None
    path = Path(workdir, FILE)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".new")
    temporary.write_text(json.dumps(words, indent=1))
    os.replace(temporary, path)


def read(workdir: str | Path) -> Brought:
    """The words of a run; empty if it left none."""
    words = read_json(Path(workdir, FILE)) or {}
    tiles = {name: Tile(**tile) for name, tile in (words.get("tiles") or {}).items()}
    return Brought(words.get("titles") or {}, tiles, words.get("warms_up", True))
