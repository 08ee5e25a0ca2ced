"""Attacks at random: mutated files, kills at any moment, flipped bytes of a run, a full disk.

    python benchmarks/attack.py --minutes=30
    python benchmarks/attack.py --minutes=5 --only=readers,kills --families=adversarial --seed=7
    python benchmarks/attack.py --minutes=2 --only=kills --families=self_training --folder=attacked

The minutes are shared out among the parts; each goes on until its share is used, or a number of
`--tries`. With `--folder` the runs to compare with, compiled programs and counts are kept there, so
that an attack can be made in several short commands; the table counts all of them.

What is expected:

- readers: a mutated file is read or told in one line that names it, within 4 GiB and a minute.
- kills: a run that was killed (SIGKILL, at a random moment or while a checkpoint is written) and
  started again ends in the same bits as one that was not. Of two processes one is killed; the other
  has to end within a minute.
- flips: a checkpoint with a flipped bit is restored to the same bits or not at all; other files of
  a run with a flipped bit are read, or told in one line.
- disk: a training whose disk is full ends in one line, and its last whole checkpoint is still read
  (needs root, for a small tmpfs).

It prints a table; the exit code is 1 if anything else happened.
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from attack import readers

SMALL = (
    *(f"--config.data.{side}.size=(32,64)" for side in ("source", "target")),
    *(f"--config.data.{side}.options.counts.train=6" for side in ("source", "target")),
    *(f"--config.data.{side}.options.counts.val=3" for side in ("source", "target")),
    "--config.net.backbone=tiny", "--config.disc.width=4",
    "--config.train.steps=6", "--config.train.warmup_steps=2", "--config.train.batch=2",
    "--config.train.log_every=1", "--config.train.eval_every=4", "--config.train.save_every=1",
    "--config.train.devices=1", "--config.train.pictures=1", "--config.eval.batch=3",
    "--config.eval.source_images=3",
)  # fmt: skip
FAMILIES = {
    "adversarial": ("--config=configs/advent.py",),
    "gio_ada": ("--config=configs/gio_ada.py", "--config.translator.width=4"),
    "self_training": ("--config=configs/dacs.py",),
    "sweep": ("--config=configs/advent.py", "--config.sweep.over=seed=0,1"),
    "two_processes": ("--config=configs/advent.py",),
}
PATIENCE = 900  # seconds for one training on a busy machine


class Share(NamedTuple):
    """What a part of the attack may use."""

    seconds: float
    tries: int


SAID = tempfile.TemporaryDirectory(prefix="attack-")  # removed at the end of the process


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--tries", type=int, default=10**9, help="the most of each part or family")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="readers,kills,flips,disk", help="parts, by commas")
    parser.add_argument("--families", default=",".join(FAMILIES), help="of kills, by commas")
    parser.add_argument("--folder", type=Path, help="keeps runs, programs and counts between calls")
    given = parser.parse_args()
    parts, families = given.only.split(","), given.families.split(",")
    draw = random.Random(given.seed)
    share = Share(60 * given.minutes / len(parts), given.tries)
    with contextlib.ExitStack() as opened:
        base = given.folder or Path(opened.enter_context(tempfile.TemporaryDirectory()))
        base.mkdir(parents=True, exist_ok=True)
        counts = Counts(base / "ends.json")
        if "readers" in parts:
            mutate(counts, draw, share)
        for family in families if "kills" in parts else ():
            each = share._replace(seconds=share.seconds / len(families))
            kills(counts, base, family, draw, each)
        if "flips" in parts:
            flips(counts, base, draw, share)
        if "disk" in parts:
            full_disks(counts, base, draw, share)
    print(f"\n{'attack':28} {'tries':>6}  ends")
    for name, ends in counts.all.items():
        said = ", ".join(f"{end} {count}" for end, count in sorted(ends.items()))
        print(f"{name:28} {sum(ends.values()):6}  {said}")
    return int(counts.wrong)


class Counts:
    """How the tries ended, kept in a file, from this call and those before it."""

    def __init__(self, path: Path) -> None:
        self._path, self.wrong = path, False
        self.all: dict[str, dict[str, int]] = json.loads(path.read_text()) if path.exists() else {}

    def add(self, name: str, end: str, count: int = 1) -> None:
        """Counts the end of an attack; `wrong` if it begins with WRONG."""
        ends = self.all.setdefault(name, {})
        ends[end] = ends.get(end, 0) + count
        self.wrong |= end.startswith("WRONG")
        self._path.write_text(json.dumps(self.all, indent=1))


def until(share: Share, begun: float | None = None) -> Iterator[int]:
    """Counts for as long as there is time from `begun` (now) on, once at least."""
    end, number = (begun or time.monotonic()) + share.seconds, 0
    while number == 0 or (time.monotonic() < end and number < share.tries):
        yield number
        number += 1


def environment() -> dict[str, str]:
    path = os.pathsep.join((str(ROOT), str(ROOT / "tests")))
    return os.environ | {"PYTHONPATH": path, "JAX_PLATFORMS": "cpu"}


def mutate(counts: Counts, draw: random.Random, share: Share) -> None:
    """The readers in turn, 250 mutations at a time, each in a process of its own."""
    found = list(readers.readers())
    for number in until(share):
        name = found[number % len(found)]
        seed = draw.randrange(2**31)
        command = [sys.executable, "-W", "ignore", "-m", "attack.readers", name, str(seed), "250"]
        try:
            done = subprocess.run(command, env=environment(), capture_output=True, text=True,
                                  timeout=300, check=False)  # fmt: skip
            outcome = json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else None
        except subprocess.TimeoutExpired:
            counts.add(f"mutations, {name}", "WRONG: hung")
            print(f"{name}: seed {seed} does not end", flush=True)
            continue
        if outcome is None:
            counts.add(f"mutations, {name}", "WRONG: crashed")
            print(f"{name}: seed {seed}: {done.stderr[-500:]}", flush=True)
            continue
        if outcome["fault"]:
            print(f"{name}: {outcome['fault']}", flush=True)
        for end, count in outcome["ends"].items():
            end = end if end in ("read", "told") else f"WRONG: {end}"
            counts.add(f"mutations, {name}", end, count)


def start(base: Path, family: str, workdir: Path) -> list[subprocess.Popen]:
    """Starts a training; see `tail` for what it says."""
    shared = (*FAMILIES[family], *SMALL, f"--config.data.records={base / 'records'}")
    commands = [(*shared, f"--workdir={workdir}")]
    if family == "two_processes":
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"--coordinator=127.0.0.1:{free.getsockname()[1]}"
        commands = [(*commands[0], address, "--processes=2", f"--process={i}") for i in range(2)]
    workdir.parent.mkdir(parents=True, exist_ok=True)
    cache = environment() | {"JAX_COMPILATION_CACHE_DIR": str(base / "compiled")}
    running = []
    for i, flags in enumerate(commands):
        with open(said_by(workdir, i), "w") as said:
            running.append(subprocess.Popen([sys.executable, "launch.py", *flags], cwd=ROOT,
                           env=cache, stdout=subprocess.DEVNULL, stderr=said))  # fmt: skip
    return running


def wait(running: list[subprocess.Popen], seconds: float = PATIENCE) -> list[int | None]:
    """The exit codes; None for a process that had to be killed after so many seconds."""
    end, codes = time.monotonic() + seconds, []
    for process in running:
        try:
            codes.append(process.wait(max(end - time.monotonic(), 0.1)))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            codes.append(None)
    return codes


def bits(workdir: Path) -> dict[str, str]:
    """What tells the bits of the last states, by member: the checksums of all arrays."""
    from jaxseg.storage.checkpoints import tree

    found = {}
    for folder in sorted(workdir.rglob("checkpoints")):
        last = max((p for p in folder.iterdir() if p.name.isdigit()), key=lambda p: int(p.name))
        stored = json.loads((last / "config" / "metadata").read_text())
        record = json.loads(tree.unseal(stored))
        found[str(folder.relative_to(workdir))] = json.dumps(
            [last.name, record["leaves"]], sort_keys=True
        )
    return found


def kills(counts: Counts, base: Path, family: str, draw: random.Random, share: Share) -> None:
    """Kills a training again and again, each time with a new folder."""
    begun, name = time.monotonic(), f"kills, {family}"
    whole, known = base / family / "whole", base / family / "seconds.txt"
    if not known.exists():
        shutil.rmtree(whole, ignore_errors=True)
        if any(wait(start(base, family, whole))):
            counts.add(name, f"WRONG: no whole run ({tail(whole)})")
            return
        known.write_text(str(time.monotonic() - begun))
    # The first run had to compile as well: about a third of the time.
    wanted, length = bits(whole), 0.7 * float(known.read_text())
    for _ in until(share, begun):
        folder = base / family / f"killed{draw.randrange(2**31)}"
        running = start(base, family, folder)
        where = draw.choice(("anywhere", "anywhere", "in a write"))
        strike(running, folder, draw, where, length)
        struck = time.monotonic()
        codes = wait(running, 60 if family == "two_processes" else PATIENCE)
        if None in codes:
            counts.add(name, "WRONG: the other process went on")
        elif family == "two_processes":
            counts.add("the other of two", ended(folder, codes, time.monotonic() - struck))
        if any(wait(start(base, family, folder))):
            counts.add(name, f"WRONG: not resumed after a kill {where} ({tail(folder)})")
        else:
            same = bits(folder) == wanted
            counts.add(name, f"same bits, killed {where}" if same else f"WRONG: bits, {where}")
        shutil.rmtree(folder, ignore_errors=True)


def ended(folder: Path, codes: list[int | None], seconds: float) -> str:
    """How the process ended whose fellow was killed."""
    if 0 in codes:
        return "had finished already"
    other = next((i for i, code in enumerate(codes) if code != -signal.SIGKILL), 0)
    said = said_by(folder, other).read_text()
    if "ends because process" in said:
        return f"one line, after {seconds:.0f} s"
    jax = "Terminating process because the JAX distributed service" in said
    return f"JAX's message, after {seconds:.0f} s" if jax else "WRONG: without a word"


def strike(running: list, folder: Path, draw: random.Random, where: str, length: float) -> None:
    """Kills one of the processes, at a random moment or while Orbax writes a step."""
    victim = draw.choice(running)
    if where == "anywhere":
        try:
            victim.wait(draw.uniform(0.2, 1.0) * length)
        except subprocess.TimeoutExpired:
            pass
    else:
        skip, seen = draw.randrange(6), set()
        while victim.poll() is None:
            seen |= {path.name for path in folder.rglob("*orbax-checkpoint-tmp*")}
            if len(seen) > skip:
                time.sleep(draw.uniform(0, 0.02))
                break
            time.sleep(0.002)
    victim.send_signal(signal.SIGKILL)


def said_by(workdir: Path, process: int) -> Path:
    """Where a process's standard error goes: not beside the folder, whose disk may be full."""
    name = "-".join(workdir.parts[-3:])
    return Path(SAID.name, f"{name}.{process}.txt")


