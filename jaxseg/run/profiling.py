"""`--profile=STEPS`: a trace of some training steps, and which operations took their time."""

import json
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax

from jaxseg.storage import run_folder

SKIPPED = 2  # steps before the trace: compilation, and what the first step warms up
DEAREST = 10
FOLDER = "profile"


class Operation(NamedTuple):
    """An operation of a compiled program: its name, how often it ran, and its seconds in all."""

    name: str
    count: int
    seconds: float


def traced(
    updates: Mapping[str, Callable], steps: int, workdir: str, announce: Callable[[str], None]
) -> dict[str, Callable]:
    """The same updates; those of `steps` steps, after a few, are traced.

    JAX's trace is written to <workdir>/profile (TensorBoard and Perfetto read it), and the dearest
    operations are announced and written to <workdir>/profile/operations.json.

    Args:
      updates: (states, batch) -> (states, metrics) by phase.
      steps: number of steps to trace, 1 or more.
      workdir: of the run.
      announce: called with one line of text.
    """
    calls, folder = 0, Path(workdir, FOLDER)

    def around(update: Callable) -> Callable:
        def call(state: Any, batch: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == SKIPPED + 1:
                jax.block_until_ready(state)
                jax.profiler.start_trace(str(folder))
            found = update(state, batch)
            if calls == SKIPPED + steps:
                jax.block_until_ready(found)
                jax.profiler.stop_trace()
                _tell(folder, steps, announce)
            return found

        return call

    return {phase: around(update) for phase, update in updates.items()}


def _tell(folder: Path, steps: int, announce: Callable[[str], None]) -> None:
    found = operations(folder)
    total = sum(each.seconds for each in found)
    listed = [each._asdict() for each in found]
    run_folder.write_text(folder / "operations.json", json.dumps(listed, indent=1))
    announce(f"trace of {steps} steps in {folder}; the dearest of {len(found)} operations:")
    for each in found[:DEAREST]:
        announce(
            f"  {each.seconds / total:6.1%}  {1e3 * each.seconds / steps:9.2f} ms a step  "
            f"{each.count / steps:5.0f} times  {each.name}"
        )


def operations(folder: str | Path) -> list[Operation]:
    """The operations of the newest trace in a folder, the dearest first.

    Time of an operation that contains others, such as a loop, is counted in both.
    """
    path = max(Path(folder).glob("plugins/profile/*/*.xplane.pb"), key=lambda p: p.stat().st_mtime)
    counts: dict[str, int] = defaultdict(int)
    nanoseconds: dict[str, float] = defaultdict(float)
    for plane in jax.profiler.ProfileData.from_file(str(path)).planes:
        for line in plane.lines:
            for event in line.events:
                name = dict(event.stats).get("hlo_op")
                if name:
                    counts[name] += 1
                    nanoseconds[name] += event.duration_ns
    found = [Operation(name, counts[name], time / 1e9) for name, time in nanoseconds.items()]
    return sorted(found, key=lambda each: -each.seconds)
