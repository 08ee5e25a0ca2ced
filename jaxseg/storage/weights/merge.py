"""Puts renamed tensors into a network, and reports which of them were used."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from flax.traverse_util import flatten_dict

from jaxseg.errors import UserError


class Report(NamedTuple):
    """The outcome for every tensor of the file and of the network.

    Attributes:
      matched: names taken from the file.
      left_over: names in the file that the network lacks.
      missing: names in the network that the file lacks; these keep their initial values.
      mismatched: (name, shape in the file, shape in the network); these keep their initial values
        too.
      unexcused: names among the last three that no pattern excuses.
    """

    matched: tuple[str, ...]
    left_over: tuple[str, ...]
    missing: tuple[str, ...]
    mismatched: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]
    unexcused: tuple[str, ...]

    def __str__(self) -> str:
        lines = []
        for title, _, names in self._groups():
            shown = _shorten(names) if title != "matched" else ""
            lines.append(f"{title:11s} {len(names):4d}  {shown}".rstrip())
        return "\n".join(lines)

    def text(self) -> str:
        """All tensors, one per line, grouped by outcome; ends with a line break."""
        blocks = []
        for title, meaning, names in self._groups():
            head = f"{title}: {len(names)} ({meaning})"
            blocks.append("\n".join([head, *(f"  {name}" for name in names)]))
        return "\n\n".join(blocks) + "\n"

    def _groups(self) -> tuple[tuple[str, str, list[str]], ...]:
        shapes = [f"{name} {file} -> {network}" for name, file, network in self.mismatched]
        return (
            ("matched", "taken from the file", list(self.matched)),
            ("left over", "in the file, the network lacks them", list(self.left_over)),
            ("missing", "not in the file, initial values stay", list(self.missing)),
            ("other shape", "file -> network, initial values stay", shapes),
        )


def merge(
    params: Mapping[str, Any],
    stats: Mapping[str, Any],
    tensors: Mapping[str, np.ndarray],
    *,
    excused: Iterable[str] = (),
) -> tuple[dict[str, Any], dict[str, Any], Report]:
    """Replaces a network's values by those of a file.

    Args:
      params, stats: nested dicts of arrays, as `Network.init` returns them.
      tensors: {'params/<path>' or 'stats/<path>': array}, from `rename.to_ours`.
      excused: regular expressions for the names of tensors that may be missing, left over or of
        another shape, matched anywhere in the network's name (in the file's name for those left
        over); such as `rename.BACKBONE_ONLY` for the file of a backbone.

    Returns:
      (params, stats, report): new trees of NumPy arrays in the network's dtypes.

    Raises:
      UserError: some tensor is unexcused, no tensor matches, or a tensor holds values that are not
        finite.
    """
    excused = tuple(excused)
    wanted = flatten_dict({"params": params, "stats": stats}, sep="/")
    same = {name for name in wanted if name in tensors}
    matched = {name for name in same if np.shape(wanted[name]) == np.shape(tensors[name])}
    mismatched = tuple(
        (name, tuple(np.shape(tensors[name])), tuple(np.shape(wanted[name])))
        for name in wanted
        if name in same - matched
    )
    left_over = tuple(name for name in tensors if name not in wanted)
    missing = tuple(name for name in wanted if name not in tensors)
    trouble = (*left_over, *missing, *(name for name, _, _ in mismatched))
    unexcused = tuple(n for n in trouble if not any(re.search(pattern, n) for pattern in excused))
    report = Report(
        tuple(name for name in wanted if name in matched), left_over, missing, mismatched, unexcused
    )
    if not matched and mismatched:
        name, theirs, ours = mismatched[0]
        raise UserError(
            f"no tensor of the weights file fits the network: {len(mismatched)} of the same name "
            f"have another shape, first {name} {theirs} -> {ours}; choose the network the file was "
            "made for"
        )
    if not matched:
        raise UserError(
            "no tensor of the weights file fits the network; the file has "
            + _shorten(tuple(tensors))
        )
    if unexcused:
        raise UserError(_complaint(report))
    for name in matched:
        if not np.isfinite(np.asarray(tensors[name], np.float32)).all():
            raise UserError(f"weights: {name} holds values that are not finite")
    values = {
        name: np.asarray(tensors[name] if name in matched else value).astype(value.dtype)
        for name, value in wanted.items()
    }
    return _rebuild(params, "params/", values), _rebuild(stats, "stats/", values), report


def _complaint(report: Report) -> str:
    shapes = {name: f"{name} {file} -> {network}" for name, file, network in report.mismatched}
    parts = []
    for title, names in (
        ("left over", report.left_over),
        ("missing", report.missing),
        ("of another shape", tuple(shapes)),
    ):
        names = tuple(shapes.get(name, name) for name in names if name in report.unexcused)
        if names:
            parts.append(f"{len(names)} {title}: {_shorten(names)}")
    return (
        f"weights do not fit the network ({len(report.matched)} tensors do): {'; '.join(parts)}; "
        "choose the network the file was made for, or excuse these names"
    )


def _shorten(names: tuple[str, ...] | list[str], limit: int = 3) -> str:
    rest = f", ... ({len(names) - limit} more)" if len(names) > limit else ""
    return ", ".join(names[:limit]) + rest


def _rebuild(tree: Mapping[str, Any], prefix: str, values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: _rebuild(value, f"{prefix}{name}/", values)
        if isinstance(value, Mapping)
        else values[prefix + name]
        for name, value in tree.items()
    }