def tail(workdir: Path) -> str:
    """The last lines of what the processes of a run wrote to standard error."""
    said = [said_by(workdir, i) for i in range(2)]
    lines = [path.read_text().strip().splitlines()[-1:] for path in said if path.exists()]
    return "; ".join(line[0][:200] for line in lines if line)


def flips(counts: Counts, base: Path, draw: random.Random, share: Share) -> None:
    """Flips one bit of a random file of a finished run, and reads that file as jaxseg does."""
    whole = base / "adversarial" / "whole"
    if not whole.exists() and any(wait(start(base, "adversarial", whole))):
        counts.add("flips", f"WRONG: no whole run ({tail(whole)})")
        return
    seen: dict[Any, bytes] = {}
    for path in sorted(whole.iterdir()):
        read(whole, path, seen)  # what is there undamaged
    for number in until(share):
        copy = base / "flips" / f"flipped{number}"
        shutil.copytree(whole, copy)
        paths = [p for p in sorted(copy.rglob("*")) if p.is_file() and p.stat().st_size]
        kinds = sorted({kind(copy, path) for path in paths})
        chosen = draw.choice(kinds)  # each kind as often; there are hundreds of arrays' files
        path = draw.choice([p for p in paths if kind(copy, p) == chosen])
        content = bytearray(path.read_bytes())
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        path.write_bytes(content)
        try:
            end = read(copy, path, dict(seen))
        except Exception as error:
            end = f"WRONG: {type(error).__name__}"
            print(f"{path.relative_to(copy)}: {error!r}"[:300], flush=True)
        counts.add(f"flips, {chosen}", end)
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
        size = draw.randrange(1, 16)
        mount = ["mount", "-t", "tmpfs", "-o", f"size={size}m", "tmpfs", str(place)]
        if os.geteuid() or subprocess.run(mount, check=False, capture_output=True).returncode:
            counts.add("full disk", "skipped: no tmpfs without root")
            return
        try:
            (code,) = wait(start(base, "adversarial", place / "run"))
            said = said_by(place / "run", 0).read_text()
            if code == 0:
                counts.add("full disk", "there was room")
            elif code == 2 and "space" in said and "Traceback" not in said:
                counts.add("full disk", whole_steps(place / "run"))
            else:
                counts.add("full disk", f"WRONG: exit code {code}, {len(said.splitlines())} lines")
                print(f"{size} MB: {said[-300:]}", flush=True)
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


if __name__ == "__main__":
    sys.exit(main())
