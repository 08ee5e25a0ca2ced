"""Names of weights files turned into this project's by tables of expressions."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from jaxseg.errors import UserError

Tensors = Mapping[str, np.ndarray]


def _kernel(array):
    """[K, C] -> [C, K], [K, C, kh, kw] -> [kh, kw, C, K]."""
    return array.T if array.ndim == 2 else array.transpose(2, 3, 1, 0)


def _transposed(array):
    """[C, K, kh, kw] of a transposed convolution -> [kh, kw, C, K]."""
    return array.transpose(2, 3, 0, 1)


def _same(array):
    return array


# {leaf of a layer in the file: (kind of tree here, leaf here, transposition)}
Kind = dict[str, tuple[str, str, Callable[[np.ndarray], np.ndarray]]]
BIAS = ("params", "bias", _same)
LINEAR: Kind = {".weight": ("params", "kernel", _kernel), ".bias": BIAS}
TRANSPOSED: Kind = {".weight": ("params", "kernel", _transposed), ".bias": BIAS}
NORM: Kind = {".weight": ("params", "scale", _same), ".bias": BIAS}
BATCH_NORM: Kind = {
    **NORM,
    ".running_mean": ("stats", "mean", _same),
    ".running_var": ("stats", "var", _same),
}
ALONE: Kind = {"": ("params", "", _same)}  # a tensor that is no layer's


class Rule(NamedTuple):
    """What becomes of some layers of a file.

    Attributes:
      pattern: matches the whole name of a layer, without its leaf.
      target: the layer's path here; {0} is the first group of the pattern, {n0} the number in it
        plus one.
      kind: the leaves.
    """

    pattern: str
    target: str
    kind: Kind


def translate(tensors: Tensors, rules: Sequence[Rule]) -> dict[str, np.ndarray]:
    """Renames and transposes tensors.

    Args:
      tensors: {name: array} in PyTorch's layouts.
      rules: the first that matches a name counts.

    Returns:
      {'params/<path>' or 'stats/<path>': array}; names that no rule matches stay as they are, for
      `merge` to report and, unless they are excused, to refuse.

    Raises:
      UserError: two tensors have one target.
    """
    compiled = [
        (re.compile(rule.pattern + re.escape(leaf)), rule.target, entry)
        for rule in rules
        for leaf, entry in rule.kind.items()
    ]
    found, origins = {}, {}
    for name, array in tensors.items():
        target, change = name, _same
        for pattern, template, (kind, leaf, how) in compiled:
            if match := pattern.fullmatch(name):
                path = filled(template, match)
                target, change = "/".join(part for part in (kind, path, leaf) if part), how
                break
        if target in found:
            raise UserError(f"weights: {origins[target]} and {name} both stand for {target}")
        origins[target] = name
        found[target] = np.ascontiguousarray(change(np.asarray(array)))
    return found


def renamed(tensors: Tensors, rules: Sequence[tuple[str, str]]) -> dict[str, np.ndarray]:
    """Names alone: each begins as the first pattern that matches its beginning says, the rest
    stays. Targets as in `Rule`.
    """
    compiled = [(re.compile(pattern), target) for pattern, target in rules]
    found = {}
    for name, array in tensors.items():
        for pattern, target in compiled:
            if match := pattern.match(name):
                name = filled(target, match) + name[match.end() :]
                break
        found[name] = array
    return found


def stacked(tensors: Tensors, names: Sequence[str], target: str) -> dict[str, np.ndarray]:
    """Layers of equal size stacked into one along their outputs, as query, key and value.

    Args:
      names: patterns of the layers' names that agree in their groups, in order of stacking. A bias
        that one of them lacks is 0.
      target: as in `Rule`.
    """
    layers: dict[str, dict[int, str]] = {}
    for name in tensors:
        layer, _, leaf = name.rpartition(".")
        for index, pattern in enumerate(names):
            if match := re.fullmatch(pattern, layer):
                layers.setdefault(f"{filled(target, match)}.{leaf}", {})[index] = name
    found = dict(tensors)
    for whole, parts in layers.items():
        arrays = {index: found.pop(name) for index, name in parts.items()}
        empty = np.zeros_like(next(iter(arrays.values())))
        if len(arrays) < len(names) and not whole.endswith(".bias"):
            raise UserError(f"weights: of {whole} only {', '.join(parts.values())} is there")
        found[whole] = np.concatenate([arrays.get(index, empty) for index in range(len(names))])
    return found


def without(tensors: Tensors, prefix: str) -> dict[str, np.ndarray]:
    """Those whose names begin with `prefix`, without it."""
    return {
        name.removeprefix(prefix): array
        for name, array in tensors.items()
        if name.startswith(prefix)
    }


def filled(template: str, match: re.Match) -> str:
    groups = match.groups("")
    numbers = {f"n{i}": int(group) + 1 for i, group in enumerate(groups) if group.isdigit()}
    return template.format(*groups, **numbers)
