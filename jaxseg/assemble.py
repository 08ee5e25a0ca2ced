"""From a config to objects: method, optimisers, first state, the protocol of evaluation.

`networks.py` does the same for networks, `batches.py` for data; what they build knows no config and
takes plain keyword arguments.
"""

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from jaxseg import inference, networks, optim
from jaxseg.core import Method, State, init_state
from jaxseg.data import labels, records
from jaxseg.errors import UserError


class Players(NamedTuple):
    """The optimisers, and their schedules for the log; by player."""

    txs: dict[str, Any]
    schedules: dict[str, Callable]


def devices(config: ConfigDict) -> list[jax.Device]:
    """The local devices that are used: as many as the batch can be shared by, or as asked for."""
    settings, local = config.train, jax.local_devices()
    share = settings.batch // settings.accumulate // jax.process_count()
    count = settings.devices or max(
        (n for n in range(1, len(local) + 1) if share % n == 0), default=1
    )
    if not 0 < count <= len(local):
        raise UserError(f"config.train.devices={count}, but there are {len(local)} local devices")
    if settings.batch % (settings.accumulate * jax.process_count() * count):
        raise UserError(
            f"config.train.batch={settings.batch} images cannot be shared by {count} devices of "
            f"{jax.process_count()} processes with {settings.accumulate} micro-batches"
        )
    return local[:count]


def scored(config: ConfigDict) -> list[int] | None:
    """Ids of the classes that mIoU is over; None for all."""
    chosen = config.eval.classes
    return _ids_of(config, "eval.classes", chosen) if chosen else None


def also_scored(config: ConfigDict) -> dict[str, list[int]]:
    """Ids of the classes of every set in `eval.also`, by its name."""
    return {name: _ids_of(config, "eval.also", name) for name in config.eval.also}


def _ids_of(config: ConfigDict, setting: str, chosen: str) -> list[int]:
    names, wanted = label_set(config).classes, labels.by_name(chosen).classes
    unknown = [name for name in wanted if name not in names]
    if unknown:
        raise UserError(
            f"config.{setting}={chosen} has {unknown[0]!r}, which is not among "
            f"config.data.classes={config.data.classes}"
        )
    return [names.index(name) for name in wanted]


def use_compile_cache(config: ConfigDict) -> None:
    """Keeps compiled programs for the next run of the same experiment, unless switched off."""
    if config.compile_cache and not jax.config.jax_compilation_cache_dir:
        folder = records.DEFAULT_DIR.expanduser() / "compiled"
        jax.config.update("jax_compilation_cache_dir", str(folder))


def label_set(config: ConfigDict) -> labels.LabelSet:
    """The classes that are learnt and scored."""
    return labels.by_name(config.data.classes)


def method(config: ConfigDict) -> Method:
    """The training method with its networks closed over."""
    name = config.method.name
    try:
        if name.startswith("_"):
            raise ModuleNotFoundError(name)
        module = importlib.import_module(f"jaxseg.methods.{name}")
    except ModuleNotFoundError as error:
        raise UserError(f"no method {name!r}: there is no jaxseg/methods/{name}.py") from error
    settings = config.method.settings.to_dict()
    if settings.get("mixes", {}).get("copy_blob"):
        settings["copy_pairs"] = _pairs(config, settings.get("copy_pairs", ()))
    else:
        settings.pop("copy_pairs", None)  # nobody asks whether these classes exist
    built = {name: getattr(networks, name)(config) for name in module.NETWORKS}
    if not config.net.aux:  # weights of a level that the network does not have
        for value in settings.values():
            if isinstance(value, dict):
                value.pop("aux", None)
    try:
        return module.make(
            **built,
            num_classes=len(label_set(config).classes),
            statistics=config.net.statistics,
            **settings,
        )
    except (TypeError, ValueError) as error:
        raise UserError(f"method {name}: {error}") from error


