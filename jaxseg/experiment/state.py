"""From a config to the first state of a training, or its shapes."""

from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from jaxseg.engine.method import Method, State
from jaxseg.engine.update import init_state
from jaxseg.experiment.optimisers import Players
from jaxseg.experiment.settings import size_of


def first_state(config: ConfigDict, method: Method, players: Players) -> State:
    """The state at step 0 on the default device; its shapes come from the config's sizes."""
    return first_states(config, method, players, (config.seed,))[0]


def first_states(
    config: ConfigDict, method: Method, players: Players, seeds: Sequence[int]
) -> list[State]:
    """The same for each of several seeds."""
    keys = [jax.random.PRNGKey(seed) for seed in seeds]
    batch = example(config, method)
    lowered = jax.jit(lambda k: init_state(method, players.txs, k, batch)).lower(keys[0])
    # It runs once: on a CPU optimising it takes three times as long as not doing so.
    options = {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else None
    compiled = lowered.compile(compiler_options=options)
    return [compiled(key) for key in keys]


def abstract_state(config: ConfigDict, method: Method, players: Players) -> State:
    """Shapes and dtypes of the state, without computing anything."""
    key = jax.ShapeDtypeStruct((2,), jnp.uint32)
    batch = example(config, method)
    return jax.eval_shape(lambda k: init_state(method, players.txs, k, batch), key)


def with_initial_weights(
    config: ConfigDict, state: State, workdir: str, announce: Callable[[str], None]
) -> State:
    """The state with `config.init.backbone` merged into the segmenter, if a file is given.

    What was matched, left over and missing is announced, name by name in initial_weights.txt.
    """
    if not config.init.backbone:
        return state
    from jaxseg.storage.weights import (
        files,
        initial,
        merge,  # only when there is a file to read
    )

    loaded = files.load(config.init.backbone)
    made_for = ("3x3", "imagenet")
    if initial.from_torchvision(loaded) and config.net.architecture.startswith("deeplab"):
        ours = (config.net.stride_in or made_for[0], config.net.preprocess)
        if ours != made_for:
            announce(
                f"warning: {config.init.backbone} looks like torchvision's, made for "
                "--config.net.stride_in=3x3 --config.net.preprocess=imagenet"
            )
    tensors = initial.to_ours(loaded, config.net.architecture)
    excused = tuple(config.init.excused) or initial.excused(config.net.architecture)
    net, stats = jax.device_get((state.params["gen"]["segmenter"], state.stats["segmenter"]))
    net, stats, report = merge.merge(net, stats, tensors, excused=excused)
    announce(str(report))
    Path(workdir, "initial_weights.txt").write_text(report.text())
    gen = {**state.params["gen"], "segmenter": jax.tree.map(jnp.asarray, net)}
    return state._replace(
        params={**state.params, "gen": gen},
        stats={**state.stats, "segmenter": jax.tree.map(jnp.asarray, stats)},
    )


def example(config: ConfigDict, method: Method) -> dict[str, jax.Array]:
    """Zeros in the shapes of a training batch of one, and what else the method reads."""
    source = size_of("data.source.size", config.data.source.size)
    target = size_of("data.target.size", config.data.target.size)
    batch = {
        "source_image": jnp.zeros((1, *source, 3), jnp.uint8),
        "source_label": jnp.zeros((1, *source), jnp.uint8),
        "target_image": jnp.zeros((1, *target, 3), jnp.uint8),
    }
    if "source_depth" in method.reads:
        batch["source_depth"] = jnp.zeros((1, *source), jnp.float32)
    return batch
