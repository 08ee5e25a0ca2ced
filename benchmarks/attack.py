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
- signals: Ctrl-C and SIGTERM at each moment of the start end a training with one line, exit code
  130 or 143; the second one within 3 s, also while XLA compiles.
- disk: a training whose disk is full ends in one line, and its last whole checkpoint is still read
  (needs root, for a small tmpfs).

It prints a table; the exit code is 1 if anything else happened.
"""

import argparse
import contextlib
import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from attack import readers

from benchmarks.attack_counts import Counts, Share, environment, until
from benchmarks.attack_files import flips, full_disks
from benchmarks.attack_runs import FAMILIES, kills
from benchmarks.attack_signals import signals


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--tries", type=int, default=10**9, help="the most of each part or family")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--only", default="readers,kills,flips,signals,disk", help="parts, by commas"
    )
    parser.add_argument("--families", default=",".join(FAMILIES), help="of kills, by commas")
    parser.add_argument("--folder", type=Path, help="keeps runs, programs and counts between calls")
    given = parser.parse_args()
    parts, families = given.only.split(","), given.families.split(",")
    share = Share(60 * given.minutes / len(parts), given.tries)
    with contextlib.ExitStack() as opened:
        base = given.folder or Path(opened.enter_context(tempfile.TemporaryDirectory()))
        base.mkdir(parents=True, exist_ok=True)
        counts = Counts(base / "ends.json")
        # A further call with the same folder goes on, instead of trying the same again.
        draw = random.Random(f"{given.seed} {counts.all}")
        if "readers" in parts:
            mutate(counts, draw, share)
        for family in families if "kills" in parts else ():
            each = share._replace(seconds=share.seconds / len(families))
            kills(counts, base, family, draw, each)
        if "flips" in parts:
            flips(counts, base, draw, share)
        if "signals" in parts:
            signals(counts, base, draw, share)
        if "disk" in parts:
            full_disks(counts, base, draw, share)
    print(f"\n{'attack':28} {'tries':>6}  ends")
    for name, ends in counts.all.items():
        said = ", ".join(f"{end} {count}" for end, count in sorted(ends.items()))
        print(f"{name:28} {sum(ends.values()):6}  {said}")
    return int(counts.wrong)


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


if __name__ == "__main__":
    sys.exit(main())
