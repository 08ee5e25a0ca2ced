"""The logs of a run: `metrics.jsonl`, the source of truth, and sinks that show it.

`metrics.jsonl` has one JSON object per line: {"kind": "train", "step": 20, "loss/gen": 1.2, ...},
{"kind": "eval", "step": 20, "split": "val", "miou": 0.4, ..., "iou": {...}} or {"kind": "warning",
"step": 20, "text": "..."}. JSON cannot express NaN and infinity: they are written as null, listed
under "nonfinite", and announced once per name.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict

from jaxseg.errors import naming
from jaxseg.evaluation import selection
from jaxseg.storage import run_folder, sinks
from jaxseg.storage.sinks import check as check_sinks

FILE = "metrics.jsonl"


class Log:
    """Writes a run's numbers and pictures; a context manager. See `open_logs`."""

    def __init__(
        self,
        workdir: Path,
        step: int,
        enabled: bool,
        announce: Callable[[str], None],
        shown_in: Sequence[str],
        also: Sequence[str],
        settings: Mapping[str, Any],
    ) -> None:
        self._announce, self._told, self._file = announce, set(), None
        self._sinks: list[sinks.Sink] = []
        self._also, self._settings = also, settings
        self._last: tuple[dict[str, float], int] = {}, step  # scores for the hyperparameters
        if not enabled:
            return
        workdir.mkdir(parents=True, exist_ok=True)
        _drop_after(workdir / FILE, step)
        # Unbuffered: each line is one write at the end of the file.
        self._file = open(workdir / FILE, "ab", buffering=0)
        self._sinks = sinks.open_sinks(shown_in, workdir, step, settings)
        if settings and not step:
            self._text(0, "config", json.dumps(settings, indent=1, default=str))

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
        scores = {f"{prefix}/{name}": value for name, value in scalars.items()}
        self._scalars(step, scores)
        self._last = {**self._last[0], **scores}, int(step)

    def warning(self, step: int, text: str) -> None:
        """Logs a warning, one line of text, and announces it."""
        self._write({"kind": "warning", "step": int(step), "text": text})
        self._announce(f"step {step}: warning: {text}")
        self._text(step, "warnings", text)

    def picture(self, step: int, name: str, image: np.ndarray) -> None:
        """Shows a picture, uint8 [H,W,3], in the sinks."""
        for sink in self._sinks:
            sink.picture(name, image, int(step))

    def histograms(self, step: int, params: Any) -> None:
        """Shows the distribution of each parameter of a tree, if that was asked for."""
        if self._sinks and "histograms" in self._also:
            for name, values in flatten_dict(params, sep="/").items():
                finite = np.asarray(values)[np.isfinite(values)]
                for sink in self._sinks if finite.size else ():
                    sink.histogram(name, finite, int(step))

    def close(self) -> None:
        """Closes the file and the sinks."""
        scores, step = self._last
        for sink in self._sinks:
            if scores and self._settings and "hparams" in self._also:
                sink.hparams(sinks.hparams(self._settings), scores, step)
            sink.close()
        self._sinks = []
        if self._file:
            self._file.close()

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
        for sink in self._sinks:
            sink.scalars(values, int(step))

    def _text(self, step: int, name: str, text: str) -> None:
        if "text" in self._also:
            for sink in self._sinks:
                sink.text(name, text, int(step))


def open_logs(
    workdir: str | Path,
    *,
    resume_step: int = 0,
    enabled: bool = True,
    announce: Callable[[str], None] = print,
    sinks: Sequence[str] = ("tensorboard",),
    also: Sequence[str] = (),
    settings: Mapping[str, Any] | None = None,
) -> Log:
    """Opens the logs of a run.

    Args:
      workdir: gets `metrics.jsonl`, and folders of the sinks.
      resume_step: the step the run starts from; later lines come from an abandoned run and are
        removed.
      enabled: False writes nothing (in all processes but the first).
      announce: called with one line when a value is not finite, and with every warning.
      sinks: where else the numbers go, names of `sinks.SINKS`.
      also: what else the sinks are given, of `sinks.ALSO`.
      settings: the run's config, nested, for `also`.

    Raises:
      UserError: an unknown name, or a sink whose package is not installed.
    """
    check_sinks(sinks, also)
    return Log(Path(workdir), resume_step, enabled, announce, sinks, also, settings or {})


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
