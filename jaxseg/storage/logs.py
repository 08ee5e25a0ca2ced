"""The logs of a run: `metrics.jsonl`, the source of truth, and TensorBoard events.

`metrics.jsonl` has one JSON object per line: {"kind": "train", "step": 20, "loss/gen": 1.2, ...},
{"kind": "eval", "step": 20, "split": "val", "miou": 0.4, ..., "iou": {...}} or {"kind": "warning",
"step": 20, "text": "..."}. JSON cannot express NaN and infinity: they are written as null, listed
under "nonfinite", and announced once per name.
"""

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxseg.errors import naming
from jaxseg.evaluation import selection
from jaxseg.storage import run_folder
from jaxseg.storage.events import Events

FILE = "metrics.jsonl"


class Log:
    """Writes a run's numbers and pictures; a context manager. See `open_logs`."""

    def __init__(
        self, workdir: Path, step: int, enabled: bool, announce: Callable[[str], None]
    ) -> None:
        self._announce, self._told, self._events, self._file = announce, set(), None, None
        if not enabled:
            return
        workdir.mkdir(parents=True, exist_ok=True)
        _drop_after(workdir / FILE, step)
        # Unbuffered: each line is one write at the end of the file.
        self._file = open(workdir / FILE, "ab", buffering=0)
        self._events = Events(workdir / "tensorboard", purge_step=step + 1)

    def train(self, step: int, values: Mapping[str, Any]) -> None:
        """Logs the scalars of a training step."""
        scalars = {name: float(value) for name, value in values.items()}
        self._write({"kind": "train", "step": int(step), **scalars})
        self._scalars(step, scalars)

    def evaluation(self, step: int, result: Mapping[str, Any]) -> None:
        """Logs a result of `evaluate` (with its split) at a step."""
        self._write({"kind": "eval", **result, "step": int(step)})
        prefix = f"eval_{result.get('split', 'val')}"
        scalars = {k: v for k, v in result.items() if isinstance(v, float)}
        for group in ("iou", "depth"):
            values = result.get(group) or {}
            scalars |= {f"{group}/{k}": v for k, v in values.items() if isinstance(v, float)}
        self._scalars(step, {f"{prefix}/{name}": v for name, v in scalars.items()})

    def warning(self, step: int, text: str) -> None:
        """Logs a warning, one line of text, and announces it."""
        self._write({"kind": "warning", "step": int(step), "text": text})
        self._announce(f"step {step}: warning: {text}")

    def picture(self, step: int, name: str, image: np.ndarray) -> None:
        """Adds a picture, uint8 [H,W,3], to the TensorBoard events."""
        if self._events:
            self._events.image(name, image, step)
            self._events.flush()

    def close(self) -> None:
        """Closes both files."""
        if self._file:
            self._file.close()
            self._events.close()

    def __enter__(self) -> "Log":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _write(self, line: dict[str, Any]) -> None:
        wrong: dict[str, str] = {}
        line = _finite(line, "", wrong)
        if wrong:
            line["nonfinite"] = wrong
        for name in sorted(set(wrong) - self._told):
            self._told.add(name)
            self._announce(f"step {line['step']}: {name} is {wrong[name]}")
        if self._file:
            with naming(self._file.name):
                self._file.write((json.dumps(line, allow_nan=False) + "\n").encode())

    def _scalars(self, step: int, values: Mapping[str, float]) -> None:
        if self._events:
            for name, value in values.items():
                # TensorBoard allows no blanks in names, and would warn at every step.
                self._events.scalar(name.replace(" ", "_"), value, step)
            self._events.flush()


def open_logs(
    workdir: str | Path,
    *,
    resume_step: int = 0,
    enabled: bool = True,
    announce: Callable[[str], None] = print,
) -> Log:
    """Opens the logs of a run.

    Args:
      workdir: gets `metrics.jsonl` and `tensorboard/`.
      resume_step: the step the run starts from; later lines come from an abandoned run and are
        removed.
      enabled: False writes nothing (in all processes but the first).
      announce: called with one line when a value is not finite, and with every warning.
    """
    return Log(Path(workdir), resume_step, enabled, announce)


def evaluations(path: str | Path) -> list[dict[str, Any]]:
    """The results of a run's evaluations in order; `path` as in `read`."""
    return [
        {k: v for k, v in line.items() if k != "kind"}
        for line in read(path)
        if line.get("kind") == "eval"
    ]


def best_and_last(workdir: str | Path) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """The evaluations with the highest mIoU (the later of equals) and of the last step; None if
    there are none."""
    results = evaluations(workdir)
    if not results:
        return None, None
    living = [r for r in results if selection.alive(r)] or results
    scored = [r for r in living if r["miou"] is not None] or living
    return max(scored, key=lambda r: (r["miou"] or 0.0, r["step"])), results[-1]


def read(path: str | Path) -> list[dict[str, Any]]:
    """Reads a `metrics.jsonl`, without an incomplete last line of a killed run.

    Args:
      path: the file, or the work folder that contains it.

    Returns:
      The lines in order; empty if there is no file.
    """
    path = Path(path)
    path = path / FILE if path.is_dir() else path
    if not path.exists():
        return []
    lines = []
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            continue
        if isinstance(line, dict):
            lines.append(line)
    return lines


def _drop_after(path: Path, step: int) -> None:
    """Rewrites the file atomically without lines past `step` and without incomplete lines."""
    if not path.exists():
        return
    kept = [line for line in read(path) if line.get("step", 0) <= step]
    run_folder.write_text(path, "".join(json.dumps(line) + "\n" for line in kept))


def _finite(value: Any, name: str, wrong: dict[str, str]) -> Any:
    """The value with None in place of non-finite numbers; their names are collected in `wrong`."""
    if isinstance(value, Mapping):
        return {k: _finite(v, f"{name}/{k}" if name else str(k), wrong) for k, v in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        wrong[name] = str(value)
        return None
    return value
