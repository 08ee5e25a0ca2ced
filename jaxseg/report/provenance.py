"""Where a run comes from: its command, versions, device, dates, and what its weights began as."""

import html
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flax.traverse_util import flatten_dict

KEY = "made"  # of config.json: what the run itself noted about how it was made
WEIGHTS = "initial_weights.txt"


def section(workdir: Path, config: Mapping[str, Any]) -> str:
    """The body of the section as HTML; empty if the run noted nothing.

    Args:
      workdir: of the run.
      config: of the run; `made` in it holds `command` and anything else that is a text or a number.
    """
    made = config.get(KEY) or {}
    command = made.get("command")
    shown = "".join(f"<pre>{html.escape(line)}</pre>" for line in _lines(command))
    intro = "<p class=note>The command that repeats it:</p>" if shown else ""
    rows = [(_words(key), value) for key, value in _facts(made) if key != "command"]
    if weights := _weights(workdir):
        rows.append(("initial weights", weights))
    if not shown and not rows:
        return ""
    cells = "".join(
        f"<tr><th>{html.escape(name)}</th><td>{html.escape(str(value))}</td></tr>"
        for name, value in rows
    )
    table = f"<table class=config><tbody>{cells}</tbody></table>" if cells else ""
    return intro + shown + table


def settings(config: Mapping[str, Any]) -> str:
    """All settings, folded away."""
    own = {key: value for key, value in config.items() if key != KEY}
    rows = "".join(
        f"<tr><th>{html.escape(key)}</th><td>{html.escape(json.dumps(value))}</td></tr>"
        for key, value in flatten_dict(own, sep=".").items()
    )
    return (
        f"<details><summary>Settings</summary><table class=config><tbody>{rows}</tbody></table>"
        "</details>"
    )


def _lines(command: Any) -> list[str]:
    """A command as text, or several of them."""
    if not command:
        return []
    if isinstance(command, str):
        return [command]
    return [" ".join(map(str, command))] if isinstance(command, list) else [str(command)]


def _facts(made: Mapping[str, Any]) -> list[tuple[str, Any]]:
    known = {key: value for key, value in made.items() if value not in (None, "", [], {})}
    return [
        (key, ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else value)
        for key, value in known.items()
    ]


def _words(key: str) -> str:
    return key.replace("_", " ")


def _weights(workdir: Path) -> str:
    """The first line of initial_weights.txt, which says what the weights are."""
    try:
        first = (workdir / WEIGHTS).read_text(encoding="utf-8").split("\n", 1)[0]
    except OSError:
        return ""
    return first.removeprefix("initial weights:").strip()
