"""Builds the initial training state, or its shapes, from a config."""

from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from jaxseg.engine import piecewise
from jaxseg.engine.method import Method, State
from jaxseg.engine.update import init_state
from jaxseg.errors import UserError
from jaxseg.experiment.optimisers import Players
from jaxseg.experiment.settings import size_of
from jaxseg.storage.weights import packaged

FILE = "initial_weights.txt"  # in a run's folder: what it began with
RANDOM = "initial weights: none, the network begins with random values"


def first_state(config: ConfigDict, method: Method, players: Players) -> State:
    """The state at step 0, on the host."""
    return first_states(config, method, players, (config.seed,))[0]


def first_states(
    config: ConfigDict, method: Method, players: Players, seeds: Sequence[int]
) -> list[State]:
    """The states at step 0 for several seeds, on the host; see `piecewise`."""
    batch = example(config, method)

    def first(key):
        return init_state(method, players.txs, key, batch)

    return [piecewise.evaluated(first, jax.random.PRNGKey(seed)) for seed in seeds]


def abstract_state(config: ConfigDict, method: Method, players: Players) -> State:
    """Shapes and dtypes of the initial state; computes nothing."""
    key = jax.ShapeDtypeStruct((2,), jnp.uint32)
    batch = example(config, method)
    return jax.eval_shape(lambda k: init_state(method, players.txs, k, batch), key)


def with_initial_weights(
    config: ConfigDict, state: State, workdir: str, announce: Callable[[str], None]
) -> State:
    """The state with the weights of `config.init.backbone`, if set, merged into the segmenter.

    The setting is a file, or the name of a backbone whose weights an installed package contains.
    The file, its checksum and licence, and the matched, unused and missing tensors are announced;
    initial_weights.txt lists every tensor.

    Raises:
      UserError: no such file or package, or weights that do not fit.
    """
    if not config.init.backbone:
        announce(f"{RANDOM} (config.init.backbone)")
        Path(workdir, FILE).write_text(f"{RANDOM}\n")
        if config.method.settings.get("feature_distance"):
            announce(
                "note: config.init.backbone is empty, so method.settings.feature_distance keeps "
                "the network near random features: give ImageNet's weights, or 0"
            )
        return state
    from jaxseg.storage.weights import initial, merge  # only when there is a file to read

    loaded, origin = _loaded(config)
    architecture = config.net.architecture
    if initial.from_torchvision(loaded) and architecture.startswith("deeplab"):
        _warn_of(config, {"stride_in": "3x3", "preprocess": "imagenet"}, "torchvision's", announce)
    if initial.from_efficientnet(loaded):
        _warn_of(config, {"preprocess": "imagenet"}, "EfficientNet-Lite's", announce)
    if initial.from_transformer(loaded):
        _check_size(config, loaded)
        _warn_of(config, {"preprocess": "imagenet"}, "a transformer's", announce)
    if initial.from_hed(loaded):
        _warn_of(config, {"preprocess": "caffe"}, "HED's VGG-16", announce)
    tensors = initial.to_ours(loaded, architecture)
    excused = tuple(config.init.excused) or initial.excused(architecture, loaded)
    net, stats = jax.device_get((state.params["gen"]["segmenter"], state.stats["segmenter"]))
    net, stats, report = merge.merge(net, stats, tensors, excused=excused)
    announce(f"{origin}\n{report}")
    Path(workdir, FILE).write_text(f"{origin}\n\n{report.text()}")
    gen = {**state.params["gen"], "segmenter": jax.tree.map(jnp.asarray, net)}
    return state._replace(
        params={**state.params, "gen": gen},
        stats={**state.stats, "segmenter": jax.tree.map(jnp.asarray, stats)},
    )


def check_weights(config: ConfigDict) -> None:
    """Says that the weights of `config.init.backbone` are not there before anything is prepared.

    Raises:
      UserError: no such file, or a package that is not installed or holds another file.
    """
    name = str(config.init.backbone)
    if name in packaged.FILES:
        packaged.find(name)
    elif name and not Path(name).expanduser().is_file():
        raise UserError(f"{name}: no such weights file")


def _loaded(config):
    """(the tensors of `config.init.backbone`, one line about its origin)."""
    from jaxseg.storage.weights import files

    name = str(config.init.backbone)
    if name not in packaged.FILES:
        path = Path(name).expanduser()
        checksum = packaged.checksum(path) if path.is_file() else "?"
        return files.load(path), f"initial weights: {path}, sha256 {checksum}, licence unknown"
    source = packaged.FILES[name]
    if config.net.backbone not in source.backbones:
        raise UserError(
            f"config.init.backbone={name} holds weights of the backbone "
            f"{' and '.join(source.backbones)}, not of config.net.backbone={config.net.backbone}: "
            f"give one that fits, or another file"
        )
    return packaged.load(name), (
        f"initial weights: {name}, {Path(source.file).name} of {source.distribution}, "
        f"sha256 {source.sha256}, licence {source.licence}"
    )


def _check_size(config, loaded):
    """Says which transformer a file holds, where it is another one than the config's."""
    from jaxseg.storage.weights import transformers

    try:
        found, wanted = transformers.recognise(loaded), config.net.backbone
    except UserError:  # an encoder under a head that is not known, which is not needed here
        return
    if isinstance(wanted, str) and found.net["backbone"] != wanted:
        raise UserError(
            f"config.init.backbone={config.init.backbone} holds a {found.origin}, not "
            f"config.net.backbone={wanted}: give --config.net.backbone={found.net['backbone']}, or "
            "another file"
        )


def _warn_of(config, made_for, whose, announce):
    if any((config.net[key] or value) != value for key, value in made_for.items()):
        settings = " ".join(f"--config.net.{key}={value}" for key, value in made_for.items())
        announce(f"warning: {config.init.backbone} looks like {whose}, made for {settings}")


def example(config: ConfigDict, method: Method) -> dict[str, jax.Array]:
    """A training batch of one source and one target image, all zeros, with what else is read; of
    the size of the crops where there are crops.
    """
    source, target = (
        size_of(f"augment.{side}.crop", config.augment[side].crop)
        if config.augment[side].crop
        else size_of(f"data.{side}.size", config.data[side].size)
        for side in ("source", "target")
    )
    batch = {
        "source_image": jnp.zeros((1, *source, 3), jnp.uint8),
        "source_label": jnp.zeros((1, *source), jnp.uint8),
        "target_image": jnp.zeros((1, *target, 3), jnp.uint8),
    }
    if "source_depth" in method.reads:
        batch["source_depth"] = jnp.zeros((1, *source), jnp.float32)
    if "target_valid" in method.reads:
        batch["target_valid"] = jnp.zeros((1, *target), jnp.uint8)
    return batch
