"""Loads the trained networks that the command line names: a run, weights or an ensemble."""

import os
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from jaxseg.errors import UserError
from jaxseg.experiment import check, ensembles, restore, run_classes, settings
from jaxseg.experiment.optimisers import make_optimisers
from jaxseg.experiment.restore import Loaded
from jaxseg.experiment.state import first_state
from jaxseg.storage import run_folder
from jaxseg.storage.checkpoints import checkpoint


class Wanted(NamedTuple):
    """Which trained networks to load: of a run, a weights file or an ensemble.

    Attributes:
      step: of the run in the work folder: one of `restore.CHOICES`, a number, or 'all'.
      weights: instead of the run, a weights file or a folder of them.
      ensemble: instead of the run, several networks; see `ensembles.load`.
      ensemble_weights: weights of the ensemble's members, as 'a,b,...'.
      ensemble_of: what of them is averaged, one of `protocol.AVERAGES`.
      save: a new run folder, in which the network of `weights` becomes the checkpoint of step 0.
      given: names of settings given on the command line, such as 'net.summed'; see
        `restore.from_workdir`.
    """

    step: str = "best"
    weights: str = ""
    ensemble: str = ""
    ensemble_weights: str = ""
    ensemble_of: str = "logits"
    save: str = ""
    given: Collection[str] = ()

    @property
    def several(self) -> bool:
        """Whether several networks are to be loaded one after the other."""
        return self.step == "all" or bool(self.weights and os.path.isdir(self.weights))


def write_checkpoint(
    loaded: Loaded, folder: str, config: ConfigDict, announce: Callable[[str], None] = print
) -> None:
    """Writes a network as the checkpoint of step 0 of a run, with its config.json.

    Everything else in the checkpoint (discriminators, optimisers) has its initial values.

    Args:
      loaded: from a weights file.
      folder: of the new run; it must not hold checkpoints.
      config: as given, to report which settings the network changed.

    Raises:
      UserError: `folder` holds checkpoints already.
    """
    saved = run_folder.checkpoints(folder)
    if run_folder.holds_steps(saved):
        raise UserError(f"--save={folder} holds checkpoints already: give a new folder")
    own, method = loaded.config, loaded.method
    state = first_state(own, method, make_optimisers(own))
    net, stats = (loaded.model[key] for key in ("params", "stats"))
    gen = {**state.params["gen"], **jax.tree.map(jnp.asarray, net["gen"])}
    state = state._replace(
        params={**state.params, "gen": gen},
        stats={**state.stats, **jax.tree.map(jnp.asarray, stats)},
    )
    with checkpoint.open_manager(saved, keep=own.train.keep) as manager:
        checkpoint.save(manager, jax.device_get(state), own.to_dict())
    run_folder.write_config(own, folder)
    run_classes.write(own, folder)
    flags = [
        f"--config.net.{key}={value}".replace(" ", "")
        for key, value in own.net.items()
        if value is not None and value != config.net[key]
    ]
    announce(
        f"saved as step 0 of {folder}; --workdir={folder} evaluates it, and trains on from it"
        + (f" with {' '.join(flags)}" if flags else "")
    )


def prepare(config: ConfigDict) -> None:
    """Raises UserError for invalid settings; turns on the compilation cache."""
    check.check(config)
    settings.use_compile_cache(config)


def load(
    config: ConfigDict,
    workdir: str | Path,
    wanted: Wanted,
    *,
    announce: Callable[[str], None] = print,
) -> Loaded:
    """Loads one network: an ensemble, a weights file, or otherwise a run's checkpoint.

    Args:
      config: of the experiment.
      workdir: of the run, if its checkpoint is to be loaded.
      wanted: a single network: `step` is not 'all', `weights` not a folder.
      announce: called with each message, one line of text.

    Raises:
      UserError: see `ensembles.load`, `restore.from_weights` and `restore.from_workdir`.
    """
    told = dict(given=wanted.given, announce=announce)
    if wanted.ensemble:
        own = (wanted.ensemble, wanted.ensemble_weights)
        return ensembles.load(config, *own, of=wanted.ensemble_of, **told)
    if wanted.weights:
        return restore.from_weights(config, wanted.weights, **told)
    return restore.first(restore.from_workdir(config, workdir, wanted.step, **told))


def load_several(config: ConfigDict, workdir: str | Path, wanted: Wanted) -> Iterator[Loaded]:
    """Yields the networks of all weight files in a folder, or otherwise of all checkpoints."""
    if not wanted.weights:
        yield from restore.from_workdir(config, workdir, "all", given=wanted.given)
        return
    loaded = None
    for path in restore.weight_files(wanted.weights):
        loaded = restore.from_weights(config, path, given=wanted.given, before=loaded)
        yield loaded
