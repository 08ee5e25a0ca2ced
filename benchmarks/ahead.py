"""Compiles training steps for accelerators that are not there: memory, FLOPs, collectives.

    python benchmarks/ahead.py --platform=cuda --steps=advent:gta5_cityscapes --variants=float32
    python benchmarks/ahead.py --platform=cuda --devices=1,4,8 --steps=advent:gta5_cityscapes
    python benchmarks/ahead.py --platform=tpu --steps=source_only:streets
    python benchmarks/ahead.py --platform=cuda --steps=hrda --variants=bfloat16+remat

For `cuda` install jaxseg[cuda], for `tpu` jaxseg[tpu]; no device and no driver is needed. The step
is the one that trains: traced with the accelerators' own routes, sharded over a mesh of devices
that exist as descriptions only, and compiled by XLA for an H100 or a TPU v5e. Nothing is run and no
data is read. A row takes one to three minutes of one core and up to 3 GiB, `hrda` 13 minutes and 9
GiB. For a TPU XLA is told to optimise least (JAX_EXEC_TIME_OPTIMIZATION_EFFORT=0 for its default).

What the numbers are:

- memory: XLA's assignment of buffers, arguments and temporaries. On CUDA the workspaces of cuDNN,
  which are chosen on the device, are not in it: 0.5 to 2 GiB more.
- FLOPs: counted in the program before XLA's optimisations, of one device's share.
- bound: the larger of FLOPs / peak rate and bytes / bandwidth, where the bytes are the buffers of
  the compiled step, read or written once. No device is faster; how much slower it is is not known
  before it is measured.
"""

import argparse
import functools
import importlib
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

# Dense rates of the data sheets in FLOP/s, bytes/s and bytes. float32 is TF32 on an H100, which
# XLA uses for convolutions by default; a v5e computes products of float32 in bfloat16 passes.
DEVICES = {
    "cuda": dict(
        name="H100 SXM 80 GB", float32=495e12, bfloat16=989e12, bandwidth=3.35e12, memory=80e9
    ),
    "tpu": dict(name="TPU v5e", float32=197e12, bfloat16=197e12, bandwidth=0.82e12, memory=16e9),
}
TOPOLOGIES = {1: "v5e:2x2", 4: "v5e:2x2", 8: "v5e:2x4"}  # of which the first devices are taken
# Kernels cannot be timed without the device. With XLA's defaults a transformer (MiT-B0) was not
# compiled after 300 s; without Triton's matrix products MiT-B5 takes 720 s.
XLA_FLAGS = "--xla_gpu_autotune_level=0 --xla_gpu_enable_triton_gemm=false"
# For a TPU, XLA compiles several times as fast with the least effort (docs/speed.md).
TPU_EFFORT = "-1.0"
VARIANTS = {
    "float32": {},
    "bfloat16": {"net.dtype": "bfloat16", "disc.dtype": "bfloat16"},
    "float32+remat": {"net.remat": True},
    "bfloat16+remat": {"net.dtype": "bfloat16", "disc.dtype": "bfloat16", "net.remat": True},
}
# Of NVIDIA's data sheet and `nvidia-smi`, in the text form of XLA's GpuTargetConfigProto.
H100 = """gpu_device_info {
  threads_per_block_limit: 1024 threads_per_warp: 32 shared_memory_per_block: 49152
  shared_memory_per_core: 233472 threads_per_core_limit: 2048 core_count: 132 fpus_per_core: 128
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  memory_bandwidth: 3352320000000 l2_cache_size: 52428800 clock_rate_ghz: 1.98
  device_memory_size: 84929347584 shared_memory_per_block_optin: 232448
  cuda_compute_capability { major: 9 } registers_per_core_limit: 65536
  registers_per_block_limit: 65536
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 8 }
runtime_version { major: 12 minor: 8 patch: 0 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""


def described_devices(platform: str, count: int) -> list:
    """`count` devices of an H100 node or a TPU v5e slice, without hardware."""
    from jax.experimental import topologies

    if platform == "cuda":
        found = topologies.get_topology_desc(
            platform="cuda", topology=f"1x1x{count}", target_config=H100
        )
    else:
        found = topologies.get_topology_desc(platform="tpu", topology_name=TOPOLOGIES[count])
    return found.devices[:count]


def configured(step: str, variant: str, devices: int):
    """The config of `name[:preset]`, its batch once for each device; `hrda` is MiT-B5 DAFormer at
    two scales on crops of 1024x1024, as HRDA has it, `vfm` VFM-UDA with two of its eight images.
    """
    name, _, preset = step.partition(":")
    if name == "hrda":
        config = importlib.import_module("configs.daformer").get_config("gta5_cityscapes+hrda")
    elif name == "vfm":
        config = importlib.import_module("configs.daformer").get_config("gta5_cityscapes+vfm")
        config.train.batch = 2
    else:
        config = importlib.import_module(f"configs.{name}").get_config(preset or "streets")
    from jaxseg.experiment.batches import with_equal_weights

    config.update_from_flattened_dict(VARIANTS[variant])
    config = with_equal_weights(config)  # what is not trained needs no counts
    config.train.batch *= devices
    return config


def lowered_for(config, devices: list, platform: str):
    """(the lowered update of one device's share, as it is sharded over `devices`; state)."""
    import jax
    import numpy as np
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    from jaxseg import routes
    from jaxseg.engine.method import AXIS
    from jaxseg.engine.update import make_update
    from jaxseg.experiment.method import make_method
    from jaxseg.experiment.optimisers import make_optimisers
    from jaxseg.experiment.state import abstract_state
    from jaxseg.run import describe

    whole, shared = PartitionSpec(), PartitionSpec(AXIS)
    mesh = Mesh(np.array(devices), (AXIS,))

    def placed(tree, spec):
        sharding = NamedSharding(mesh, spec)
        return jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree
        )

    with routes.use({"cuda": "gpu"}.get(platform, platform)):
        method, players = make_method(config), make_optimisers(config)
        state = abstract_state(config, method, players)
        update = jax.shard_map(
            make_update(method, players.txs, config.train.accumulate), mesh=mesh,
            in_specs=(whole, shared), out_specs=(whole, whole), check_vma=False,
        )  # fmt: skip
        arguments = (
            placed(state, whole),
            placed(describe.batch_of(config, method, config.train.batch), shared),
        )
        return jax.jit(update, donate_argnums=0).lower(*arguments), state


