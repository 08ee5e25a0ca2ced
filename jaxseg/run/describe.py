"""`--mode=describe`: parameters, operations and memory of a config; trains nothing."""

from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict
from rich.console import Console
from rich.table import Table

from jaxseg import routes
from jaxseg.engine import programs
from jaxseg.engine.method import Method
from jaxseg.experiment import batches, check, settings
from jaxseg.experiment.optimisers import Players
from jaxseg.experiment.state import abstract_state, example


def describe(config: ConfigDict, console: Console | None = None) -> dict[str, Any]:
    """Prints what a training step of a config is made of and takes.

    - parameters, of each network of each player, and the bytes of the whole state;
    - floating-point operations of a step and of the prediction of one image, counted by XLA in the
      program before its optimisations, with plain convolutions;
    - memory of a step on one local device, as XLA assigns it; compiles the step. A CPU's buffers
      say little about a GPU's: `benchmarks/ahead.py` compiles for one.

    Returns:
      {'parameters': {'gen/segmenter': n}, 'state_bytes', 'step_flops', 'predict_flops' of one
      image, 'step_bytes'}.

    Raises:
      UserError: a mistake in the settings.
    """
    console = console or Console()
    config = batches.with_equal_weights(config)  # nothing is trained
    checked = check.check(config)
    check.check_cycle(config)
    method, players = checked.method, checked.players
    settings.use_compile_cache(config)
    state = abstract_state(config, method, players)
    net, data = config.net, config.data
    sizes = " and ".join(
        f"{side} {'x'.join(map(str, _size(config, side)))}" for side in ("source", "target")
    )
    console.print(
        f"{config.name}: {config.method.name}, {net.architecture} of {net.backbone}, "
        f"{len(settings.label_set(config).classes)} classes, {net.dtype}"
        f"{' with remat' if net.remat else ''}; batch {config.train.batch} of {sizes}",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    found: dict[str, Any] = {
        "parameters": {
            f"{player}/{name}": _count(tree)
            for player, trees in state.params.items()
            for name, tree in trees.items()
        },
        "state_bytes": _bytes(state),
    }
    table = Table("", "parameters", title_justify="left")
    table.columns[1].justify = "right"
    for name, count in found["parameters"].items():
        table.add_row(name, f"{count:,}")
    console.print(table)
    parts = {"parameters": state.params, "optimisers": state.opt, "memory": state.memory}
    told = ", ".join(f"{name} {_bytes(tree) / 1e6:,.1f}" for name, tree in parts.items())
    console.print(f"state: {found['state_bytes'] / 1e6:,.1f} MB ({told})", highlight=False)
    found |= flops(config, method, players)
    height, width = settings.size_of("data.target.size", data.target.size)
    console.print(
        f"a step: {_told(found['step_flops'])}; prediction of an image of {height}x{width}: "
        f"{_told(found['predict_flops'])}",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    found["step_bytes"] = step_bytes(config, method, players)
    device = jax.local_devices()[0]
    console.print(
        f"memory of a step on one {device.device_kind} device: {found['step_bytes'] / 1e6:,.0f} MB",
        highlight=False,
    )
    return found


def batch_of(config: ConfigDict, method: Method, count: int) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes of a training batch of `count` images of each domain, after cropping."""
    return {
        name: jax.ShapeDtypeStruct(
            (count, *_size(config, name.split("_")[0]), *x.shape[3:]), x.dtype
        )
        for name, x in example(config, method).items()
        if name in method.reads
    }


def _size(config, side):
    crop = config.augment[side].get("crop")
    return tuple(crop) if crop else settings.size_of(f"data.{side}.size", config.data[side].size)


def flops(config: ConfigDict, method: Method, players: Players) -> dict[str, float | None]:
    """'step_flops' of the whole batch and 'predict_flops' of one image; None if not counted."""
    state = abstract_state(config, method, players)
    with routes.use("gpu"):  # without the zeros and copies of the CPU's own routes
        step = programs.pmapped_update(method, players.txs, devices=jax.local_devices()[:1])
        batch = batch_of(config, method, config.train.batch)
        lowered = step.lower(state, {k: _on_one_device(x) for k, x in batch.items()})
        size = settings.size_of("data.target.size", config.data.target.size)
        image = jax.ShapeDtypeStruct((1, *size, 3), np.uint8)
        predict = jax.jit(lambda *given: method.predict(*given))  # traced anew, for this route
        predicted = predict.lower(state.params, state.stats, state.memory, image)
    return {"step_flops": counted(lowered), "predict_flops": counted(predicted)}


def step_bytes(config: ConfigDict, method: Method, players: Players) -> int:
    """Bytes that a step holds at its peak on one local device, state and batch included."""
    state = abstract_state(config, method, players)
    share = config.train.batch // len(settings.devices(config)) // jax.process_count()
    batch = {k: _on_one_device(x) for k, x in batch_of(config, method, share).items()}
    update = programs.pmapped_update(
        method, players.txs, config.train.accumulate, devices=jax.local_devices()[:1]
    )
    options = None
    if jax.default_backend() == "cpu":  # buffers are assigned before code is generated
        options = {**programs.KEEP_BARRIERS, "xla_backend_optimization_level": 0}
    found = update.lower(state, batch).compile(compiler_options=options).memory_analysis()
    held = found.argument_size_in_bytes + found.output_size_in_bytes - found.alias_size_in_bytes
    return held + found.temp_size_in_bytes


def _on_one_device(x: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((1, *x.shape), x.dtype)


def counted(lowered: Any) -> float | None:
    """Floating-point operations of a lowered program; None where the backend does not count."""
    found = lowered.cost_analysis()
    found = found[0] if isinstance(found, list) else found
    return found.get("flops") if found else None


def _told(count: float | None) -> str:
    if count is None:
        return "FLOP not counted by this backend"
    return f"{count / 1e12:.2f} TFLOP" if count >= 1e11 else f"{count / 1e9:.2f} GFLOP"


def _count(tree: Any) -> int:
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))


def _bytes(tree: Any) -> int:
    return sum(int(np.prod(x.shape)) * x.dtype.itemsize for x in jax.tree.leaves(tree))
