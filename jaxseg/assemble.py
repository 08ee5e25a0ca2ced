"""From a config to objects: networks, method, optimisers, batches, first state.

The only file that reads a config; everything below it takes plain keyword arguments.
"""

import functools
import importlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from jaxseg import optim
from jaxseg.core import AXIS, Method, State, init_state
from jaxseg.data import labels, pipeline, records
from jaxseg.errors import UserError
from jaxseg.models import layers
from jaxseg.models.deeplab import DeepLabV2
from jaxseg.models.discriminator import Discriminator
from jaxseg.models.network import Network, network

PREPROCESS = {
    "caffe": functools.partial(layers.preprocess, mean=layers.CAFFE_MEAN_BGR, order="BGR"),
    "imagenet": functools.partial(
        layers.preprocess, mean=layers.IMAGENET_MEAN, std=layers.IMAGENET_STD, order="RGB"
    ),
}
DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


class Players(NamedTuple):
    """The optimisers, and their schedules for the log; by player."""

    txs: dict[str, Any]
    schedules: dict[str, Callable]


def check(config: ConfigDict) -> None:
    """Raises UserError for settings that could not work, before anything is prepared."""
    for side in ("source", "target"):
        size_of(f"data.{side}.size", config.data[side].size)
    settings, devices = config.train, jax.device_count()
    if settings.batch % (devices * settings.accumulate) or settings.batch < 1:
        raise UserError(
            f"config.train.batch={settings.batch} images cannot be shared by {devices} devices "
            f"with {settings.accumulate} micro-batches; use a multiple of "
            f"{devices * settings.accumulate}"
        )
    for name in ("optim.gen.schedule_steps", "optim.disc.schedule_steps"):
        length = config.optim[name.split(".")[1]].schedule_steps
        if length < settings.steps:
            raise UserError(
                f"config.{name}={length} ends before config.train.steps={settings.steps}: the "
                "learning rate would be 0 from there on"
            )


def use_compile_cache(config: ConfigDict) -> None:
    """Keeps compiled programs for the next run of the same experiment, unless switched off."""
    if config.compile_cache and not jax.config.jax_compilation_cache_dir:
        folder = records.DEFAULT_DIR.expanduser() / "compiled"
        jax.config.update("jax_compilation_cache_dir", str(folder))


def label_set(config: ConfigDict) -> labels.LabelSet:
    """The classes that are learnt and scored."""
    return labels.by_name(config.data.classes)


def segmenter(config: ConfigDict, axis_name: str | None = AXIS) -> Network:
    """The task network; `axis_name` None for use outside pmap."""
    net = config.net
    module = DeepLabV2(
        num_classes=len(label_set(config).classes),
        backbone=net.backbone,
        rates=tuple(net.rates),
        summed=net.summed or None,
        stride_in=net.stride_in,
        aux=net.aux,
        norm=net.norm,
        axis_name=axis_name,
        dtype=_choice("net.dtype", net.dtype, DTYPES),
    )
    return network(module, _choice("net.preprocess", net.preprocess, PREPROCESS))


def method(config: ConfigDict) -> Method:
    """The training method with its networks closed over."""
    name = config.method.name
    try:
        module = importlib.import_module(f"jaxseg.methods.{name}")
    except ModuleNotFoundError as error:
        raise UserError(f"no method {name!r}: there is no jaxseg/methods/{name}.py") from error
    settings = config.method.settings.to_dict()
    networks = [segmenter(config)]
    if module.ADVERSARIAL:
        dtype = _choice("disc.dtype", config.disc.dtype, DTYPES)
        networks.append(network(Discriminator(width=config.disc.width, dtype=dtype)))
    if not config.net.aux:  # weights of a level that the network does not have
        for value in settings.values():
            if isinstance(value, dict):
                value.pop("aux", None)
    try:
        return module.make(
            *networks,
            num_classes=len(label_set(config).classes),
            statistics=config.net.statistics,
            **settings,
        )
    except (TypeError, ValueError) as error:
        raise UserError(f"method {name}: {error}") from error


def optimisers(config: ConfigDict) -> Players:
    """SGD for gen, Adam for disc, each with its own poly schedule."""
    gen, disc = config.optim.gen, config.optim.disc
    schedules = {
        "gen": optim.poly(gen.lr, gen.schedule_steps, gen.power),
        "disc": optim.poly(disc.lr, disc.schedule_steps, disc.power),
    }
    txs = {
        "gen": optim.sgd(
            schedules["gen"],
            momentum=gen.momentum,
            weight_decay=gen.weight_decay,
            multipliers=rate_multipliers(config),
            clip=gen.clip,
        ),
        "disc": optim.adam(schedules["disc"], betas=tuple(disc.betas)),
    }
    return Players(txs, schedules)