def measured(
    step: str, variant: str, platform: str, count: int, count_flops: bool
) -> dict[str, Any]:
    """The numbers of one row."""
    import jax
    import scaling

    config, began = configured(step, variant, count), time.process_time()
    lowered, state = lowered_for(config, described_devices(platform, count), platform)
    flops = flops_of(step, platform) if count_flops else None
    traced = time.process_time()
    compiled = lowered.compile()
    found, chip = compiled.memory_analysis(), DEVICES[platform]
    held = found.argument_size_in_bytes + found.output_size_in_bytes - found.alias_size_in_bytes
    peak = held + found.temp_size_in_bytes
    dtype = variant.split("+")[0]
    state = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    return dict(
        step=step, variant=variant, devices=count, peak=peak, state=state, flops=flops,
        # Of a device with itself, as compiled with little effort, it is no collective.
        collectives=scaling.parsed(compiled.as_text()) if count > 1 else {},
        by_rate=(flops or 0) / chip[dtype], by_bandwidth=peak / chip["bandwidth"],
        traced=traced - began, compiled=time.process_time() - traced,
    )  # fmt: skip


@functools.cache
def flops_of(step: str, platform: str) -> float:
    """FLOPs of one device's share, counted before optimisation; without `remat`, whose second
    forward pass is not work that a step needs.
    """
    import jax

    lowered, _ = lowered_for(configured(step, "float32", 1), jax.devices("cpu")[:1], platform)
    return lowered.cost_analysis()["flops"]


def rows(args) -> Iterator[tuple[str, str, int]]:
    for step in args.steps.split(","):
        for variant in args.variants.split(","):
            for count in args.devices.split(","):
                yield step, variant, int(count)


def row(found: dict[str, Any]) -> str:
    """One line of the table."""
    count, volume = found["collectives"].get("all-reduce", (0, 0))
    others = [kind for kind in found["collectives"] if kind != "all-reduce"]
    shared = f"{count} x all-reduce, {volume / 1e6:.0f} MB" if count else "none"
    flops = f"{found['flops'] / 1e12:.2f}" if found["flops"] else "-"
    bound = max(found["by_rate"], found["by_bandwidth"])
    what = "rate" if found["by_rate"] >= found["by_bandwidth"] else "bandwidth"
    limit = f"{1e3 * bound:.1f} ({what})" if found["flops"] else "-"
    return (
        f"| {found['step']} | {found['variant']} | {found['devices']} "
        f"| {found['peak'] / 2**20:,.0f} | {found['state'] / 2**20:,.0f} "
        f"| {flops} | {' and '.join([shared, *others])} "
        f"| {limit} | {found['traced']:.0f} + {found['compiled']:.0f} |"
    )


def main(argv: list[str] | None = None) -> int:
    """Prints the table, each row as soon as it is compiled."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--platform", choices=list(DEVICES), default="cuda")
    parser.add_argument(
        "--steps", default="advent:gta5_cityscapes", help="config:preset, hrda or vfm"
    )
    parser.add_argument("--variants", default=",".join(VARIANTS))
    parser.add_argument("--devices", default="1", help="numbers of devices, of 1, 4, 8")
    parser.add_argument("--no_flops", action="store_true", help="which takes a second tracing")
    parser.add_argument("--json", help="a file that gets each row's numbers as a line")
    args = parser.parse_args(argv)
    for variant in args.variants.split(","):
        if variant not in VARIANTS:
            parser.error(f"unknown variant {variant}; choose of {', '.join(VARIANTS)}")
    os.environ |= {
        "JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": "-1", "TPU_SKIP_MDS_QUERY": "1",
        "TPU_WORKER_HOSTNAMES": "localhost", "TPU_ACCELERATOR_TYPE": "v5litepod-4",
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    }  # fmt: skip
    if args.platform == "cuda":
        os.environ.setdefault("XLA_FLAGS", XLA_FLAGS)
    else:
        os.environ.setdefault("JAX_EXEC_TIME_OPTIMIZATION_EFFORT", TPU_EFFORT)
    print(f"One device's share of a step on {DEVICES[args.platform]['name']}; compiled, not run")
    print("| step | variant | devices | peak MiB | of it state | TFLOP | collectives "
          "| bound ms (by) | trace + compile, core s |")  # fmt: skip
    print("|---" * 9 + "|", flush=True)
    for step, variant, count in rows(args):
        found = measured(step, variant, args.platform, count, not args.no_flops)
        print(row(found), flush=True)
        if args.json:
            with open(args.json, "a") as file:
                file.write(json.dumps(found) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
