"""What each method costs: time and memory of a training step relative to source only.

    python benchmarks/methods.py                                  # all methods on `streets+scratch`
    python benchmarks/methods.py --rows=source_only,dacs,dacs+mic --steps=9
    python benchmarks/methods.py --preset=gta5_cityscapes --rows=daformer,daformer+hrda --steps=0

A row is a config with modifiers of its own. All rows have the preset's sizes and network but those
with `+hrda`, whose network has a DAFormer head; `source_only+daformer` is source only with that
head. Steps of all rows take turns on noise; without steps (`--steps=0`) programs are only compiled.
CycleGAN and CyCADA have their preset's batch, half of the others'. Time is that of all cores,
which other work on the machine changes least; memory is the peak of the compiled step on one
device, from XLA's analysis.
"""

import argparse
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.memory import configured
from jaxseg.engine import pages

ROWS = (
    *("source_only", "minent", "adaptsegnet", "advent", "advent+mic", "cbst", "dacs", "dacs+mic"),
    *("daformer", "daformer+mic", "source_only+daformer", "dacs+hrda", "fda", "dada", "gio_ada"),
    *("cyclegan", "cycada"),
)


class Row(NamedTuple):
    """One method, ready to step.

    Attributes:
      name: of the row.
      step: takes the next step.
      peak: bytes.
    """

    name: str
    step: Any
    peak: int


def config_of(row: str, preset: str, backbone: str = ""):
    """The config of a row such as 'dacs+mic', on another backbone if one is given."""
    name, *modifiers = row.split("+")
    settings: dict[str, Any] = {}
    if name not in ("cbst", "dacs", "daformer"):  # these have the modifiers themselves
        if "mic" in modifiers:
            settings |= {"mic.weight": 1.0}
        if "daformer" in modifiers:
            settings |= {"net.architecture": "daformer", "net.aux": False, "net.channels": 64}
        modifiers = []
    config = configured(name, "+".join((preset, *modifiers)), settings)
    if config.net.architecture == "daformer":
        config.net.update(dict(rates=None, summed=None, stride_in=None))
    if backbone:
        config.net.backbone = backbone
    return config


def prepared(row: str, preset: str, steps: int, backbone: str) -> Row:
    """Compiles the step of a row."""
    import jax
    import numpy as np

    from jaxseg.engine import programs
    from jaxseg.experiment import batches
    from jaxseg.experiment.method import make_method
    from jaxseg.experiment.optimisers import make_optimisers
    from jaxseg.experiment.state import abstract_state, example, first_state

    config, device = config_of(row, preset, backbone), jax.local_devices()[0]
    config = batches.with_equal_weights(config)  # no label is there to be counted
    method, players = make_method(config), make_optimisers(config)
    rng, batch = np.random.default_rng(0), {}
    for name, one in example(config, method).items():
        if name in method.reads:
            shape, top = (1, config.train.batch, *one.shape[1:]), 19 if "label" in name else 256
            batch[name] = rng.integers(0, top, shape).astype(one.dtype)
    update = programs.pmapped_update(method, players.txs, devices=[device])
    shapes = abstract_state(config, method, players)
    options = programs.KEEP_BARRIERS if jax.default_backend() == "cpu" else {}
    if not steps and options:  # buffers are assigned before code generation
        options = {**options, "xla_backend_optimization_level": 0}
    compiled = update.lower(shapes, batch).compile(compiler_options=options or None)
    found = compiled.memory_analysis()
    held = found.argument_size_in_bytes + found.output_size_in_bytes - found.alias_size_in_bytes
    if not steps:
        return Row(row, None, held + found.temp_size_in_bytes)
    state = [programs.place(first_state(config, method, players), [device])]

    def step():
        state[0], metrics = update(state[0], batch)
        jax.block_until_ready((state[0], metrics))

    return Row(row, step, held + found.temp_size_in_bytes)


def table(rows: list[tuple[str, float | None, int]]) -> list[str]:
    """Lines of Markdown: (name, seconds or None, bytes) of each row, relative to the first."""
    _, first_time, first_peak = rows[0]
    lines = ["| method | step, time of all cores | | peak of the step | |", "|---" * 5 + "|"]
    for name, seconds, peak in rows:
        timed = "| - | - |"
        if seconds is not None:
            timed = f"| {1000 * seconds:.0f} ms | {seconds / first_time:.2f}x |"
        lines.append(f"| {name} {timed} {peak / 2**20:,.0f} MiB | {peak / first_peak:.2f}x |")
    return lines


def main(argv: list[str] | None = None) -> int:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rows", default=",".join(ROWS))
    parser.add_argument("--preset", default="streets+scratch")
    parser.add_argument("--backbone", default="", help="instead of the preset's, such as tiny")
    parser.add_argument("--steps", type=int, default=7, help="steps timed of each row")
    parser.add_argument("--backend", default="cpu", help="as in JAX_PLATFORMS")
    args = parser.parse_args(argv)
    os.environ["JAX_PLATFORMS"] = args.backend
    rows = []
    for name in args.rows.split(","):
        began = time.perf_counter()
        rows.append(prepared(name, args.preset, args.steps, args.backbone))
        if args.steps:
            rows[-1].step()  # the first compiles, or reads the cache
        print(f"{name}: ready in {time.perf_counter() - began:.0f} s", file=sys.stderr)
    times: dict[str, list[float]] = {row.name: [] for row in rows}
    for _ in range(args.steps):
        for row in rows:
            began = time.process_time()
            row.step()
            times[row.name].append(time.process_time() - began)
    medians = {name: statistics.median(own) if own else None for name, own in times.items()}
    print("\n".join(table([(row.name, medians[row.name], row.peak) for row in rows])))
    return 0


if __name__ == "__main__":
    pages.ask()  # as launch.py
    sys.exit(main())
