"""What a search varies: a TOML file with a table for each setting.

    ["optim.gen.lr"]
    low = 1e-4
    high = 1e-2
    log = true

    ["method.settings.adversarial_weights.main"]
    low = 1e-4
    high = 1e-2
    log = true

    ["optim.gen.schedule"]
    choices = ["cosine", "poly"]

Whole numbers for a setting that is one are drawn as whole numbers; `step` draws multiples.
"""

import difflib
import json
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from jaxseg.errors import UserError
from jaxseg.run.sweep_members import at

# Settings that change no result, or are checked as the data itself.
OF_HOSTS = ("data.root", "data.records", "data.threads", "compile_cache", "train.devices", "log.")


class Range(NamedTuple):
    """A setting's values: from `low` to `high`, or one of `choices`.

    Attributes:
      low, high: both included.
      log: draws evenly on a logarithmic scale.
      step: distance of values, or None.
      choices: instead of a range.
    """

    low: float | int | None = None
    high: float | int | None = None
    log: bool = False
    step: float | int | None = None
    choices: tuple = ()

    def holds(self, value: Any) -> bool:
        """Whether a value is one of these."""
        if self.choices:
            return value in self.choices
        return type(value) in (int, float) and self.low <= value <= self.high

    def suggest(self, trial: Any, name: str) -> Any:
        """Lets an Optuna trial choose a value."""
        if self.choices:
            return trial.suggest_categorical(name, self.choices)
        whole = isinstance(self.low, int)
        options = dict(log=self.log) if self.step is None else dict(step=self.step)
        return (trial.suggest_int if whole else trial.suggest_float)(
            name, self.low, self.high, **options
        )


def read(path: str | Path, config: ConfigDict) -> dict[str, Range]:
    """Reads a space and holds it against the config.

    Raises:
      UserError: no readable file, a setting that the config does not have, or a table that is no
        range; the message names file and setting.
    """
    try:
        tables = tomllib.loads(Path(path).expanduser().read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"--space={path} is not a readable TOML file: {error}") from error
    if not tables:
        raise UserError(f'--space={path} is empty: give tables as ["optim.gen.lr"]')
    known = dict(_settings(config))
    return {name: _range(path, name, table, known) for name, table in tables.items()}


def _settings(tree: ConfigDict, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, ConfigDict):
            yield from _settings(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _range(path: str | Path, name: str, table: Any, known: Mapping[str, Any]) -> Range:
    where = f'--space={path}: ["{name}"]'
    if isinstance(table, dict) and any(isinstance(value, dict) for value in table.values()):
        raise UserError(f'--space={path}: write the setting in quotes, as ["optim.gen.lr"]')
    if name not in known:
        near = difflib.get_close_matches(name, known, 1, 0.5)
        raise UserError(
            f"{where}: no setting config.{name}" + (f"; did you mean {near[0]}?" if near else "")
        )
    if not isinstance(table, dict) or (unknown := sorted(set(table) - set(Range._fields))):
        wrong = unknown[0] if isinstance(table, dict) else table
        raise UserError(f"{where}: {wrong!r} is none of {', '.join(Range._fields)}")
    if "choices" in table:
        choices = table["choices"]
        if len(table) > 1 or not isinstance(choices, list) or len(choices) < 2:
            raise UserError(f"{where}: choices is a list of two or more values, and stands alone")
        if any(isinstance(value, dict | list) for value in choices):
            raise UserError(f"{where}: choices are numbers, texts or true and false")
        return Range(choices=tuple(choices))
    return _numbers(where, Range(**table), known[name])


def _numbers(where: str, found: Range, default: Any) -> Range:
    kinds = {type(found.low), type(found.high)}
    if not kinds <= {int, float} or found.low >= found.high:
        raise UserError(f"{where}: give numbers low < high, or choices")
    if not isinstance(found.log, bool) or (found.log and (found.low <= 0 or found.step)):
        raise UserError(f"{where}: log is true or false; with true low is above 0 and without step")
    if found.step is not None and (type(found.step) not in (int, float) or found.step <= 0):
        raise UserError(f"{where}: step={found.step!r} is no number above 0")
    if type(default) is int and kinds == {int}:
        return found
    if type(default) is int:
        raise UserError(f"{where}: the setting is a whole number: give low and high as such")
    floats = {key: float(getattr(found, key)) for key in ("low", "high")}
    return found._replace(**floats, step=None if found.step is None else float(found.step))


def others(space: Mapping[str, Range], config: ConfigDict) -> dict[str, Any]:
    """The settings that all trials share, as JSON holds them, without those that hosts may have of
    their own.
    """
    shared = {
        name: value
        for name, value in _settings(config)
        if name not in space and not name.startswith(OF_HOSTS)
    }
    return json.loads(json.dumps(shared, default=str))


def defaults(space: Mapping[str, Range], config: ConfigDict) -> dict[str, Any]:
    """The config's own values of the settings, where the space holds them."""
    own = {name: at(config, name) for name in space}
    return {name: value for name, value in own.items() if space[name].holds(value)}
