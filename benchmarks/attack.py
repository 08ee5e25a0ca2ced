"""Attacks at random: mutated files, kills at any moment, flipped bytes of a run, a full disk.

    python benchmarks/attack.py --minutes=30
    python benchmarks/attack.py --minutes=5 --only=readers,kills --families=adversarial --seed=7

The minutes are shared out among the parts; each goes on until its share is used. What is expected:

- readers: a mutated file is read or told in one line that names it, within 4 GiB and a minute.
- kills: a run that was killed (SIGKILL, at a random moment or while a checkpoint is written) and
  started again ends in the same bits as one that was not. Of two processes one is killed; the other
  has to end within a minute.
- flips: a checkpoint with a flipped byte is restored to the same bits or not at all.
- disk: a training whose disk is full ends in one line, and its last whole checkpoint is still read
  (needs root, for a small tmpfs).

It prints a table; the exit code is 1 if anything else happened.
"""

import argparse
import collections
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

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from attack import readers

SMALL = (
    *(f"--config.data.{side}.size=(32,64)" for side in ("source", "target")),
    *(f"--config.data.{side}.options.counts.train=6" for side in ("source", "target")),
    *(f"--config.data.{side}.options.counts.val=3" for side in ("source", "target")),
    "--config.train.steps=8", "--config.train.warmup_steps=2", "--config.train.batch=2",
    "--config.train.log_every=1", "--config.train.eval_every=3", "--config.train.save_every=1",
    "--config.train.devices=1", "--config.train.pictures=1", "--config.eval.batch=3",
    "--config.eval.source_images=3",
)  # fmt: skip
FAMILIES = {
    "adversarial": ("--config=configs/advent.py",),
    "gio_ada": ("--config=configs/gio_ada.py",),
    "sweep": ("--config=configs/advent.py", "--config.sweep.over=seed=0,1"),
    "two_processes": ("--config=configs/advent.py",),
}
PATIENCE = 900  # seconds for one training on a busy machine
Ends = collections.Counter
SAID = tempfile.TemporaryDirectory(prefix="attack-")  # removed at the end of the process


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="readers,kills,flips,disk", help="parts, by commas")
    parser.add_argument("--families", default=",".join(FAMILIES), help="of kills, by commas")
    given = parser.parse_args()
    parts = given.only.split(",")
    share, draw, rows = 60 * given.minutes / len(parts), random.Random(given.seed), []
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        if "readers" in parts:
            rows += mutate(draw, share)
        families = given.families.split(",")
        for family in families if "kills" in parts else ():
            rows.append((f"kills, {family}", kills(base, family, draw, share / len(families))))
        if "flips" in parts:
            rows.append(("flips", flips(base, draw, share)))
        if "disk" in parts:
            rows.append(("full disk", full_disks(base, draw, share)))
    print(f"\n{'attack':24} {'tries':>6}  ends")
    for name, ends in rows:
        said = ", ".join(f"{end} {count}" for end, count in sorted(ends.items()))
        print(f"{name:24} {ends.total():6}  {said}")
    return int(any(end.startswith("WRONG") for _, ends in rows for end in ends))


def until(seconds: float) -> Iterator[int]:
    """Counts for as long as there is time, once at least."""
    end, number = time.monotonic() + seconds, 0
    while number == 0 or time.monotonic() < end:
        yield number
        number += 1


def environment() -> dict[str, str]:
    path = os.pathsep.join((str(ROOT), str(ROOT / "tests")))
    return os.environ | {"PYTHONPATH": path, "JAX_PLATFORMS": "cpu"}


def mutate(draw: random.Random, seconds: float) -> list[tuple[str, Ends]]:
    """The readers in turn, 250 mutations at a time, each in a process of its own."""
    found: dict[str, Ends] = {name: Ends() for name in readers.readers()}
    for number in until(seconds):
        name = list(found)[number % len(found)]
        seed = draw.randrange(2**31)
        command = [sys.executable, "-W", "ignore", "-m", "attack.readers", name, str(seed), "250"]
        try:
            done = subprocess.run(command, env=environment(), capture_output=True, text=True,
                                  timeout=300, check=False)  # fmt: skip
            outcome = json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else None
        except subprocess.TimeoutExpired:
            found[name]["WRONG: hung"] += 1
            print(f"{name}: seed {seed} does not end", flush=True)
            continue
        if outcome is None:
            found[name]["WRONG: crashed"] += 1
            print(f"{name}: seed {seed}: {done.stderr[-500:]}", flush=True)
            continue
        if outcome["fault"]:
            print(f"{name}: {outcome['fault']}", flush=True)
        for end, count in outcome["ends"].items():
            found[name][end if end in ("read", "told") else f"WRONG: {end}"] += count
    return [(f"mutations, {name}", ends) for name, ends in found.items() if ends]


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


