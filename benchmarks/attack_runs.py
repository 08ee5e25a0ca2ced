"""Parts of `attack.py`: trainings that are started, killed, interrupted and started again."""

import contextlib
import json
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.attack_counts import ROOT, Counts, Share, environment, until

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
    "adversarial": ("--config=configs/advent.py:streets+scratch",),
    "gio_ada": ("--config=configs/gio_ada.py:streets+scratch", "--config.translator.width=4"),
    "self_training": ("--config=configs/dacs.py:streets+scratch",),
    "sweep": ("--config=configs/advent.py:streets+scratch", "--config.sweep.over=seed=0,1"),
    "two_processes": ("--config=configs/advent.py:streets+scratch",),
}
PATIENCE = 900  # seconds for one training on a busy machine
SAID = tempfile.TemporaryDirectory(prefix="attack-")  # removed at the end of the process


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
    if not known.exists() and not measured(counts, base, family, name):
        return
    wanted, length = bits(whole), float(known.read_text())
    for _ in until(share, begun):
        folder = base / family / f"killed{draw.randrange(2**31)}"
        running = start(base, family, folder)
        where = draw.choice(("anywhere", "anywhere", "in a write"))
        strike(running, folder, draw, where, length)
        struck = time.monotonic()
        codes = wait(running, 60 if family == "two_processes" else PATIENCE)
        if None in codes:
            counts.add(name, "WRONG: the other process went on")
        elif -signal.SIGKILL not in codes:
            counts.add(name, f"had ended before ({codes[0]})")
        elif family == "two_processes":
            counts.add(*ended(folder, codes, time.monotonic() - struck))
        if any(wait(start(base, family, folder))):
            counts.add(name, f"WRONG: not resumed after a kill {where} ({tail(folder)})")
        elif bits(folder) != wanted:
            counts.add(name, f"WRONG: bits, {where}")
        elif -signal.SIGKILL in codes:
            counts.add(name, f"same bits, killed {where}")
        shutil.rmtree(folder, ignore_errors=True)


def measured(counts: Counts, base: Path, family: str, name: str) -> bool:
    """Trains twice without a kill: for the bits, and for the seconds once all is compiled."""
    for folder in ("whole", "again"):
        shutil.rmtree(base / family / folder, ignore_errors=True)
        begun = time.monotonic()
        if any(wait(start(base, family, base / family / folder))):
            counts.add(name, f"WRONG: no whole run ({tail(base / family / folder)})")
            return False
    if bits(base / family / "again") != bits(base / family / "whole"):
        counts.add(name, "WRONG: other bits without a kill")
        return False
    (base / family / "seconds.txt").write_text(str(time.monotonic() - begun))
    return True


def ended(folder: Path, codes: list[int | None], seconds: float) -> tuple[str, str]:
    """Which of two processes was killed, and how the other one ended."""
    killed = codes.index(-signal.SIGKILL)
    name, other = f"the other of two, {killed} killed", 1 - killed
    if codes[other] == 0:
        return name, "had finished already"
    said = said_by(folder, other).read_text()
    if f"because process {killed}" in said and "stack trace" not in said:
        late = next(s for s in (1, 5, 45, 60, PATIENCE) if seconds < s)
        return name, f"one line, exit code {codes[other]}, within {late} s"
    return name, f"WRONG: {said[-200:]}"


def strike(running: list, folder: Path, draw: random.Random, where: str, length: float) -> None:
    """Kills one of the processes, at a random moment or while Orbax writes a step."""
    victim = draw.choice(running)
    if where == "anywhere":
        try:
            victim.wait(draw.uniform(0.05, 0.95) * length)
        except subprocess.TimeoutExpired:
            pass
    else:
        skip, seen = draw.randrange(6), set()
        while victim.poll() is None:
            # While it is being listed, what is written may be renamed.
            with contextlib.suppress(FileNotFoundError):
                seen |= {path.name for path in folder.rglob("*orbax-checkpoint-tmp*")}
            if len(seen) > skip:
                time.sleep(draw.uniform(0, 0.02))
                break
            time.sleep(0.004)
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
