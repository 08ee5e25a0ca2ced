"""Begins a training from a finished network: `config.init.weights`, `--init_from`.

The network takes the settings of the one it begins from, and its values. The classifiers' values go
from class to class by name, so that the new data may have other classes, in another order; classes
that the finished network does not know begin as in any other training.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict

from jaxseg.data import labels
from jaxseg.engine.method import Method, State
from jaxseg.errors import UserError
from jaxseg.experiment import networks, restore, settings
from jaxseg.experiment.state import FILE, example, with_initial_weights
from jaxseg.storage import logs, run_folder

# Settings that say how a network is trained, on which data and machine, and not what it is.
OF_TRAINING = ("statistics", "dtype", "remat")


def adopt(
    config: ConfigDict, given: Collection[str] = (), announce: Callable[[str], None] = print
) -> ConfigDict:
    """The config with the network's settings of what it begins from, but for `OF_TRAINING`.

    Args:
      config: of the new training; returned as it is without `init.weights`.
      given: names of settings given on the command line, such as 'net.dropout', which are kept.
      announce: called with each message, one line of text.

    Raises:
      UserError: no such run or file.
    """
    if not config.init.get("weights"):
        return config
    folder, _ = _place(config)
    if folder is None:
        return restore.with_recognised(config, config.init.weights, given, announce)
    own = run_folder.read_config(folder)
    net = {key: value for key, value in own.net.items() if key not in OF_TRAINING}
    return restore.adopted(config, {"net": net}, given, f"--init_from={folder}", announce)


def begin(config: ConfigDict, state: State, workdir: str, announce: Callable[[str], None]) -> State:
    """The state at step 0 with the values of a finished network, or else those of
    `config.init.backbone` (see `state.with_initial_weights`).

    What was taken is announced; initial_weights.txt lists every tensor.

    Raises:
      UserError: no such run or file, or a network that does not fit.
    """
    if not config.init.get("weights"):
        return with_initial_weights(config, state, workdir, announce)
    folder, step = _place(config)
    if folder is None:
        file = config.copy_and_resolve_references()
        with file.unlocked():
            file.init.backbone = config.init.weights
        return with_initial_weights(file, state, workdir, announce)
    from jaxseg.storage.weights import initial, merge  # only when there is something to read

    own = run_folder.read_config(folder)
    loaded = restore.first(restore.from_workdir(own, folder, step, announce=announce))
    tensors = {
        **_named("params", loaded.model["params"]["gen"]["segmenter"]),
        **_named("stats", loaded.model["stats"]["segmenter"]),
    }
    net, stats = jax.device_get((state.params["gen"]["segmenter"], state.stats["segmenter"]))
    first = {**_named("params", net), **_named("stats", stats)}
    theirs, ours = (settings.label_set(each).classes for each in (own, config))
    told = ""
    if theirs != ours:
        axes = class_axes(own, loaded.method)
        tensors = by_class(tensors, first, axes, theirs, ours)
        known = matches(theirs, ours)
        kept = [name for name in ours if name in known]
        new = [name for name in ours if name not in known]
        told = f"\nclasses of the same name: {', '.join(kept) or 'none'}" + (
            f"; new ones begin anew: {', '.join(new)}" if new else ""
        )
    excused = tuple(config.init.excused) or initial.excused(config.net.architecture)
    net, stats, report = merge.merge(net, stats, tensors, excused=excused)
    origin = f"initial weights: {loaded.name} of {folder}{_began(folder)}{told}"
    announce(f"{origin}\n{report}")
    Path(workdir, FILE).write_text(f"{origin}\n\n{report.text()}")
    return state._replace(
        params={
            **state.params,
            "gen": {**state.params["gen"], "segmenter": jax.tree.map(jnp.asarray, net)},
        },
        stats={**state.stats, "segmenter": jax.tree.map(jnp.asarray, stats)},
    )


def _began(folder: Path) -> str:
    """What a run itself began with: a file's checksum and licence hold for what comes of it."""
    try:
        first = (folder / FILE).read_text(encoding="utf-8").split("\n", 1)[0]
    except OSError:
        return ""
    return f", which began with {first.removeprefix('initial weights:').strip()}"


