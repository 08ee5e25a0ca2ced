"""The summary of a sweep: sweep.json, and the printed tables.

All numbers are read from the members' logs. Standard deviations are sample ones (n - 1).
"""

import json
import os
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from jaxseg.errors import UserError
from jaxseg.evaluation import selection
from jaxseg.evaluation.results import brief, percent
from jaxseg.run.sweep_members import Member
from jaxseg.storage import logs, results, run_folder

FILE = "sweep.json"


def compare(workdir: str, over: str) -> None:
    """Raises UserError if the folder holds another sweep, or a single run."""
    if _trained(workdir):
        raise UserError(f"{workdir} holds a single run: give a sweep another --workdir")
    path = Path(workdir, FILE)
    if not path.exists() or not any(_trained(p) for p in Path(workdir).glob("member_*")):
        return
    try:
        before = json.loads(path.read_text())["over"]
    except (ValueError, KeyError) as error:
        raise UserError(f"{path} is not readable: {error}; give another --workdir") from error
    if before.split() != over.split():
        raise UserError(
            f"{workdir} holds a sweep with config.sweep.over={before!r}, now it is {over!r}: give "
            "another --workdir, or delete that folder"
        )


def _trained(folder: str | Path) -> bool:
    return run_folder.holds_steps(run_folder.checkpoints(folder))


def write(workdir: str, over: str, members: Sequence[Member]) -> None:
    """Writes sweep.json atomically from the members' logs; see `outcome`."""
    results.write_json(os.path.join(workdir, FILE), outcome(workdir, over, members))


def outcome(workdir: str, over: str, members: Sequence[Member]) -> dict[str, Any]:
    """The contents of sweep.json, from the members' logs.

    Returns:
      over: as in the config;
      members: [{member, values, last, best}]; `last` and `best` are the results (see
        `evaluation.results`) of the last evaluation and of that with the highest mIoU, None before
        the first evaluation;
      summary: {members, last_miou, best_miou: {mean, std}} over all members (fractions);
      groups: the same for each group of members that differ in the seed only, with their common
        values, if other settings are swept as well;
      best: {member, values, step, miou} of the member with the highest mIoU at the last step, which
        needs target labels; None without them;
      choices: criterion without target labels -> {member, value, miou, below_best,
        rank_correlation}: its choice among the members' last snapshots.
    """
    rows = []
    for member in members:
        best, last = logs.best_and_last(os.path.join(workdir, member.name))
        rows.append({"member": member.name, "values": member.values,
                     "last": last and brief(last), "best": best and brief(best)})  # fmt: skip
    labelled = [row for row in rows if row["last"] and row["last"]["miou"] is not None]
    top = max(labelled, key=lambda row: row["last"]["miou"], default=None)
    return {
        "over": over,
        "members": rows,
        "summary": _summary(rows),
        "groups": _groups(rows),
        "best": top and {
            "member": top["member"], "values": top["values"],
            "step": top["last"]["step"], "miou": top["last"]["miou"],
        },
        "choices": _choices(rows) if all(row["last"] for row in rows) else {},
    }  # fmt: skip


def _summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    scores = {
        f"{which}_miou": [row[which]["miou"] for row in rows if row[which]]
        for which in ("last", "best")
    }
    return {"members": len(rows), **{k: mean_and_std(v) for k, v in scores.items()}}


def mean_and_std(values: Sequence[float | None]) -> dict[str, float | None]:
    """{'mean', 'std'} of the known values; None if there are too few."""
    known = [value for value in values if value is not None]
    return {
        "mean": statistics.fmean(known) if known else None,
        "std": statistics.stdev(known) if len(known) > 1 else None,
    }


def _groups(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Groups of members that differ in the seed only."""
    if "seed" not in rows[0]["values"] or len(rows[0]["values"]) == 1:
        return []
    groups: dict[tuple, list] = {}
    for row in rows:
        shared = {path: value for path, value in row["values"].items() if path != "seed"}
        groups.setdefault(tuple(shared.items()), []).append(row)
    return [{"values": dict(shared), **_summary(own)} for shared, own in groups.items()]


def _choices(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Choices as between the snapshots of a run, with the member's number in place of the step."""
    compared = selection.compare([{**row["last"], "step": i} for i, row in enumerate(rows)])
    return {
        c.key: {
            "member": rows[entry["step"]]["member"],
            **{k: entry[k] for k in ("value", "miou", "below_best", "rank_correlation")},
        }
        for c in selection.CRITERIA
        if (entry := compared["criteria"].get(c.key))
    }


def line(step: int, results: Sequence[Mapping[str, Any]]) -> str:
    """The members' results at a step: 'step 70: val mIoU 31.20 ± 1.10 %: 30.10, 32.30'."""
    scores = [result["miou"] for result in results]
    each = ", ".join(percent(score, 2, "") for score in scores)
    return f"step {step}: {results[0]['split']} mIoU {plus_minus(mean_and_std(scores))} %: {each}"


def plus_minus(numbers: Mapping[str, float | None], digits: int = 2) -> str:
    """'31.20 ± 1.10', in percent without the % sign."""
    spread = "" if numbers["std"] is None else f" ± {percent(numbers['std'], digits, '')}"
    return percent(numbers["mean"], digits, "") + spread


def print_tables(outcome: Mapping[str, Any], console: Console | None = None) -> None:
    """Prints tables of the contents that `outcome` returned."""
    console = console or Console()
    rows, best = outcome["members"], outcome["best"]
    paths = list(rows[0]["values"])
    table = Table(title=f"{len(rows)} members", title_justify="left", caption_justify="left")
    table.add_column("member", no_wrap=True)
    for path in paths:
        table.add_column(path.rpartition("settings.")[2], justify="right", overflow="fold")
    for heading in ("last mIoU %", "best mIoU %", "at step"):
        table.add_column(heading, justify="right")
    for row in rows:
        last, top = row["last"], row["best"]
        scores = percent(last["miou"], 2, ""), percent(top["miou"], 2, ""), str(top["step"])
        values = (f"{row['values'][path]:g}" for path in paths)
        style = "bold" if best and row["member"] == best["member"] else None
        table.add_row(row["member"], *values, *scores, style=style)
    for group in [*outcome["groups"], {"values": {}, **outcome["summary"]}]:
        if group is (outcome["groups"] or [None])[0] or not group["values"]:
            table.add_section()
        values = (f"{group['values'][p]:g}" if p in group["values"] else "" for p in paths)
        name = "over seeds" if group["values"] else "mean ± std"
        scores = (plus_minus(group[key]) for key in ("last_miou", "best_miou"))
        table.add_row(name, *values, *scores, "")
    console.print(table)
    if best:
        told = [f"{best['member']} ({_values(best)}), {percent(best['miou'])}, with target labels"]
        titles = {c.key: selection.title(c) for c in selection.CRITERIA}
        for key, choice in outcome["choices"].items():
            told.append(f"{choice['member']}, {percent(choice['miou'])}, by {titles[key]}")
        console.print("best at the last step:", markup=False, highlight=False)
        for text in told:
            console.print(f"  {text}", markup=False, highlight=False, soft_wrap=True)


def _values(row: Mapping[str, Any]) -> str:
    return ", ".join(f"{path}={value:g}" for path, value in row["values"].items())
