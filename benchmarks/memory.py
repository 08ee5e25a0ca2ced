"""Peak bytes of the compiled training step, preset by preset, from XLA's memory analysis.

    python benchmarks/memory.py
    python benchmarks/memory.py --presets=streets+scratch --configs=advent,minent
    python benchmarks/memory.py --presets=gta5_cityscapes --variants=float32,remat
    python benchmarks/memory.py --backend=cuda

Nothing is run and no data is read: each preset's full update is compiled for one device with its
own sizes, batch and networks, once unchanged and once per variant. The peak includes the state
(updated in place), the batch and all temporary buffers.
"""

import argparse
import importlib
import os
import sys
import time
from pathlib import Path

from jaxseg.experiment.batches import with_equal_weights
from jaxseg.experiment.method import make_method
from jaxseg.experiment.optimisers import make_optimisers
from jaxseg.experiment.state import abstract_state, example

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

VARIANTS = {
    "float32": {},
    "remat": {"net.remat": True},
    "bfloat16": {"net.dtype": "bfloat16", "disc.dtype": "bfloat16"},
    "bfloat16+remat": {"net.remat": True, "net.dtype": "bfloat16", "disc.dtype": "bfloat16"},
}


def configured(name: str, preset: str, settings: dict):
    """Returns `configs/<name>.py:<preset>` with some settings changed."""
    config = importlib.import_module(f"configs.{name}").get_config(preset)
    config.update_from_flattened_dict(settings)
    return config


def peak_bytes(config) -> dict[str, int]:
    """Returns 'peak' of the full step and its parts 'temporaries' and 'state', bytes per device."""
    import jax  # after the backend is chosen

    from jaxseg.engine import programs

    config = with_equal_weights(config)  # what is not trained needs no counts
    method, players = make_method(config), make_optimisers(config)
    state = abstract_state(config, method, players)
    count = config.train.batch
    batch = {
        name: jax.ShapeDtypeStruct((1, count, *x.shape[1:]), x.dtype)
        for name, x in example(config, method).items()
    }
    update = programs.pmapped_update(
        method, players.txs, config.train.accumulate, devices=jax.local_devices()[:1]
    )
    # Buffers are assigned before code generation, whose quality does not matter here.
    options = None
    if jax.default_backend() == "cpu":
        options = {**programs.KEEP_BARRIERS, "xla_backend_optimization_level": 0}
    found = update.lower(state, batch).compile(compiler_options=options).memory_analysis()
    held = found.argument_size_in_bytes + found.output_size_in_bytes - found.alias_size_in_bytes
    return dict(
        peak=held + found.temp_size_in_bytes,
        temporaries=found.temp_size_in_bytes,
        state=sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state)),
    )


def main(argv: list[str] | None = None) -> int:
    """Prints a table, each line as soon as its programs are compiled."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--presets", default="streets+scratch,gta5_cityscapes,synthia_cityscapes")
    parser.add_argument("--configs", default="advent")
    parser.add_argument("--variants", default=",".join(VARIANTS))
    parser.add_argument("--backend", default="cpu", help="target platform, as in JAX_PLATFORMS")
    args = parser.parse_args(argv)
    os.environ["JAX_PLATFORMS"] = args.backend
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    variants = args.variants.split(",")
    if unknown := [v for v in variants if v not in VARIANTS]:
        parser.error(f"unknown variant {unknown[0]}; choose of {', '.join(VARIANTS)}")
    print(f"MiB at the peak of a step on one {args.backend} device, and against "
          f"{variants[0]}")  # fmt: skip
    print(f"| config | {' | '.join(variants)} | of it parameters and optimisers |")
    print("|---" * (len(variants) + 2) + "|", flush=True)
    for name in args.configs.split(","):
        for preset in args.presets.split(","):
            cells, first = [], None
            for variant in variants:
                began = time.perf_counter()
                found = peak_bytes(configured(name, preset, VARIANTS[variant]))
                first = first or found["peak"]
                change = f" ({found['peak'] / first - 1:+.0%})" if cells else ""
                cells.append(f"{found['peak'] / 2**20:,.0f}{change}")
                print(f"{name}:{preset} {variant}: compiled in {time.perf_counter() - began:.0f} s",
                      file=sys.stderr)  # fmt: skip
            print(f"| {name}:{preset} | {' | '.join(cells)} | {found['state'] / 2**20:,.0f} |",
                  flush=True)  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