def _place(config: ConfigDict) -> tuple[Path | None, str]:
    """(folder of a run, step); (None, '') for a weights file."""
    named = str(config.init.weights)
    if Path(named).expanduser().is_file():
        return None, ""
    folder, at, step = named.rpartition("@")
    if not at or not (step in restore.CHOICES or step.isdigit()):
        folder, step = named, ""
    path = Path(folder).expanduser()
    if not run_folder.holds_steps(run_folder.checkpoints(path)):
        members = sorted(each.name for each in path.glob("member_*") if each.is_dir())
        if members:
            raise UserError(
                f"--init_from={named} is a sweep; give one of its members, {path / members[0]} to "
                f"{members[-1]}"
            )
        raise UserError(
            f"--init_from={named}: neither the folder of a finished run (DIR or DIR@STEP) nor a "
            "weights file"
        )
    return path, step or _default_step(path)


def _default_step(folder: Path) -> str:
    """The best snapshot by target labels; the last of a run without them."""
    _, last = logs.best_and_last(folder)
    return "best" if last and last["miou"] is not None else "last"


def class_axes(config: ConfigDict, method: Method) -> dict[str, int]:
    """The tensors of a segmenter whose shape depends on the number of classes: name -> that axis.

    Found by comparing the shapes of the network with those of one with a class more.
    """
    batch, classes = example(config, method), len(settings.label_set(config).classes)
    images = next(array for name, array in batch.items() if name.endswith("image"))
    key, shapes = jax.ShapeDtypeStruct((2,), jnp.uint32), []
    for count in (classes, classes + 1):
        net = networks.segmenter(config, axis_name=None, classes=count)
        params, stats = jax.eval_shape(net.init, key, images)
        named = {**_named("params", params), **_named("stats", stats)}
        shapes.append({name: leaf.shape for name, leaf in named.items()})
    return {
        name: next(i for i, (a, b) in enumerate(zip(shape, shapes[1][name], strict=True)) if a != b)
        for name, shape in shapes[0].items()
        if shape != shapes[1][name]
    }


def matches(theirs: Sequence[str], ours: Sequence[str]) -> dict[str, int]:
    """Our class -> the place of theirs that has its name, whatever the case, blanks and dashes."""
    places = {labels.plain(name): i for i, name in reversed(list(enumerate(theirs)))}
    return {name: places[labels.plain(name)] for name in ours if labels.plain(name) in places}


def by_class(
    tensors: Mapping[str, np.ndarray],
    first: Mapping[str, np.ndarray],
    axes: Mapping[str, int],
    theirs: Sequence[str],
    ours: Sequence[str],
) -> dict[str, np.ndarray]:
    """The tensors with the classes of a new network, taken over by name.

    Args:
      tensors: of the finished network.
      first: values of the new network; classes that `theirs` lacks keep them.
      axes: from `class_axes`.
      theirs, ours: the names of the classes in their order.
    """
    taken, known = dict(tensors), matches(theirs, ours)
    for name, axis in axes.items():
        if name not in tensors or name not in first:
            continue
        old, new = np.moveaxis(tensors[name], axis, 0), np.array(np.moveaxis(first[name], axis, 0))
        if old.shape[1:] != new.shape[1:] or len(old) != len(theirs) or len(new) != len(ours):
            continue  # another network: merging tells
        for each, place in known.items():
            new[ours.index(each)] = old[place]
        taken[name] = np.moveaxis(new, 0, axis)
    return taken


def _named(group: str, tree: Any) -> dict[str, Any]:
    return {f"{group}/{name}": leaf for name, leaf in flatten_dict(tree, sep="/").items()}