def rate_multipliers(config: ConfigDict) -> list[tuple[str, float]]:
    """Factors of gen's learning rate by parameter path; see `optim.multiplier_of`."""
    groups = [(r"_head/", config.optim.gen.head_multiplier)]
    if config.net.norm != "train":  # BatchNorm's affine parameters stay as they were loaded
        groups.insert(0, (r"/(\w*bn\d?)/(scale|bias)$", 0.0))
    return groups


def first_state(config: ConfigDict, method: Method, players: Players) -> State:
    """The state at step 0 on the default device; its shapes come from the config's sizes."""
    key = jax.random.PRNGKey(config.seed)
    lowered = jax.jit(lambda k: init_state(method, players.txs, k, example(config))).lower(key)
    # It runs once: on a CPU optimising it takes three times as long as not doing so.
    options = {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else None
    return lowered.compile(compiler_options=options)(key)


def abstract_state(config: ConfigDict, method: Method, players: Players) -> State:
    """Shapes and dtypes of the state, without computing anything."""
    key = jax.ShapeDtypeStruct((2,), jnp.uint32)
    return jax.eval_shape(lambda k: init_state(method, players.txs, k, example(config)), key)


def with_initial_weights(
    config: ConfigDict, state: State, announce: Callable[[str], None]
) -> State:
    """The state with `config.init.backbone` merged into the segmenter, if a file is given."""
    if not config.init.backbone:
        return state
    from jaxseg.weights import files, merge, rename  # only when there is a file to read

    tensors = rename.to_ours(files.load(config.init.backbone))
    excused = tuple(config.init.excused) or rename.BACKBONE_ONLY
    net, stats = jax.device_get((state.params["gen"]["segmenter"], state.stats["segmenter"]))
    net, stats, report = merge.merge(net, stats, tensors, excused=excused)
    announce(str(report))
    gen = {**state.params["gen"], "segmenter": jax.tree.map(jnp.asarray, net)}
    return state._replace(
        params={**state.params, "gen": gen},
        stats={**state.stats, "segmenter": jax.tree.map(jnp.asarray, stats)},
    )


def train_batches(config: ConfigDict, start: int) -> Iterator[dict[str, np.ndarray]]:
    """Host batches of this process from step `start` on, source and target side by side."""
    data, index, count = config.data, jax.process_index(), jax.process_count()
    streams = []
    for prefix, side, keys in (
        ("source", data.source, ("image", "label")),
        ("target", data.target, ("image",)),
    ):
        opened = open_records(config, side, side.split, training=True)
        streams.append(
            pipeline.train_stream(
                opened,
                size=size_of(f"data.{prefix}.size", side.size),
                batch=config.train.batch // count,
                seed=config.seed + (1 if prefix == "target" else 0),
                table=_table(config, opened) if prefix == "source" else None,
                augment=config.augment[prefix].to_dict(),
                shard=(index, count),
                start=start,
                threads=data.threads,
                prefix=prefix,
                keys=keys,
            )
        )
    return pipeline.zip_streams(*streams)


def eval_batches(config: ConfigDict) -> Iterator[dict[str, Any]]:
    """Every labelled validation image of the target once, the last batch padded."""
    target = config.data.target
    opened = open_records(config, target, target.val_split, training=False)
    return pipeline.eval_batches(
        opened,
        size=size_of("data.target.size", target.size),
        batch=config.eval.batch,
        table=_table(config, opened),
        shard=(jax.process_index(), jax.process_count()),
    )


def open_records(config: ConfigDict, side: ConfigDict, split: str, *, training: bool):
    """The records of one side's split, prepared on first use."""
    data = config.data
    stored = side.name == "streets" or (training and data.store_resized)
    return records.open_split(
        side.name,
        split,
        records_dir=data.records or None,
        raw_dir=data.root,
        size=size_of("size", side.size) if stored else None,
        **side.options.to_dict(),
    )


def size_of(name: str, value: Any) -> tuple[int, int]:
    """A (height, width) setting, checked."""
    ok = len(value) == 2 and all(isinstance(v, int) and v > 0 for v in value)
    if not ok:
        raise UserError(f"config.{name}={tuple(value)} is not (height, width)")
    return tuple(value)


def _table(config: ConfigDict, source: records.Source) -> np.ndarray:
    return labels.remap(source.label_set, label_set(config))


def example(config: ConfigDict) -> dict[str, jax.Array]:
    """Zeros in the shapes of a training batch of one."""
    source = size_of("data.source.size", config.data.source.size)
    target = size_of("data.target.size", config.data.target.size)
    return {
        "source_image": jnp.zeros((1, *source, 3), jnp.uint8),
        "source_label": jnp.zeros((1, *source), jnp.uint8),
        "target_image": jnp.zeros((1, *target, 3), jnp.uint8),
    }


def _choice(name: str, value: str, choices: dict[str, Any]) -> Any:
    if value not in choices:
        raise UserError(f"config.{name}={value!r}; choose one of {', '.join(choices)}")
    return choices[value]
