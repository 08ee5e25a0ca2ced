"""Run folders as the pages see them: the list, one run's facts, and its growing log.

The server imports neither JAX nor TensorBoard, so it starts at once and stays small; the few files
that it reads (config.json, metrics.jsonl, selection.json) are read here as JSON.
"""

import json
import math
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxseg.web.places import Missing, read_json

METRICS = "metrics.jsonl"
DEPTH = 3  # of folders below the root that are searched; a sweep has its members one below itself
SKIPPED = {"checkpoints", "pictures", "tensorboard", "agreement", "survey"}
CHUNK = 4 << 20  # most bytes of a log in one answer
LIVE = 120  # seconds since the last line within which a run may be running elsewhere

_kept: dict[str, tuple[tuple, dict]] = {}  # folder -> (state of its files, summary)
_reading = threading.Lock()  # thousands of runs are read once, whoever asks meanwhile


def find(root: Path) -> list[str]:
    """The names of the run folders below a root, relative to it. Links are not followed."""
    found: list[str] = []
    _search(str(root), "", DEPTH, found)
    return found


def _search(folder: str, name: str, depth: int, found: list[str]) -> None:
    try:
        with os.scandir(folder) as listed:
            entries = [e for e in listed if e.name[0] != "." and e.name not in SKIPPED]
    except OSError:
        return
    if name and any(e.name in (METRICS, "config.json") for e in entries):
        found.append(name)
        return
    for entry in entries:
        if depth and entry.is_dir(follow_symlinks=False):
            inside = f"{name}/{entry.name}" if name else entry.name
            if entry.path in _kept:  # a run already: not listed again
                found.append(inside)
            else:
                _search(entry.path, inside, depth - 1, found)


def folder_of(root: Path, name: str) -> Path:
    """The folder of a run.

    Raises:
      Missing: no run of that name below the root.
    """
    parts = name.split("/")
    if not all(parts) or any(p.startswith(".") or "\0" in p for p in parts):
        raise Missing(f"there is no run {name!r}")
    top = root.resolve()
    path = top.joinpath(*parts)
    if path.resolve() != path or not path.is_dir():  # a link, or nothing
        raise Missing(f"there is no run {name!r} in {root}")
    if not any((path / file).is_file() for file in (METRICS, "config.json")):
        raise Missing(f"{name!r} in {root} is not the folder of a run")
    return path


def listed(root: Path, *, query: str = "", sort: str = "-changed") -> list[dict[str, Any]]:
    """Summaries of all runs.

    Args:
      root: the folder of runs.
      query: words that must stand in a run's name, method or data.
      sort: a key of the summaries; '-' in front for descending order. Runs without it come last.
    """
    top = str(root)
    with _reading:
        rows = [found for name in find(root) if (found := summary(f"{top}/{name}", name))["there"]]
    words = query.lower().split()
    if words:
        rows = [
            r
            for r in rows
            if all(w in f"{r['name']} {r['method']} {r['data']}".lower() for w in words)
        ]
    key, reverse = sort.removeprefix("-"), sort.startswith("-")
    rows.sort(key=lambda r: r["name"])
    present = [r for r in rows if r.get(key) is not None]
    present.sort(key=lambda r: r[key], reverse=reverse)
    return present + [r for r in rows if r.get(key) is None]


def summary(folder: str | Path, name: str) -> dict[str, Any]:
    """A run's line in the list; computed again only when its files have changed."""
    path = str(folder)
    states = tuple(_state(f"{path}/{file}") for file in (METRICS, "config.json", "results.json"))
    kept = _kept.get(path)
    if kept and kept[0] == states:
        made = kept[1]
    else:
        made = _summarise(Path(folder), name)
        if made["there"]:
            _kept[path] = states, made
        else:
            _kept.pop(path, None)
    return {**made, "live": time.time() - made["changed"] < LIVE and not made["finished"]}


def _state(path: str) -> tuple | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def _summarise(folder: Path, name: str) -> dict[str, Any]:
    config = read_json(folder / "config.json") or {}
    train = config.get("train") or {}
    evaluations, last = _evaluations(folder / METRICS)
    scored = [e for e in evaluations if e.get("miou") is not None]
    best = max(scored, key=lambda e: (e["miou"], e["step"]), default=None)
    steps = int(train.get("steps") or 0)
    times = [p.stat().st_mtime for p in (folder / METRICS, folder / "config.json") if p.exists()]
    return {
        "name": name,
        "method": (config.get("method") or {}).get("name") or "",
        "data": data_pair(config),
        "network": _network(config.get("net") or {}),
        "seed": config.get("seed"),
        "step": last,
        "steps": steps,
        "warmup": _warmup(folder, int(train.get("warmup_steps") or 0)),
        "miou": scored[-1]["miou"] if scored else None,
        "best": best and best["miou"],
        "best_step": best and best["step"],
        "entropy": evaluations[-1].get("entropy") if evaluations else None,
        "source_miou": evaluations[-1].get("source_miou") if evaluations else None,
        "finished": bool(steps and last >= steps and (folder / "results.json").exists()),
        "changed": max(times, default=0.0),
        "there": bool(times),
    }


def _warmup(folder: Path, steps: int) -> int:
    """`steps`, or 0 for a method that has no warm-up whatever its config says."""
    return steps and steps * (read_json(folder / "method.json") or {}).get("warms_up", True)


