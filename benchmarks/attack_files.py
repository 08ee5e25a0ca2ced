"""Parts of `attack.py`: flipped bits in the files of a run, and disks that are full."""

import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.attack_counts import Counts, Share, until
from benchmarks.attack_runs import said_by, start, tail, wait


def flips(counts: Counts, base: Path, draw: random.Random, share: Share) -> None:
    """Flips one bit of each file of a finished run in turn, and reads it as jaxseg does."""
    whole = base / "adversarial" / "whole"
    if not whole.exists() and any(wait(start(base, "adversarial", whole))):
        counts.add("flips", f"WRONG: no whole run ({tail(whole)})")
        return
    seen: dict[Any, bytes] = {}
    for path in sorted(whole.iterdir()):
        read(whole, path, seen)  # what is there undamaged
    names = [str(p.relative_to(whole)) for p in whole.rglob("*") if p.is_file()]
    names = [name for name in sorted(names) if (whole / name).stat().st_size]
    tried = sum(sum(e.values()) for name, e in counts.all.items() if name.startswith("flips"))
    for number in until(share):
        copy = base / "flips" / f"flipped{number}"
        shutil.copytree(whole, copy)
        path = copy / names[(tried + number) % len(names)]  # every file in turn
        content = bytearray(path.read_bytes())
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        path.write_bytes(content)
        try:
            end = read(copy, path, dict(seen))
        except Exception as error:
            end = f"WRONG: {type(error).__name__}"
            print(f"{path.relative_to(copy)}: {error!r}"[:300], flush=True)
        counts.add(f"flips, {kind(copy, path)}", end)
        shutil.rmtree(copy)


def kind(run: Path, path: Path) -> str:
    """The kind of a run's file, for the table."""
    parts = path.relative_to(run).parts
    if parts[0] != "checkpoints":
        return parts[0]
    inner = parts[2] if len(parts) > 2 else ""
    return "checkpoints, " + (inner if inner in ("model", "train", "config", "metrics") else "rest")


def read(run: Path, path: Path, seen: dict[Any, bytes]) -> str:
    """Reads a run's file as training and evaluation do; how that ended. `seen`: what was read."""
    from jaxseg.errors import UserError

    name = path.relative_to(run).parts[0]
    try:
        for key, content in {"checkpoints": _arrays, "config.json": _settings,
                             "metrics.jsonl": _report, "agreement": _maps,
                             }.get(name, _nothing)(run):  # fmt: skip
            if seen.setdefault(key, content) != content:
                return "WRONG: other bits"
            if key[0] == "step" and key[1] != max(k[1] for k in seen if k[0] == "step"):
                return "an earlier step"
    except UserError:
        return "told"
    return "same" if name in ("checkpoints", "config.json", "agreement") else "read"


def _arrays(run: Path) -> Iterator[tuple[tuple, bytes]]:
    """The whole state of the last sound step, with the statistics and both optimisers."""
    import jax

    from jaxseg.experiment.method import make_method
    from jaxseg.experiment.optimisers import make_optimisers
    from jaxseg.experiment.state import abstract_state
    from jaxseg.storage import run_folder
    from jaxseg.storage.checkpoints import checkpoint

    config = run_folder.read_config(run)
    template = abstract_state(config, make_method(config), make_optimisers(config))
    folder = run_folder.checkpoints(run)
    with checkpoint.open_manager(folder, read_only=True) as manager:
        silent = lambda *_: None  # noqa: E731
        state = checkpoint.restore_state(manager, template, announce=silent)
        best, _, _ = checkpoint.restore_model(manager, "best", announce=silent)
    leaves = b"".join(leaf.tobytes() for leaf in jax.tree.leaves(state))
    yield ("step", int(state.step)), leaves
    yield ("best of", int(state.step), best), b""


def _settings(run: Path) -> Iterator[tuple[tuple, bytes]]:
    """The config, which training compares with the one it is given: that of the whole run here."""
    from jaxseg.storage import run_folder

    whole = run if run.name == "whole" else run.parent.parent / "adversarial" / "whole"
    run_folder.compare_config(run_folder.read_config(whole), str(run))
    run_folder.read_config(run)
    return iter(())


def _report(run: Path) -> Iterator[tuple[tuple, bytes]]:
    from jaxseg.report import page
    from jaxseg.storage import logs

    logs.best_and_last(run)
    page.write_report(str(run))
    return iter(())


def _maps(run: Path) -> Iterator[tuple[tuple, bytes]]:
    """The predictions that the next snapshot is compared with: damaged ones count as lost."""
    from jaxseg.storage import results

    for path in sorted((run / "agreement").glob("*.npz")):
        for key, array in results.load_maps(run / "agreement", int(path.stem)).items():
            yield ("map", path.stem, key), array.tobytes()


def _nothing(run: Path) -> Iterator[tuple[tuple, bytes]]:
    """Files that are only written: pictures, tables, the report."""
    return iter(())


def full_disks(counts: Counts, base: Path, draw: random.Random, share: Share) -> None:
    """Trains on a tmpfs that is full at a random moment."""
    place = base / "small"
    place.mkdir(exist_ok=True)
    for _ in until(share):
        size = draw.randrange(100, 2500)  # less than a whole run
        mount = ["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", str(place)]
        if os.geteuid() or subprocess.run(mount, check=False, capture_output=True).returncode:
            counts.add("full disk", "skipped: no tmpfs without root")
            return
        try:
            (code,) = wait(start(base, "adversarial", place / "run"))
            said = said_by(place / "run", 0).read_text()
            if code == 0:
                counts.add("full disk", "there was room")
            elif code == 2 and "space" in said and len(said.splitlines()) == 1:
                counts.add("full disk", whole_steps(place / "run"))
            else:
                counts.add("full disk", f"WRONG: exit code {code}, {len(said.splitlines())} lines")
                print(f"{size} KiB: {said[-300:]}", flush=True)
        finally:
            subprocess.run(["umount", "-l", str(place)], check=True)


def whole_steps(run: Path) -> str:
    """How a run on a full disk is left: its last whole checkpoint has to be readable."""
    from jaxseg.errors import UserError
    from jaxseg.storage import run_folder

    if not run_folder.holds_steps(run_folder.checkpoints(run)):
        return "one line, before the first checkpoint"
    try:
        for key, _ in _arrays(run):
            if key[0] == "step":
                return "one line, the last checkpoint is whole"
    except UserError as error:
        return f"WRONG: {error}"
    return "WRONG: nothing restored"