def kills(base: Path, family: str, draw: random.Random, seconds: float) -> Ends:
    """Kills a training again and again, each time with a new folder."""
    whole, ends = base / family / "whole", Ends()
    if any(wait(start(base, family, whole))):
        return Ends({f"WRONG: no whole run ({tail(whole)})": 1})
    compiled = time.monotonic()
    if any(wait(start(base, family, base / family / "again"))):
        return Ends({"WRONG: a second whole run fails": 1})
    wanted, length = bits(whole), time.monotonic() - compiled
    for number in until(seconds):
        folder = base / family / f"killed{number}"
        running = start(base, family, folder)
        where = draw.choice(("anywhere", "anywhere", "in a write"))
        strike(running, folder, draw, where, length)
        codes = wait(running, 60 if family == "two_processes" else PATIENCE)
        if None in codes:
            ends["WRONG: the other process went on"] += 1
        if any(wait(start(base, family, folder))):
            ends[f"WRONG: not resumed after a kill {where} ({tail(folder)})"] += 1
        else:
            same = bits(folder) == wanted
            ends[f"same bits, killed {where}" if same else f"WRONG: other bits, {where}"] += 1
        shutil.rmtree(folder, ignore_errors=True)
    return ends


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


def flips(base: Path, draw: random.Random, seconds: float) -> Ends:
    """Flips one bit of a random file of a finished run's checkpoints and restores."""
    from jaxseg.errors import UserError
    from jaxseg.storage.checkpoints import checkpoint

    whole, ends = base / "flips" / "whole", Ends()
    if any(wait(start(base, "adversarial", whole))):
        return Ends({f"WRONG: no whole run ({tail(whole)})": 1})

    def restored(folder: Path) -> tuple[int, bytes]:
        import jax

        with checkpoint.open_manager(folder / "checkpoints", read_only=True) as manager:
            step, model, _ = checkpoint.restore_model(manager, "last", announce=lambda *_: None)
        return step, b"".join(leaf.tobytes() for leaf in jax.tree.leaves(model))

    states = {}
    wanted = restored(whole)
    for number in until(seconds):
        copy = base / "flips" / f"flipped{number}"
        shutil.copytree(whole, copy)
        paths = [p for p in sorted((copy / "checkpoints").rglob("*")) if p.is_file()]
        path = draw.choice([p for p in paths if p.stat().st_size])
        content = bytearray(path.read_bytes())
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        path.write_bytes(content)
        try:
            step, found = restored(copy)
        except UserError:
            ends["told"] += 1
        except Exception as error:
            ends[f"WRONG: {type(error).__name__}"] += 1
            print(f"{path.relative_to(copy)}: {error!r}"[:300], flush=True)
        else:
            if step == wanted[0]:
                ends["same bits" if found == wanted[1] else "WRONG: other bits"] += 1
            else:  # an earlier step stands in
                same = states.setdefault(step, found) == found
                ends["an earlier step" if same else "WRONG: other bits"] += 1
        shutil.rmtree(copy)
    return ends


def full_disks(base: Path, draw: random.Random, seconds: float) -> Ends:
    """Trains on a tmpfs that is full at a random moment."""
    ends, place = Ends(), base / "small"
    place.mkdir()
    for _ in until(seconds):
        size = draw.randrange(4, 60)
        mount = ["mount", "-t", "tmpfs", "-o", f"size={size}m", "tmpfs", str(place)]
        if os.geteuid() or subprocess.run(mount, check=False, capture_output=True).returncode:
            return Ends({"skipped: no tmpfs without root": 1})
        try:
            (code,) = wait(start(base, "adversarial", place / "run"))
            said = said_by(place / "run", 0).read_text()
            if code == 0:
                ends["there was room"] += 1
            elif code == 2 and "space" in said and "Traceback" not in said:
                ends["one line"] += 1
            else:
                ends[f"WRONG: exit code {code}, {len(said.splitlines())} lines"] += 1
                print(f"{size} MB: {said[-300:]}", flush=True)
        finally:
            subprocess.run(["umount", "-l", str(place)], check=True)
    return ends


if __name__ == "__main__":
    sys.exit(main())