def _evaluations(path: Path) -> tuple[list[dict], int]:
    """The lines of evaluations, and the last step of any line. Other lines are not parsed."""
    found, latest = [], b""
    try:
        with open(path, "rb") as file:
            for text in file:
                if text.startswith(b'{"kind": "eval"'):
                    line = _parsed(text)
                    if line:
                        found.append(line)
                if text.endswith(b"\n") and text.startswith(b"{"):
                    latest = text
    except OSError:
        return [], 0
    last = int((_parsed(latest) or {}).get("step") or 0)
    return found, max([last, *(e["step"] for e in found)])


def _parsed(text: bytes) -> dict | None:
    try:
        line = json.loads(text)
    except ValueError:
        return None
    return line if isinstance(line, dict) else None


def data_pair(config: Mapping[str, Any]) -> str:
    """'streets (rendered) → camvid', or the one data set of supervised training."""
    data = config.get("data") or {}
    names = list(dict.fromkeys(data_name(data.get(side) or {}) for side in ("source", "target")))
    return " → ".join(filter(None, names))


def data_name(side: Mapping[str, Any]) -> str:
    """'streets (rendered)'."""
    options = side.get("options") or {}
    more = options.get("domain") or options.get("city") or ""
    return f"{side.get('name', '')} ({more})" if more else str(side.get("name", ""))


def _network(net: Mapping[str, Any]) -> str:
    return ", ".join(str(net[k]) for k in ("architecture", "backbone") if net.get(k))


def lines(folder: Path, at: str = "", most: int = 0) -> dict[str, Any]:
    """The lines of a run's log from a place on, whole lines only.

    Args:
      folder: of the run.
      at: the `at` of an earlier answer; '' for the start.
      most: training lines that are wanted; of more, every n-th and the last are given. 0 for all.

    Returns:
      lines; at, the place to go on from; more, whether there is more already; reset, whether the
      file was written anew (a run that resumes drops later lines), so that these are from its
      start.
    """
    path = folder / METRICS
    inode, _, offset = at.partition(":")
    start = int(offset) if offset.isdigit() else 0
    try:
        with open(path, "rb") as file:
            state = os.fstat(file.fileno())
            reset = bool(at) and (str(state.st_ino) != inode or state.st_size < start)
            start = 0 if reset else start
            file.seek(start)
            data = file.read(CHUNK)
    except FileNotFoundError:
        return {"lines": [], "at": "", "more": False, "reset": bool(at)}
    data = data[: data.rfind(b"\n") + 1]
    end = start + len(data)
    texts = _thinned(data.splitlines(), most) if most else data.splitlines()
    found = [line for text in texts if (line := _parsed(text))]
    more = len(data) > 0 and end < state.st_size
    return {"lines": found, "at": f"{state.st_ino}:{end}", "more": more, "reset": reset}


def _thinned(texts: list[bytes], most: int) -> list[bytes]:
    """All lines but those of training, and of these every n-th and the last."""
    train = [i for i, text in enumerate(texts) if text.startswith(b'{"kind": "train"')]
    left_out = set(train[:-1]) - set(train[:: max(1, math.ceil(len(train) / most))])
    return [text for i, text in enumerate(texts) if i not in left_out]


def facts(folder: Path, name: str) -> dict[str, Any]:
    """What the page of one run shows beside its log."""
    index = read_json(folder / "pictures" / "index.json") or {}
    return {
        **summary(folder, name),
        "config": read_json(folder / "config.json"),
        "brought": read_json(folder / "method.json") or {},
        "selection": read_json(folder / "selection.json"),
        "blind": read_json(folder / "blind.json"),
        "results": read_json(folder / "results.json"),
        "checkpoints": checkpoints(folder),
        "pictures": {"classes": index.get("classes"), "palette": index.get("palette"),
                     "files": pictures(folder)},
        "files": [f for f in FILES if (folder / f).is_file()],
    }  # fmt: skip


FILES = ("report.html", "config.json", "metrics.jsonl", "results.json", "results.txt",
         "selection.json", "initial_weights.txt")  # fmt: skip


def checkpoints(folder: Path) -> list[int]:
    """The steps of which a checkpoint is kept, in order."""
    try:
        names = os.listdir(folder / "checkpoints")
    except OSError:
        return []
    return sorted(int(n) for n in names if n.isdigit())


def pictures(folder: Path) -> dict[str, list[str]]:
    """Names of picture files: of all steps under '', of each step under its number."""
    top = folder / "pictures"
    found: dict[str, list[str]] = {}
    for path in _pictures(top):
        found.setdefault("", []).append(path.name)
    try:
        steps = sorted(p for p in top.iterdir() if p.name.isdigit() and p.is_dir())
    except OSError:
        return {}
    for step in steps:
        found[str(int(step.name))] = [path.name for path in _pictures(step)]
    return found


def _pictures(folder: Path) -> Iterator[Path]:
    try:
        paths = sorted(folder.iterdir())
    except OSError:
        return
    yield from (p for p in paths if p.suffix in (".png", ".jpg") and "panel" not in p.stem)


def spread(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and sample deviation; the deviation of a single value is unknown."""
    mean = math.fsum(values) / len(values)
    if len(values) < 2:
        return mean, None
    return mean, math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1))


def evaluations(folder: Path) -> list[dict]:
    """The results of a run's evaluations, in order."""
    return _evaluations(folder / METRICS)[0]
