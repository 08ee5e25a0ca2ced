"""Parts of `attack.py`: Ctrl-C and SIGTERM at each moment of a training's start."""

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from benchmarks.attack_counts import ROOT, Counts, Share, environment, until
from benchmarks.attack_runs import SMALL

# Says when a module is first asked for, and then is `launch.py`.
SOURCE = """
import os, runpy, sys
def hear(event, arguments):
    if event == "import" and arguments[0] in {modules!r}:
        os.write(1, f"import {{arguments[0]}}\\n".encode())
sys.addaudithook(hear)
sys.argv[0] = "launch.py"
sys.path.insert(0, os.getcwd())
runpy.run_path("launch.py", run_name="__main__")
"""
# What a process says at the beginning of each moment, and how many seconds it lasts at least.
MOMENTS = {
    "the first modules are imported": ("import jaxseg", 0.1),
    "the config is read": ("import ml_collections", 0.3),
    "JAX is imported": ("import jax", 0.3),
    "data are prepared": ("import jaxseg.data.conversion.render", 0.3),
    "the first state is made": ("import jaxseg.report.compare", 1.0),
    "XLA compiles": ("compiling", 2.0),
    "steps are taken": ("step 1/", 0.1),
}
CODES = {"Ctrl-C": 130, "SIGTERM": 143}
GAP, SOON = 0.4, 3.0  # seconds between two signals, and after the second one


def signals(counts: Counts, base: Path, draw: random.Random, share: Share) -> None:
    """One signal at each moment, and two; nothing is compiled or prepared before."""
    tries = [(moment, names) for moment in MOMENTS for names in ONE]
    tries += [("XLA compiles", names) for names in TWO]
    tried = sum(sum(e.values()) for name, e in counts.all.items() if " while " in name)
    for number in until(share):
        moment, names = tries[(tried + number) % len(tries)]
        counts.add(f"{', '.join(names)} while {moment}", one(base / "signals", moment, names, draw))


ONE, TWO = (("SIGTERM",), ("Ctrl-C",)), (("Ctrl-C", "Ctrl-C"), ("Ctrl-C", "SIGTERM"))


def one(base: Path, moment: str, names: tuple[str, ...], draw: random.Random) -> str:
    """Starts a training and sends signals; how it ended."""
    shutil.rmtree(base, ignore_errors=True)
    said, lasts = MOMENTS[moment]
    modules = [text.removeprefix("import ") for text, _ in MOMENTS.values()]
    command = [sys.executable, "-u", "-c", SOURCE.format(modules=modules),
               "--config=configs/advent.py:streets+scratch", *SMALL, "--config.compile_cache=False",
               f"--config.data.records={base / 'records'}",
               f"--workdir={base / 'run'}"]  # fmt: skip
    process = subprocess.Popen(command, cwd=ROOT, env=environment(), text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               start_new_session=True)  # fmt: skip
    for line in process.stdout:
        if said in line:
            break
    rest = threading.Thread(target=process.stdout.read)
    rest.start()
    time.sleep(draw.uniform(0, lasts))
    for number, name in enumerate(names):
        if number:
            time.sleep(GAP)
        if process.poll() is not None:
            break
        send(process, name)
    sent = time.monotonic()
    errors = process.stderr.read()
    code, seconds = process.wait(), time.monotonic() - sent
    rest.join()
    return judged(code, seconds, errors, names)


def send(process: subprocess.Popen, name: str) -> None:
    """SIGTERM to the process; Ctrl-C as a terminal does, to its children as well."""
    if name == "Ctrl-C":
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.terminate()


def judged(code: int, seconds: float, errors: str, names: tuple[str, ...]) -> str:
    """The end in words; WRONG if it is not as promised."""
    soon = next((s for s in (1, 3, 10, 30, 100) if seconds < s), 1000)
    end = f"{code}, {len(errors.splitlines())} lines, within {soon} s"
    wanted = {CODES[name] for name in names}
    if code == 0:
        return "had finished"
    late = len(names) == 2 and seconds > SOON
    if code in (-signal.SIGINT, -signal.SIGTERM) and len(names) == 1 and not errors:
        return f"ended by the signal, within {soon} s"  # which a shell tells as 130 or 143
    if code not in wanted or "Traceback" in errors or late:
        return f"WRONG: {end}, {errors.strip()[-150:]!r}"
    return end
