"""`--profile=STEPS`: a trace of some training steps, and which operations took their time."""

import json
import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax

from jaxseg.errors import UserError
from jaxseg.storage import run_folder

SKIPPED = 2  # whole updates before the trace: compilation, and what the first one warms up
DEAREST = 10
FOLDER = "profile"
# Of a line of a compiled program: what an operation is called, and what it computes.
NAMED = re.compile(r'^ *(?:ROOT )?%?([\w.-]+) = .*metadata=\{[^}]*op_name="([^"]*)"', re.M)


class Operation(NamedTuple):
    """An operation of a compiled program.

    Attributes:
      name: the compiler's.
      count: how often it ran.
      seconds: in all.
      what: the part of the network or update that it is of; '' if that is not known.
    """

    name: str
    count: int
    seconds: float
    what: str = ""


def traced(
    updates: Mapping[str, Callable],
    steps: int,
    left: int,
    workdir: str,
    announce: Callable[[str], None],
    parts: Mapping[str, str] | None = None,
) -> dict[str, Callable]:
    """The same updates; `steps` of the whole ones, after the first two, are traced.

    JAX's trace is written to <workdir>/profile (TensorBoard and Perfetto read it), and the dearest
    operations are announced and written to <workdir>/profile/operations.json. An evaluation between
    two of these steps is in both.

    Args:
      updates: (states, batch) -> (states, metrics) by phase; the last phase is traced.
      steps: number of steps to trace, 1 or more.
      left: number of steps of the last phase that will be taken.
      workdir: of the run.
      announce: called with one line of text.
      parts: see `parts_of`; it may be filled when the update is compiled.

    Raises:
      UserError: too few steps are left.
    """
    if left < steps + SKIPPED:
        raise UserError(
            f"--profile={steps} needs {steps + SKIPPED} steps after the warm-up, as the first "
            f"{SKIPPED} are not traced, but {max(left, 0)} are left: raise config.train.steps"
        )
    calls, folder = 0, Path(workdir, FOLDER)
    phase = list(updates)[-1]

    def call(state: Any, batch: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == SKIPPED + 1:
            jax.block_until_ready(state)
            jax.profiler.start_trace(str(folder))
        with jax.profiler.StepTraceAnnotation("train", step_num=calls):
            found = updates[phase](state, batch)
        if calls == SKIPPED + steps:
            jax.block_until_ready(found)
            jax.profiler.stop_trace()
            _tell(operations(folder, parts), folder, steps, announce)
        return found

    return {**updates, phase: call}


def parts_of(compiled: Any) -> dict[str, str]:
    """{an operation's name: the part of the network or update that it computes}.

    Args:
      compiled: a `jax.stages.Compiled`, whose text names the parts as JAX traced them.
    """
    found = NAMED.findall(compiled.as_text())
    return {name: re.sub(r"^jit\(\w*\)/", "", what) for name, what in found}


def _tell(found, folder: Path, steps: int, announce: Callable[[str], None]) -> None:
    total = sum(each.seconds for each in found)
    listed = [each._asdict() for each in found]
    run_folder.write_text(folder / "operations.json", json.dumps(listed, indent=1))
    announce(
        f"trace of {steps} steps in {folder}; the dearest of {len(found)} operations, "
        f"{1e3 * total / steps:,.0f} ms a step over all threads:"
    )
    for each in found[:DEAREST]:
        announce(
            f"  {each.seconds / total:6.1%}  {1e3 * each.seconds / steps:9.2f} ms a step  "
            f"{each.count / steps:4.0f} times  {each.name}  {each.what}".rstrip()
        )


def operations(folder: str | Path, parts: Mapping[str, str] | None = None) -> list[Operation]:
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
    found = [
        Operation(name, counts[name], time / 1e9, (parts or {}).get(name, ""))
        for name, time in nanoseconds.items()
    ]
    return sorted(found, key=lambda each: -each.seconds)