def _pairs(config: ConfigDict, pairs: Sequence[Sequence[str]]) -> tuple[tuple[int, int], ...]:
    """Pairs of class names as ids."""
    names = label_set(config).classes
    for pair in pairs:
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise UserError(
                f"config.method.settings.copy_pairs: {pair!r} is not (class copied, class it is "
                "put on)"
            )
        for name in pair:
            if name not in names:
                raise UserError(
                    f"config.method.settings.copy_pairs: {name!r} is not among the classes of "
                    f"config.data.classes={config.data.classes}: {', '.join(names)}"
                )
    return tuple((names.index(first), names.index(second)) for first, second in pairs)


def predictor(config: ConfigDict, method: Method) -> Callable[..., jax.Array]:
    """`method.predict` under the protocol of `config.eval`: flip, scales, window and stride."""
    settings = config.eval
    try:
        return inference.protocol(
            method.predict,
            flip=settings.flip,
            scales=tuple(settings.scales),
            window=tuple(settings.window),
            stride=tuple(settings.stride),
        )
    except ValueError as error:
        raise UserError(f"config.eval.{error}") from error


def optimisers(config: ConfigDict) -> Players:
    """The optimiser and schedule of each player, as `config.optim` says.

    Raises:
      UserError: an unknown optimiser or schedule, settings that do not go together.
    """
    schedules, txs = {}, {}
    for player, settings in config.optim.items():
        name = f"optim.{player}"
        falls = {
            "poly": lambda s=settings: optim.poly(s.lr, s.schedule_steps, s.power),
            "cosine": lambda s=settings: optim.cosine(s.lr, s.schedule_steps),
            "one_cycle": lambda s=settings: optim.one_cycle(s.lr, s.schedule_steps, s.warm),
        }
        schedules[player] = networks.choice(f"{name}.schedule", settings.schedule, falls)()
        shared = dict(
            weight_decay=settings.weight_decay,
            multipliers=networks.rate_multipliers(config) if player == "gen" else (),
            clip=settings.clip,
        )
        makers = {"sgd": _sgd, "adam": _adam}
        make = networks.choice(f"{name}.optimiser", settings.optimiser, makers)
        txs[player] = make(name, settings, schedules[player], shared)
    return Players(txs, schedules)


def _sgd(name, settings, schedule, shared):
    if settings.high_momentum:
        raise UserError(f"config.{name}.high_momentum: the momentum of sgd stays; give 0, or adam")
    repeated = settings.get("repeat_backbone", False)
    repeats = networks.REPEATS if repeated else ()
    return optim.sgd(schedule, momentum=settings.momentum, repeats=repeats, **shared)


def _adam(name, settings, schedule, shared):
    if settings.get("repeat_backbone", False):
        raise UserError(f"config.{name}.repeat_backbone is for --config.{name}.optimiser=sgd")
    betas, cycle = tuple(settings.betas), None
    if settings.high_momentum:
        if settings.schedule != "one_cycle":
            remedy = f"it is for --config.{name}.schedule=one_cycle"
            raise UserError(f"config.{name}.high_momentum={settings.high_momentum}: {remedy}")
        cycle = optim.one_cycle_momentum(
            betas[0], settings.high_momentum, settings.schedule_steps, settings.warm
        )
    return optim.adam(schedule, betas=betas, beta1_schedule=cycle, **shared)


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
    from jaxseg.weights import files, initial, merge  # only when there is a file to read

    loaded = files.load(config.init.backbone)
    made_for = ("3x3", "imagenet")
    if initial.from_torchvision(loaded) and config.net.architecture.startswith("deeplab"):
        ours = (config.net.stride_in, config.net.preprocess)
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


def size_of(name: str, value: Any) -> tuple[int, int]:
    """A (height, width) setting, checked."""
    ok = len(value) == 2 and all(isinstance(v, int) and v > 0 for v in value)
    if not ok:
        raise UserError(f"config.{name}={tuple(value)} is not (height, width)")
    return tuple(value)


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
