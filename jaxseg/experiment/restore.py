"""Loads networks that are ready to predict, from a run's checkpoints or published weights.

A network's settings (`config.net`) are those it was trained with: they are read from the run's
config.json or recognised from the weights. They replace those of the given config, and a message
lists the differences. Only settings given on the command line are kept.
"""

import contextlib
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from jaxseg.data import labels
from jaxseg.engine.method import Method
from jaxseg.errors import UserError
from jaxseg.evaluation import selection
from jaxseg.experiment import networks, run_classes, sizes
from jaxseg.experiment import settings as experiment_settings
from jaxseg.experiment.method import make_method
from jaxseg.experiment.optimisers import make_optimisers
from jaxseg.experiment.state import abstract_state
from jaxseg.storage import logs, run_folder
from jaxseg.storage.checkpoints import checkpoint
from jaxseg.storage.weights import files

CHOICES = ("best", "last", *(c.key for c in selection.CRITERIA))  # values of --step
_NETWORKS = [ending for ending in files.ENDINGS if ending != ".caffemodel"]  # of whole networks
# AdaptSegNet and ADVENT save discriminators beside the networks: GTA5_5000_D1.pth,
# model_2000_D_main.pth.
_DISCRIMINATOR = re.compile(r"_D(\d*|_main|_aux)$")


class Loaded(NamedTuple):
    """A trained network, or an ensemble as one network.

    Attributes:
      name: its name in tables and messages.
      facts: its origin in results.json: {'step'}, {'weights'} or {'ensemble', 'ensemble_weights',
        'ensemble_of'}.
      config: the given config with the network's own settings.
      method: its `predict` is that of the network (or ensemble).
      model: {'params', 'stats', 'memory'}, the first arguments of `predict`.
    """

    name: str
    facts: dict[str, Any]
    config: ConfigDict
    method: Method
    model: dict[str, Any]


def from_workdir(
    config: ConfigDict,
    workdir: str | Path,
    step: str = "best",
    *,
    given: Collection[str] = (),
    announce: Callable[[str], None] = print,
) -> Iterator[Loaded]:
    """The networks of a run's checkpoints, one after the other.

    Args:
      config: of the experiment.
      workdir: of the run; its config.json, if it exists, sets method and network.
      step: 'best' (by mIoU on the target's validation split), 'last', the key of one of
        `selection.CRITERIA` (which need no target labels), a number, or 'all'. With 'all' damaged
        checkpoints are reported and skipped.
      given: names of settings given on the command line, such as 'net.summed', which are kept.
      announce: called with each message, one line of text.

    Raises:
      UserError: a run of another method, no checkpoint, none that fits the config, or none that has
        the criterion.
    """
    if step not in (*CHOICES, "all") and not step.isdigit():
        raise UserError(f"--step={step}: give {', '.join(CHOICES)}, all or a step number")
    own = config
    saved = Path(workdir, run_folder.CONFIG)
    if saved.is_file():
        own = run_folder.read_config(workdir)
        _check_method(config, own, workdir)
        run_classes.compare(config, own, workdir)
        config = adopted(config, own, given, str(saved), announce)
    method = make_method(config)
    trained = sizes.as_trained(config, own)
    template = abstract_state(trained, method, make_optimisers(trained))
    wanted = {name: getattr(template, name) for name in ("params", "stats", "memory")}
    folder = run_folder.checkpoints(workdir)
    options = dict(read_only=True, criteria=selection.CRITERIA)
    if method.warmup:
        options["since"] = own.train.warmup_steps
    with checkpoint.open_manager(folder, **options) as manager:
        steps = sorted(manager.all_steps()) if step == "all" else [step]
        sound = 0
        for each in steps:
            asked = each if each in CHOICES else int(each)
            try:
                used, model, _ = checkpoint.restore_model(manager, asked, wanted, announce)
            except UserError as error:
                if step != "all" or (each == steps[-1] and not sound):
                    raise
                announce(str(error))
                continue
            sound += 1
            _tell_if_lost(manager, workdir, asked, used, announce)
            yield Loaded(f"step {used}", {"step": used}, config, method, model)


def from_weights(
    config: ConfigDict,
    path: str | Path,
    *,
    given: Collection[str] = (),
    before: Loaded | None = None,
    announce: Callable[[str], None] = print,
) -> Loaded:
    """Loads a network from a weights file: AdaptSegNet's, ADVENT's, or with this project's names.

    Args:
      path: a file with one of `files.ENDINGS`.
      before: another network; its `method` is reused if the settings are the same, to avoid
        compiling again.
      config, given, announce: see `from_workdir`.

    Raises:
      UserError: no such file, an unknown network, or other classes than the config's.
    """
    from jaxseg.storage.weights import (
        initial,
        merge,
        recognise,
        transformers,  # only when there is a file to read
    )

    path = Path(path).expanduser()
    tensors = files.load(path)
    recognised = recognise.recognise(tensors, path)
    announce(f"{path}: {recognised.origin}")
    names = experiment_settings.label_set(config)
    theirs = recognised.num_classes
    if theirs != len(names.classes):
        raise UserError(
            f"{path} predicts {theirs} classes, but config.data.classes={names.name} "
            f"has {len(names.classes)}: give --config.data.classes=NAME of a set with "
            f"{theirs}{_sets_of(theirs)}"
        )
    net = _without_doubtful(config, recognised, given, path, announce)
    config = adopted(config, {"net": net}, given, "recognised in the file", announce)
    same = before is not None and before.config.to_dict() == config.to_dict()
    method = before.method if same else make_method(config)
    template = abstract_state(config, method, make_optimisers(config))
    net, stats, report = merge.merge(
        template.params["gen"]["segmenter"],
        template.stats["segmenter"],
        initial.to_ours(tensors, config.net.architecture),
        excused=transformers.UNREAD,
    )
    if not same or report.left_over:  # not repeated for every file of a folder
        announce(str(report))
    memory = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), template.memory)
    model = {
        "params": {"gen": {"segmenter": net}},
        "stats": {"segmenter": stats},
        "memory": memory,
    }
    return Loaded(path.name, {"weights": str(path)}, config, method, model)


def with_recognised(
    config: ConfigDict, path: str | Path, given: Collection[str], announce: Callable[[str], None]
) -> ConfigDict:
    """The config with the settings of the network that a weights file belongs to, where they can be
    recognised: the file may hold a backbone only, or any part of a network.
    """
    from jaxseg.storage.weights import files, recognise

    path = Path(path).expanduser()
    tensors = files.load(path)
    try:
        net = recognise.recognise(tensors, path).net
    except UserError:
        return config
    return adopted(config, {"net": net}, given, f"recognised in {path}", announce)


def _without_doubtful(config, recognised, given, path, announce) -> dict[str, Any]:
    """The recognised settings, without `summed` if the preset says otherwise.

    That all four branches of a head differ from their initial values says that all were trained
    only if they began as the references' do; a preset that names how many are summed knows better.
    """
    net, preset = dict(recognised.net), config.net.get("summed")
    if preset and "net.summed" not in given and net.get("summed") == 0:
        del net["summed"]
        announce(
            f"{path}: config.net.summed={preset} stays as the preset has it, although all branches "
            "seem to be trained; --config.net.summed=0 sums all"
        )
    return net


def weight_files(folder: str | Path, announce: Callable[[str], None] = print) -> list[Path]:
    """The weight files in a folder, by the numbers in their names, without discriminators."""
    paths = [p for p in Path(folder).expanduser().iterdir() if files.ending_of(p) in _NETWORKS]
    others = sorted(
        p.name for p in paths if _DISCRIMINATOR.search(p.name[: -len(files.ending_of(p))])
    )
    paths = [p for p in paths if p.name not in others and not p.name.startswith(".")]
    if not paths:
        raise UserError(f"--weights={folder}: no {', '.join(_NETWORKS)} file in it")
    if others:
        more = ", ..." if len(others) > 2 else ""
        announce(f"discriminators passed over: {', '.join(others[:2])}{more}")

    def natural(path: Path) -> list:
        return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path.name)]

    return sorted(paths, key=natural)


def first(loaded: Iterator[Loaded]) -> Loaded:
    """The first network of `from_workdir`; closes its checkpoint folder."""
    with contextlib.closing(loaded):
        return next(loaded)


def _check_method(config: ConfigDict, own: ConfigDict, folder: str | Path) -> None:
    here, there = config.method.name, own.get("method", {}).get("name", "")
    if there and there != here:
        raise UserError(
            f"{folder} holds a run of the method {there}, but config.method.name={here}: give the "
            f"config it was trained with ({own.get('name', '?')}), or another --workdir"
        )


def _tell_if_lost(manager, workdir, asked, used, announce) -> None:
    """Announces that the snapshot chosen by a criterion during the run was not kept."""
    if asked in CHOICES and asked in manager.rankings:
        criterion, since = manager.rankings[asked]
        chosen = selection.compare(logs.evaluations(workdir), since)["criteria"].get(criterion.key)
        if chosen and chosen["step"] not in manager.all_steps():
            announce(
                f"{asked} is step {chosen['step']} of this run, of which there is no checkpoint: "
                f"using step {used}, the choice among those kept"
            )


def _sets_of(count: int) -> str:
    sets = [s for s in vars(labels).values() if isinstance(s, labels.LabelSet)]
    names = [s.name for s in sets if len(s.classes) == count]
    return f" ({', '.join(names)})" if names else ""


def adopted(
    config: ConfigDict,
    own: Mapping[str, Any],
    given: Collection[str],
    origin: str,
    announce: Callable[[str], None],
) -> ConfigDict:
    """The config with the network's own settings, except for those given on the command line.

    Args:
      own: the known groups of settings among 'net', 'disc', 'translator' and 'method'.
    """
    changed = {
        (group, key): value
        for group in ("net", "disc", "translator")
        if group in config
        for key, value in own.get(group, {}).items()
        if key in config[group] and config[group][key] != value and f"{group}.{key}" not in given
    }
    before = config
    config = config.copy_and_resolve_references()
    with config.unlocked(), config.ignore_type():
        for (group, key), value in changed.items():
            config[group][key] = value
        if "method" in own:
            config.method = own["method"]
        networks.settle(config, given)
    if config.method.name != before.method.name:
        changed["method", "name"] = config.method.name
    if changed:
        told = (f"config.{g}.{k}={v} (was {before[g][k]})" for (g, k), v in changed.items())
        announce(f"{origin}: {', '.join(told)}")
    return config
